import { describe, expect, it } from "vitest";
import { AcpiHardware, ResetPort } from "../../../src/machine/q35/acpi-hardware.js";
import { build } from "../build.js";
import type { Q35Board } from "../../../src/machine/index.js";

function make(): { hardware: AcpiHardware; levels: boolean[]; offs: number[]; clock: { now: bigint } } {
  const clock = { now: 0n };
  const levels: boolean[] = [];
  const offs: number[] = [];
  const hardware = new AcpiHardware({ setInterrupt: (level) => levels.push(level), powerOff: () => offs.push(1) }, () => clock.now);
  return { hardware, levels, offs, clock };
}

describe("the ACPI hardware of a q35", () => {
  it("counts 3.579545 MHz in 24 bits", () => {
    const { hardware, clock } = make();
    expect(hardware.read(8, 4)).toBe(0n);
    clock.now = 1_000_000_000n;
    expect(hardware.read(8, 4)).toBe(3_579_545n);
    clock.now = 10_000_000_000n;
    expect(hardware.read(8, 4)).toBe(35_795_450n % 2n ** 24n);
    expect(hardware.read(9, 1)).toBe((35_795_450n >> 8n) & 0xffn);
  });

  it("tells when the timer's highest bit has changed, until it is told that this was seen", () => {
    const { hardware, clock } = make();
    expect(hardware.read(0, 2)).toBe(0n);
    clock.now = 2_400_000_000n; // 2^23 ticks are 2.34 s
    expect(hardware.read(0, 2)).toBe(1n);
    hardware.write(0, 2, 1n);
    expect(hardware.read(0, 2)).toBe(0n);
  });

  it("interrupts at the power button while that is enabled, until the status is cleared", () => {
    const { hardware, levels } = make();
    hardware.pressPowerButton();
    expect(levels.at(-1)).toBe(false);
    hardware.write(2, 2, 0x0100n);
    expect(levels.at(-1)).toBe(true);
    expect(hardware.read(0, 4)).toBe(0x0100_0100n);
    hardware.write(0, 2, 0x0100n);
    expect(levels.at(-1)).toBe(false);
  });

  it("is in ACPI mode and switches off at SLP_EN with the type of S5 alone", () => {
    const { hardware, offs } = make();
    expect(hardware.read(4, 2)).toBe(1n);
    hardware.write(4, 2, 0x2401n);
    expect(offs).toEqual([]);
    hardware.write(4, 2, 0x1401n);
    expect(offs).toEqual([]);
    hardware.write(4, 2, 0x3401n);
    expect(offs).toEqual([1]);
    expect(hardware.read(4, 2)).toBe(0x1401n);
  });

  it("resets by the reset register's CPU bit", () => {
    let resets = 0;
    const port = new ResetPort(() => resets++);
    port.write(0, 1, 2n);
    expect([resets, port.read()]).toEqual([0, 2n]);
    port.write(0, 1, 6n);
    expect([resets, port.read()]).toEqual([1, 2n]);
  });
});

describe("a guest's own end of its q35", () => {
  const machineOf = (words: string): { machine: ReturnType<typeof build>["machine"]; board: Q35Board; events: unknown[] } => {
    const { machine } = build(words);
    machine.start();
    const events: unknown[] = [];
    machine.events.subscribe((event) => events.push(event));
    return { machine, board: machine.board as Q35Board, events };
  };

  it("power-off is told as the guest's, and the machine runs no more", () => {
    const { machine, board, events } = machineOf("-M q35 -nodefaults");
    board.accesses.writePort(0x604, 2, 0x3400);
    expect(events).toEqual([{ name: "SHUTDOWN", data: { guest: true, reason: "guest-shutdown" } }]);
    expect(machine.runState.status).toBe("shutdown");
    machine.shutdown();
  });

  it("reset holds the processors before and starts them after; with -no-reboot it is the end", () => {
    const { machine, board, events } = machineOf("-M q35 -nodefaults");
    const order: string[] = [];
    machine.processors = { hold: () => order.push("hold"), reset: () => order.push("reset") };
    machine.events.subscribe(({ name }) => order.push(name));
    board.accesses.writePort(0xcf9, 1, 6);
    expect(order).toEqual(["hold", "RESET", "reset"]);
    expect(events).toEqual([{ name: "RESET", data: { guest: true, reason: "guest-reset" } }]);
    machine.shutdown();
    const once = machineOf("-M q35 -nodefaults -no-reboot");
    once.board.accesses.writePort(0xcf9, 1, 6);
    expect(once.events).toEqual([{ name: "SHUTDOWN", data: { guest: true, reason: "guest-reset" } }]);
    once.machine.shutdown();
  });

  it("configuration addresses go on beside the reset register", () => {
    const { machine, board } = machineOf("-M q35 -nodefaults");
    board.accesses.writePort(0xcf8, 4, 0x8000_0000);
    expect(board.accesses.readPort(0xcfc, 4)).toBe(0x29c0_8086);
    machine.shutdown();
  });

  it("the power button is the operator's system_powerdown", () => {
    const { machine, board } = machineOf("-M q35 -nodefaults");
    machine.powerDown();
    expect(board.accesses.readPort(0x600, 2)).toBe(0x100);
    machine.shutdown();
  });

  it("messages of every delivery mode go to the processors that are there", () => {
    const { machine, board } = machineOf("-M q35 -nodefaults");
    const taken: unknown[] = [];
    board.interrupts.sink = (message) => taken.push(message);
    for (const mode of [0, 1, 2, 4, 5, 7]) {
      board.interrupts.message({ address: 0xfee0_1000, data: (mode << 8) | 0x31 });
    }
    expect(taken).toEqual([0, 1, 2, 4, 5, 7].map((mode) => ({ address: 0xfee0_1000, data: (mode << 8) | 0x31 })));
    expect(board.interrupts.take()).toEqual([]);
    machine.shutdown();
  });
});
