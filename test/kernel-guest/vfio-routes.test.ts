import { describe, expect, it } from "vitest";
import { ForwardingHost } from "../../src/host/instruments/index.js";
import { createSimulatedHost, describeHost, type SimulatedHost } from "../../src/host/simulated/index.js";
import type { HostEvent } from "../../src/iommufd/index.js";
import { arm64Interrupts } from "../../src/kernel-guest/arm64/platform.js";
import { BoardRoutes } from "../../src/kernel-guest/kernel-routes.js";
import { CAP, type GsiRoute, IrqRoutes } from "../../src/kvm/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine, type VirtBoard } from "../../src/machine/index.js";
import { CAP_EXPRESS, findCapability } from "../../src/pci/index.js";
import { Log } from "../../src/support/index.js";
import { hostInput } from "../machine/build.js";
import { words } from "../machine/refused.js";

const FUNCTION = "0009:02:00.0";
const OTHER = "0009:03:00.0";
const TRANSLATER = 0x0809_0040n;
/** Port, bus and BAR 0 of each. */
const PLACES = { nic0: { port: "rp", bus: 0x11, bar: 0x1000_0000 }, nvme0: { port: "rp2", bus: 0x12, bar: 0x2000_0000 } } as const;
type Name = keyof typeof PLACES;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A host whose events have descriptors, as Linux's eventfds: who reads them is known. */
class Descriptors extends ForwardingHost {
  readonly events = new Map<number, { count: number; watched: boolean }>();
  private next = 100;

  /** Those of messages: the first two of a function tell of its errors, and that it is wanted back. */
  vectors(): Array<{ count: number; watched: boolean }> {
    return [...this.events.values()].slice(2);
  }

  override makeEvent(): HostEvent {
    const fd = this.next++;
    const state = { count: 0, watched: false };
    let listener: (() => void) | null = null;
    this.events.set(fd, state);
    const drain = (): void => {
      if (listener !== null && state.count > 0) {
        state.count = 0;
        listener();
      }
    };
    return {
      fd,
      signal: () => {
        state.count++;
        drain();
      },
      onSignal: (next) => {
        listener = next;
        state.watched = next !== null;
        drain();
      },
      close: () => this.events.delete(fd),
    };
  }
}

class Kernel {
  table = new Map<number, GsiRoute>();
  tables = 0;
  readonly bound = new Map<number, number>();
  extension = (capability: number): number => (capability === CAP.IRQ_ROUTING ? 4096 : 0);
  setRoutes = (routes: ReadonlyMap<number, GsiRoute>): void => {
    this.table = new Map(routes);
    this.tables++;
  };
  bindIrq = (fd: number, gsi: number): void => void this.bound.set(fd, gsi);
  unbindIrq = (fd: number): void => void this.bound.delete(fd);
  /** What each bound descriptor raises, by data. */
  messages(): GsiRoute[] {
    return [...this.bound.values()].map((gsi) => this.table.get(gsi)!).sort((a, b) => ("data" in a && "data" in b ? a.data - b.data : 0));
  }
}

function machine(): { machine: Machine; board: VirtBoard; host: Descriptors; simulated: SimulatedHost; connect: () => Kernel; program: (iova: number, data: number, count?: number, name?: Name) => void; bdf: () => number; start: (name?: Name) => void } {
  const simulated = createSimulatedHost(describeHost(hostInput("grace")));
  const host = new Descriptors(simulated);
  const made = new Machine(
    parseArguments(words(`-M virt,accel=kvm -kernel k -m 256M -nodefaults -object iommufd,id=i -device pxb-pcie,id=p,bus_nr=16 -device arm-smmuv3,primary-bus=p,accel=on,id=s -device pcie-root-port,id=rp,bus=p,chassis=1 -device pcie-root-port,id=rp2,bus=p,chassis=2 -device vfio-pci,host=${FUNCTION},bus=rp,id=nic0,iommufd=i`)),
    host,
    new Log(),
  );
  made.start();
  const board = made.board as VirtBoard;
  const bdf = (): number => board.find("nic0")!.fn.bdf;
  const { pci, memory } = board;
  return {
    machine: made,
    board,
    host,
    simulated,
    connect: () => {
      const kernel = new Kernel();
      board.router.connect(new BoardRoutes(new IrqRoutes(kernel, 224), arm64Interrupts(board, true), made.log));
      return kernel;
    },
    bdf,
    start: (name = "nic0") => {
      const { port, bus, bar } = PLACES[name];
      const { bdf: at } = board.find(port)!.fn;
      const own = bus << 8;
      pci.configWrite(at, 0x18, 4, 0x10 | (bus << 8) | (bus << 16));
      pci.configWrite(at, 0x20, 4, ((bar + 0xff0_0000) & 0xfff0_0000) | (bar >>> 16));
      pci.configWrite(at, 4, 2, 6);
      // Slot Control: power for what has been plugged while the machine runs (PCIe 7.5.3.10).
      pci.configWrite(at, findCapability(board.find(port)!.fn.config, CAP_EXPRESS) + 0x18, 2, 0);
      pci.configWrite(own, 0x10, 4, bar);
      pci.configWrite(own, 0x14, 4, 0);
      pci.configWrite(own, 4, 2, 6);
    },
    program: (iova, data, count = 1, name = "nic0") => {
      const { bus, bar } = PLACES[name];
      pci.configWrite(bus << 8, 0xa2, 2, 0xc000);
      for (let n = 0; n < count; n++) {
        [iova, 0, data + n, 0].forEach((word, i) => memory.writeWord(bar + 0x4000 + 16 * n + 4 * i, 4, BigInt(word)));
      }
      pci.configWrite(bus << 8, 0xa2, 2, 0x8000);
    },
  };
}

