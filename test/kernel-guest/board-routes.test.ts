import { describe, expect, it } from "vitest";
import { arm64Interrupts } from "../../src/kernel-guest/arm64/platform.js";
import { BoardRoutes } from "../../src/kernel-guest/kernel-routes.js";
import { x86Interrupts } from "../../src/kernel-guest/x86/platform.js";
import { CAP, type GsiRoute, IrqRoutes } from "../../src/kvm/index.js";
import type { Q35Board, VirtBoard } from "../../src/machine/index.js";
import { build } from "../machine/build.js";

/** A kernel with its present table and the descriptors that are bound. */
function kernel() {
  const state = { table: new Map<number, GsiRoute>(), bound: new Map<number, number>(), tables: 0 };
  const vm = {
    extension: (capability: number) => (capability === CAP.IRQ_ROUTING ? 4096 : 0),
    setRoutes: (routes: ReadonlyMap<number, GsiRoute>) => {
      state.table = new Map(routes);
      state.tables++;
    },
    bindIrq: (fd: number, gsi: number) => void state.bound.set(fd, gsi),
    unbindIrq: (fd: number) => void state.bound.delete(fd),
  };
  return { state, vm, messageOf: (fd: number) => state.table.get(state.bound.get(fd) ?? -1) };
}

function event(fd: number) {
  const made = { fd, listener: null as (() => void) | null, onSignal: (listener: (() => void) | null) => void (made.listener = listener) };
  return made;
}

describe("messages of passed-through functions as routes of KVM", () => {
  it("virt: to the ITS with the requester id, whatever address the guest has mapped it at; nothing else is a route", () => {
    const { machine } = build("-M virt,accel=kvm -m 64 -nodefaults -kernel k -device pcie-root-port,id=rp -device edu,bus=rp,id=fn");
    const board = machine.board as VirtBoard;
    const { vm, messageOf, state } = kernel();
    board.router.connect(new BoardRoutes(new IrqRoutes(vm, 224), arm64Interrupts(board, true), board.log));
    const { fn } = board.find("fn")!;
    const its = event(70);
    board.router.update(fn, 0, 0x0809_0040n, 5, its);
    expect(messageOf(70)).toEqual({ address: 0x0809_0040n, data: 5, deviceId: fn.requesterId });
    expect([...state.table.keys()]).toEqual([224]);
    board.router.update(fn, 0, 0x0808_0040n, 5, its);
    expect([messageOf(70), its.listener === null]).toEqual([undefined, false]);
    const routes = new IrqRoutes(vm, 224);
    new BoardRoutes(routes, arm64Interrupts(board, true), board.log).bindLevel(71, 81, 2);
    expect(state.table.get(board.spiOfLine(2))).toEqual({ pin: board.spiOfLine(2) });
    expect(new BoardRoutes(routes, arm64Interrupts(board, false), board.log).bindLevel(72, 82, 2)).toBe(false);
    machine.shutdown();
  });

  it("virt without an ITS: messages are frames of this process, no routes", () => {
    const { machine } = build("-M virt,accel=kvm,msi=gicv2m -m 64 -nodefaults -kernel k");
    expect(arm64Interrupts(machine.board as VirtBoard, true).message({ address: machine.board.msiDoorbell!, data: 80, requesterId: 8 })).toBeNull();
    machine.shutdown();
  });

  it("q35: as the IOMMU remaps them now; an invalidated entry is a new route, a blocked one is this process's to report", () => {
    const { machine } = build("-M q35,accel=kvm,kernel-irqchip=split -m 64 -nodefaults -kernel k -device intel-iommu,intremap=on -device pcie-root-port,id=rp -device edu,bus=rp,id=fn");
    const board = machine.board as Q35Board;
    const { memory } = board;
    const { vm, messageOf, state } = kernel();
    const routes = new IrqRoutes(vm, 24);
    board.router.connect(new BoardRoutes(routes, x86Interrupts(board), board.log));
    const { fn } = board.find("fn")!;
    const raised = event(70);
    const [unit, table, queue] = [0xfed9_0000, 0x10_0000, 0x20_0000];
    const entry = (vector: number): void => memory.writeWord(table + 16 * 3, 8, (1n << 32n) * 0x0100n + BigInt(vector << 16) + (vector === 0 ? 0n : 1n));
    // The unit as a driver starts it (VT-d 6.5.2, 5.1): queue, table of 2^4 entries, remapping.
    memory.writeWord(unit + 0x90, 8, BigInt(queue));
    memory.writeWord(unit + 0x18, 4, 1n << 26n);
    memory.writeWord(unit + 0xb8, 8, BigInt(table) | 3n);
    memory.writeWord(unit + 0x18, 4, (1n << 26n) | (1n << 24n));
    entry(0x41);
    memory.writeWord(unit + 0x18, 4, (1n << 26n) | (1n << 25n));
    let tail = 0;
    const invalidate = (): void => {
      memory.writeWord(queue + tail, 8, 4n);
      memory.writeWord(queue + tail + 8, 8, 0n);
      tail += 16;
      memory.writeWord(unit + 0x88, 8, BigInt(tail));
    };
    // Remappable format, handle 3 (5.1.2.2).
    board.router.update(fn, 0, 0xfee0_0000n | (3n << 5n) | (1n << 4n), 0, raised);
    expect(messageOf(70)).toEqual({ address: 0xfee0_1000n, data: 0x4041 });
    entry(0x42);
    expect(messageOf(70), "cached, as the unit may").toMatchObject({ data: 0x4041 });
    invalidate();
    expect(messageOf(70)).toMatchObject({ data: 0x4042 });
    const { tables } = state;
    invalidate();
    expect(state.tables, "nothing has changed").toBe(tables);
    entry(0);
    invalidate();
    expect([messageOf(70), raised.listener === null]).toEqual([undefined, false]);
    // Present again, which no driver invalidates for: found by the next interrupt.
    entry(0x43);
    raised.listener!();
    expect(messageOf(70)).toMatchObject({ data: 0x4043 });
    // Pins of the IOAPIC keep their routes beside it.
    routes.setPins([null, null, { address: 0xfee0_0000n, data: 0x8050 }]);
    expect([...state.table.keys()].sort((a, b) => a - b)).toEqual([2, 24]);
    machine.shutdown();
  });

  it("q35: a message that no route can hold is none", () => {
    const target = (address: bigint) => x86Interrupts({ messageTarget: () => ({ address, data: 1 }) }).message({ address: 0xfee0_0000, data: 1, requesterId: 8 });
    expect([target(0xfee0_1000n), target(0x100_fee0_1000n), target(0x1_fee0_1000n), target(0xfed0_0000n)]).toEqual([
      { address: 0xfee0_1000n, data: 1 },
      { address: 0x100_fee0_1000n, data: 1 },
      null,
      null,
    ]);
  });
});
