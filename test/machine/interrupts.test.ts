import { describe, expect, it } from "vitest";
import { MsiAccount } from "../../src/machine/accounts.js";
import type { Q35Board, VirtBoard } from "../../src/machine/index.js";
import { Nvme } from "../../src/devices/index.js";
import { build } from "./build.js";

const DEVICE = { requesterId: 0x1234, pasid: -1, execute: false, privileged: false };
const word = (value: number): Uint8Array => Uint8Array.of(value & 0xff, (value >> 8) & 0xff, 0, 0);

describe("a GIC outside", () => {
  function taken(line: string) {
    const { machine } = build(line);
    machine.start();
    const board = machine.board as VirtBoard;
    const seen: unknown[] = [];
    board.interrupts.taker = { message: (message) => seen.push(message), line: (intid, high) => seen.push([intid, high]) };
    return { machine, board, seen };
  }

  it("takes messages to the ITS with the device's id, whatever the event id, and levels of lines", async () => {
    const { machine, board, seen } = taken("-M virt,gic-version=3 -nodefaults");
    board.memory.writeBytes(0x0809_0040, word(0x21), DEVICE);
    board.interrupts.message(7, 0x1_0000);
    board.pci.onInterruptLine(1, true);
    board.pci.onInterruptLine(1, true);
    board.pci.onInterruptLine(1, false);
    board.pci.onInterruptLine(1, false);
    board.interrupts.spi(106);
    expect(seen).toEqual([{ address: 0x0809_0040, data: 0x21, deviceId: 0x1234 }, { address: 0x0809_0040, data: 0x1_0000, deviceId: 7 }, [36, true], [36, false], [106, true], [106, false]]);
    expect(board.interrupts.messagesDelivered).toBe(2);
    // Nothing is kept for a guest that asks.
    expect(await machine.port().interrupts()).toEqual([]);
    machine.shutdown();
  });

  it("takes the GICv2m frame's messages as edges", () => {
    const { machine, board, seen } = taken("-M virt,gic-version=2 -nodefaults");
    board.memory.writeBytes(0x0802_0040, word(81), DEVICE);
    expect(seen).toEqual([[81, true], [81, false]]);
    machine.shutdown();
  });
});

describe("the IOAPIC", () => {
  const LEVEL = 0x8000;
  const MASKED = 0x1_0000;

  function ioapic() {
    const { machine } = build("-M q35 -nodefaults");
    machine.start();
    const board = machine.board as Q35Board;
    const write = (register: number, value: number): void => {
      board.memory.writeWord(0xfec0_0000, 4, BigInt(register));
      board.memory.writeWord(0xfec0_0010, 4, BigInt(value));
    };
    const read = (register: number): number => {
      board.memory.writeWord(0xfec0_0000, 4, BigInt(register));
      return Number(board.memory.readWord(0xfec0_0010, 4));
    };
    const setEntry = (pin: number, low: number, high = 0): void => {
      write(0x10 + 2 * pin + 1, high);
      write(0x10 + 2 * pin, low);
    };
    const vectors = (): number[] => board.interrupts.take().flatMap((one) => (one.kind === "vector" ? [one.vector] : []));
    return { machine, board, chip: board.ioapic, setEntry, entry: (pin: number) => read(0x10 + 2 * pin), vectors };
  }

  it("lets go of Remote IRR when an entry becomes edge-triggered, so that it sends again as a level-triggered one", () => {
    const { machine, chip, setEntry, entry, vectors } = ioapic();
    setEntry(20, LEVEL | 0x31);
    chip.setPin(20, 1);
    expect([vectors(), entry(20) & 0x4000]).toEqual([[0x31], 0x4000]);
    // Still in service: another write of the same entry sends nothing.
    setEntry(20, LEVEL | 0x31);
    expect([vectors(), entry(20) & 0x4000]).toEqual([[], 0x4000]);
    setEntry(20, MASKED | 0x31);
    expect(entry(20) & 0x4000).toBe(0);
    setEntry(20, LEVEL | 0x32);
    expect([vectors(), entry(20) & 0x4000]).toEqual([[0x32], 0x4000]);
    chip.end(0x31);
    expect(vectors()).toEqual([]);
    chip.end(0x32);
    expect(vectors()).toEqual([0x32]);
    machine.shutdown();
  });

  it("tells its entries to who keeps routes of them", () => {
    const { machine, chip, setEntry } = ioapic();
    const told: Array<number | null> = [];
    chip.onEntry = (pin) => told.push(pin);
    setEntry(4, 0x0825, 0x0300_0000);
    expect(told).toEqual([4, 4]);
    // Logical destination 3: bit 2 of the address; vector 0x25.
    expect(chip.entry(4)).toEqual({ masked: false, levelTriggered: false, vector: 0x25, message: { address: 0xfee0_3004, data: 0x25 } });
    setEntry(5, MASKED | LEVEL | 0x0430);
    expect(chip.entry(5)).toEqual({ masked: true, levelTriggered: true, vector: 0x30, message: { address: 0xfee0_0000, data: 0x8430 } });
    machine.reset();
    expect(told.at(-1)).toBeNull();
    expect(chip.entry(4).masked).toBe(true);
    machine.shutdown();
  });
});

describe("the account of message routes", () => {
  it("adds up what the routes of a vector delivered, and keeps functions without a name apart", () => {
    const account = new MsiAccount();
    const [one, other] = [new Nvme({ id: "" }), new Nvme({ id: "" })];
    const route = (fn: Nvme, delivered: number) => ({ fn, vector: 0, iova: 0x1000n, data: 1, doorbell: 0x0809_0040, direct: false, delivered });
    account.note(one, route(one, 3));
    account.note(one, route(one, 0));
    account.note(one, route(one, 2));
    account.note(other, route(other, 7));
    expect(account.list().map((entry) => [entry.function, entry.delivered])).toEqual([["nvme", 5], ["nvme", 7]]);
  });
});