describe("vectors of a function behind an accelerated SMMU", () => {
  it("are routes to the doorbell that the SMMU tells: cold, after a function level reset, after the guest has moved its mapping, hot", async () => {
    const { machine: made, board, host, simulated, connect, program, start, bdf } = machine();
    start();
    program(0xffff_f040, 8);
    const kernel = connect();
    const route = (data: number): GsiRoute => ({ address: TRANSLATER, data, deviceId: 0x1100 });
    expect(kernel.messages()).toEqual([route(8)]);
    expect(host.vectors().filter(({ watched }) => watched), "no event is this process's to read").toEqual([]);
    simulated.hardware.functions.get(FUNCTION)!.raise(0);
    await turn();
    expect([host.vectors().map(({ count }) => count), board.interrupts.messagesDelivered]).toEqual([[1], 0]);
    // FLR by Device Control; a driver programs its table anew.
    board.pci.configWrite(bdf(), 0xa2, 2, 0);
    board.pci.configWrite(bdf(), 0x68, 2, 0x8000);
    expect(kernel.messages()).toEqual([]);
    program(0xffff_f040, 9);
    expect(kernel.messages()).toEqual([route(9)]);
    // Another IOVA: the guest's tables are not looked at.
    program(0x1234_5040, 10);
    expect(kernel.messages()).toEqual([route(10)]);
    // Hot: another function, while processors run.
    made.hotplug.plug(`vfio-pci,host=${OTHER},bus=rp2,id=nvme0,iommufd=i`);
    start("nvme0");
    program(0xffff_f040, 11, 1, "nvme0");
    expect(kernel.messages()).toEqual([route(10), { address: TRANSLATER, data: 11, deviceId: 0x1200 }]);
    made.shutdown();
    expect([kernel.bound.size, host.events.size, simulated.liveObjects()]).toEqual([0, 0, []]);
  });

  it("come by one change of the table when the guest opens the function's mask, and go likewise", () => {
    const { machine: made, host, board, bdf, connect, program, start } = machine();
    start();
    const kernel = connect();
    const before = kernel.tables;
    program(0xffff_f040, 20, 4);
    expect([kernel.messages().map((one) => "data" in one && one.data), kernel.tables - before]).toEqual([[20, 21, 22, 23], 1]);
    board.pci.configWrite(bdf(), 0xa2, 2, 0xc000);
    expect([kernel.bound.size, [...host.events.values()].every(({ watched }) => watched)], "masked: this side notes what comes").toEqual([0, true]);
    made.shutdown();
  });

  it("wait in their descriptors while a reset makes the machine of KVM anew", () => {
    const { machine: made, board, host, simulated, connect, program, start } = machine();
    start();
    connect();
    program(0xffff_f040, 8);
    board.router.disconnect();
    simulated.hardware.functions.get(FUNCTION)!.raise(0);
    expect(host.vectors()).toEqual([{ count: 1, watched: false }]);
    const next = connect();
    expect(next.messages()).toEqual([{ address: TRANSLATER, data: 8, deviceId: 0x1100 }]);
    made.shutdown();
  });
});
