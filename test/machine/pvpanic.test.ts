import { describe, expect, it } from "vitest";
import type { Q35Board } from "../../src/machine/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { buildDsdt } from "../../src/machine/firmware/dsdt.js";
import { eventMessage } from "../../src/qmp/events.js";
import { build, type Built } from "./build.js";
import { refusalOf, words } from "./refused.js";

const HOST: Record<string, string> = { virt: "grace", q35: "desktop" };

/** A machine with a pvpanic that runs, what its monitors are told, and a write of the byte. */
function panicking(board: "virt" | "q35", device: string, more = ""): Built & { told: unknown[]; write: (value: number) => void; read: () => bigint } {
  const built = build(`-M ${board} -m 256M -nodefaults ${more} -device ${device}`, HOST[board]);
  const { machine } = built;
  machine.start();
  const told: unknown[] = [];
  machine.events.subscribe((event) => {
    const message = eventMessage(event, 0) as Record<string, unknown>;
    delete message.timestamp;
    told.push(message);
  });
  if (!device.startsWith("pvpanic-pci")) {
    const ports = machine.board.ports!;
    return { ...built, told, write: (value) => ports.write(0x505, 1, BigInt(value)), read: () => ports.read(0x505, 1) };
  }
  const fn = machine.board.functions.find((one) => one.fn.model === "pvpanic-pci")!.fn;
  const base = board === "virt" ? 0x1000_0000 : 0xe000_0000;
  fn.configWrite(0x10, 4, base);
  fn.configWrite(4, 2, 2);
  return { ...built, told, write: (value) => machine.board.memory.writeWord(base, 1, BigInt(value)), read: () => machine.board.memory.readWord(base, 1) };
}

const PANICKED = (action: string) => ({ event: "GUEST_PANICKED", data: { action } });
const ENDED = [PANICKED("poweroff"), { event: "STOP" }, { event: "SHUTDOWN", data: { guest: true, reason: "guest-panic" } }];
const STOPPED = [PANICKED("pause"), { event: "STOP" }];

/** What QEMU 11.1.2 tells of the same writes on `-device pvpanic`. */
const CASES: Array<[what: string, options: string, value: number, told: unknown[], status: string]> = [
  ["a panic ends the machine", "", 1, ENDED, "shutdown"],
  ["a panic stops it with -no-shutdown", "-no-shutdown", 1, STOPPED, "guest-panicked"],
  ["a panic stops it with -action panic=pause", "-action panic=pause", 1, STOPPED, "guest-panicked"],
  ["a panic is told and no more with -action panic=none", "-action panic=none", 1, [PANICKED("run")], "running"],
  ["a panic ends it with -action panic=exit-failure", "-action panic=exit-failure,shutdown=pause", 1, ENDED, "shutdown"],
  ["a crash kernel that follows is told", "", 2, [{ event: "GUEST_CRASHLOADED", data: { action: "run" } }], "running"],
  ["of two events the lower counts", "", 6, [{ event: "GUEST_CRASHLOADED", data: { action: "run" } }], "running"],
  ["a shutdown ends it", "", 4, [{ event: "GUEST_PVSHUTDOWN" }, { event: "SHUTDOWN", data: { guest: true, reason: "guest-shutdown" } }], "shutdown"],
  ["what it does not know is nothing", "", 8, [], "running"],
];

describe.each([["virt", "pvpanic-pci"], ["q35", "pvpanic-pci"], ["q35", "pvpanic"]] as const)("%s with %s", (board, device) => {
  it.each(CASES)("%s", (_, options, value, events, status) => {
    const { machine, told, write, read } = panicking(board, device, options);
    expect(read()).toBe(7n);
    write(value);
    expect(told).toEqual(events);
    expect(machine.runState.status).toBe(status);
    machine.shutdown();
  });
});

describe("pvpanic", () => {
  it("reads as the events that it offers, and tells of others", () => {
    const { machine, read, write, log } = panicking("q35", "pvpanic,events=3");
    expect(read()).toBe(3n);
    write(0x10);
    write(0x20);
    expect(log.lines.filter(({ text }) => text.includes("pvpanic")).map(({ level, text }) => [level, text])).toEqual([["guest-error", "pvpanic: unknown event 0x10"], ["guest-error", "pvpanic: unknown event 0x20"]]);
    machine.shutdown();
  });

  it("is QEMU's function: 1b36:0011, revision 1, class 0880, one BAR of memory", () => {
    const { machine } = build("-M q35 -nodefaults -device pvpanic-pci", "desktop");
    const { fn } = machine.board.functions[0];
    expect([0, 8, 0x2c, 0x34].map((at) => fn.configRead(at, 4).toString(16))).toEqual(["111b36", "8800001", "11001af4", "0"]);
    fn.configWrite(0x10, 4, 0xffff_ffff);
    expect(fn.configRead(0x10, 4)).toBe(0xffff_fff0);
    machine.shutdown();
  });

  it("goes on after a monitor's cont, and a reset leaves a stopped machine", () => {
    const { machine, write } = panicking("q35", "pvpanic", "-no-shutdown");
    write(1);
    machine.runState.resume();
    expect(machine.runState.status).toBe("running");
    write(1);
    machine.reset();
    expect(machine.runState.status).toBe("paused");
    machine.shutdown();
  });

  it("is told to firmware and in the DSDT, byte for byte as by QEMU 11.1", () => {
    const { machine } = build("-M q35 -nodefaults -device pvpanic,ioport=0x507", "desktop");
    const board = machine.board as Q35Board;
    expect(board.pvpanic!.port).toBe(0x507);
    machine.shutdown();
    const dsdt = buildDsdt({ bridges: [], ecam: null, serialPorts: [], pvpanic: 0x505 });
    expect(Buffer.from(dsdt).toString("hex")).toContain(
      "5b82430650455654085f4849440d51454d553030303100085f435253110d0a0a470105050505010179005b8050454f52010b0505015b810b50454f52015045505408085f5354410a0f140e5244505400705045505460a460140c57525054017068504550" + "54",
    );
  });

  it("refuses a second one, a port on virt, and actions that there are not", () => {
    expect(refusalOf(() => build("-M q35 -nodefaults -device pvpanic -device pvpanic", "desktop")).message).toContain("duplicate fw_cfg file name: etc/pvpanic-port");
    expect(() => build("-M virt -nodefaults -device pvpanic")).toThrow();
    expect(refusalOf(() => parseArguments(words("-M q35 -action foo=bar"))).message).toContain("Invalid parameter 'foo'");
    expect(refusalOf(() => parseArguments(words("-M q35 -action panic=bar"))).message).toContain("Parameter 'panic' does not accept value 'bar'");
    expect(parseArguments(words("-M q35 -action panic=none,reboot=shutdown,shutdown=pause,watchdog=pause")).control).toMatchObject({ onPanic: "none", noReboot: true, noShutdown: true });
  });
});
