import { describe, expect, it } from "vitest";
import { Nvme } from "../../src/devices/index.js";
import { CAP_EXPRESS, findCapability, PcieRootPort, type PciFunction, plugFunction, removeCapability, type SlotPortOptions, unplugFunction, X3130Upstream, Xio3130Downstream } from "../../src/pci/index.js";
import { Refusal } from "../../src/support/index.js";
import { makeMachine, RAM_BASE } from "./machine.js";

/** Registers of the port's PCI Express capability at 0x54. */
const SLTCTL = 0x54 + 0x18;
const SLTSTA = 0x54 + 0x1a;
const LNKSTA = 0x54 + 0x12;

const POWER_OFF = 0x0400;
const INDICATOR_ON = 0x0100;
const INDICATOR_BLINK = 0x0200;
const INDICATOR_OFF = 0x0300;
const ATTENTION_OFF = 0x00c0;
const INTERRUPTS = 0x0020 | 0x0010 | 0x0008 | 0x0001;

function machineWithPort(options: SlotPortOptions = {}) {
  const machine = makeMachine();
  const port = new PcieRootPort({ id: "r1", chassis: 1, ...options });
  plugFunction(port, machine.root.bus, 8);
  const { root, memory } = machine;
  const at = (offset: number): number => root.configRead(8, offset, 2);
  const put = (offset: number, value: number): void => root.configWrite(8, offset, 2, value);
  root.configWrite(8, 0x18, 4, 0x0001_0100);
  const gone: PciFunction[] = [];
  port.onUnplugged = (fn) => gone.push(fn);
  /** The guest's handler: interrupts by MSI-X vector 0, all events on, slot powered. */
  const driverStarts = (): void => {
    root.configWrite(8, 0x10, 4, 0x1000_0000);
    root.configWrite(8, 4, 2, 6);
    memory.writeWord(0x1000_0000, 4, BigInt(RAM_BASE + 0x100));
    memory.writeWord(0x1000_0008, 4, 0x77n);
    memory.writeWord(0x1000_000c, 4, 0n);
    put(0x4a, 0x8000);
    put(SLTSTA, 0x011f);
    put(SLTCTL, at(SLTCTL) | INTERRUPTS);
    put(SLTSTA, 0x011f);
    takeInterrupt();
  };
  const takeInterrupt = (): boolean => {
    const seen = memory.readWord(RAM_BASE + 0x100, 4) === 0x77n;
    memory.writeWord(RAM_BASE + 0x100, 4, 0n);
    return seen;
  };
  return { ...machine, port, at, put, gone, driverStarts, takeInterrupt };
}

function words(action: () => unknown): string {
  try {
    return String(action());
  } catch (error) {
    if (error instanceof Refusal) {
      return error.words;
    }
    throw error;
  }
}

describe("a root port with power management", () => {
  const PM = 0xb0;
  const ROOT_CONTROL = 0x54 + 0x1c;
  const ROOT_STATUS = 0x54 + 0x20;

  /** As Linux lets a port sleep: no hotplug interrupts, PME on, D3hot (pciehp_runtime_suspend, pci_finish_runtime_suspend). */
  function asleep() {
    const machine = machineWithPort({ powerManagement: true });
    machine.driverStarts();
    machine.put(ROOT_CONTROL, 0x8);
    machine.put(SLTCTL, machine.at(SLTCTL) & ~0x30);
    machine.put(PM + 4, 0x0103);
    machine.takeInterrupt();
    const card = new Nvme({ id: "n1" });
    return { ...machine, card };
  }

  it("has what PCI PM 1.2 asks for, and is as QEMU's without", () => {
    const { root } = machineWithPort({ powerManagement: true });
    const at = findCapability(machineWithPort({ powerManagement: true }).port.config, 1);
    expect(at).toBe(PM);
    expect(root.configRead(8, PM + 2, 2)).toBe(0x4803);
    expect(findCapability(machineWithPort().port.config, 1)).toBe(0);
  });

  it("wakes by a PME when its slot is filled, and tells which function did", () => {
    const { port, at, put, takeInterrupt, root, card } = asleep();
    plugFunction(card, port.secondary, 0, { hotplugged: true });
    expect(takeInterrupt()).toBe(true);
    expect(at(PM + 4)).toBe(0x8000 | 0x0100 | 0x8 | 3);
    expect(root.configRead(8, ROOT_STATUS, 4)).toBe(0x1_0000 | port.bdf);
    // As pcie_pme_handle_request and pci_check_pme_status: the root's status first, then the function's, with its enable.
    root.configWrite(8, ROOT_STATUS, 4, 0x1_0000);
    put(PM + 4, 0x8003);
    put(PM + 4, 0x0000);
    expect([at(PM + 4), root.configRead(8, ROOT_STATUS, 4) & 0x1_0000]).toEqual([0x8, 0]);
    expect(takeInterrupt()).toBe(false);
    // Awake, it hears the event that is still there.
    put(SLTCTL, at(SLTCTL) | 0x30);
    expect(takeInterrupt()).toBe(true);
    expect(at(SLTSTA) & 0x48).toBe(0x48);
  });

  it("sends none while it is awake, nor without its enables, and one for what came before it slept", () => {
    const { port, at, put, takeInterrupt, card } = asleep();
    put(PM + 4, 0x0100);
    plugFunction(card, port.secondary, 0, { hotplugged: true });
    expect([takeInterrupt(), at(PM + 4) & 0x8000]).toEqual([false, 0]);
    put(PM + 4, 0x0003);
    expect([takeInterrupt(), at(PM + 4) & 0x8000]).toEqual([false, 0]);
    put(PM + 4, 0x0103);
    expect([takeInterrupt(), at(PM + 4) & 0x8000]).toEqual([true, 0x8000]);
    port.reset();
    expect([at(PM + 4), at(ROOT_CONTROL)]).toEqual([0x8, 0]);
  });
});

describe("a slot from start", () => {
  it("shows presence and power as the slot is filled, as QEMU does", () => {
    const empty = machineWithPort();
    expect([empty.at(SLTCTL), empty.at(SLTSTA), empty.at(LNKSTA)]).toEqual([0x07c0, 0x0000, 0x0204]);
    const without = machineWithPort({ powerController: false });
    expect(without.at(SLTCTL)).toBe(0x03c0);
    expect(without.root.configRead(8, 0x54 + 0x14, 4)).toBe(0x0002_0079);
    const cold = machineWithPort({ hotplug: false });
    expect(cold.root.configRead(8, 0x54 + 0x14, 4)).toBe(0x0002_001b);
    const filled = machineWithPort();
    plugFunction(new Nvme(), filled.port.secondary, 0);
    expect(filled.at(SLTSTA) & 0x40).toBe(0x40);
    expect(filled.at(SLTCTL)).toBe(0x03c0);
    filled.root.reset();
    expect([filled.at(SLTCTL), filled.at(SLTSTA), filled.at(LNKSTA)]).toEqual([0x03c0, 0x0040, 0x2011]);
  });
});

describe("hot plug", () => {
  it("tells the guest, which powers the slot on and finds the function", () => {
    const { root, port, at, put, driverStarts, takeInterrupt } = machineWithPort();
    driverStarts();
    plugFunction(new Nvme({ id: "n" }), port.secondary, 0, { hotplugged: true });
    expect(takeInterrupt()).toBe(true);
    // Presence, presence changed, attention button, link state changed.
    expect(at(SLTSTA)).toBe(0x0149);
    // Without power there is nothing to be seen in the slot.
    expect(root.configRead(0x100, 0, 4)).toBe(0xffff_ffff);
    put(SLTSTA, 0x0109);
    expect(at(SLTSTA)).toBe(0x0040);
    put(SLTCTL, INTERRUPTS | INDICATOR_BLINK | ATTENTION_OFF);
    expect(at(SLTSTA)).toBe(0x0050);
    expect(takeInterrupt()).toBe(true);
    expect(root.configRead(0x100, 0, 4)).toBe(0x0010_1b36);
  });

  it("tells when the last function, function 0, has come", () => {
    const { root, port, at, put, driverStarts, takeInterrupt } = machineWithPort();
    driverStarts();
    put(SLTCTL, INTERRUPTS | INDICATOR_ON | ATTENTION_OFF);
    put(SLTSTA, 0x011f);
    takeInterrupt();
    plugFunction(new Nvme({ id: "f1" }), port.secondary, 1, { hotplugged: true });
    expect(takeInterrupt()).toBe(false);
    expect(root.configRead(0x101, 0, 4)).toBe(0xffff_ffff);
    const first = new Nvme({ id: "f0" });
    first.multifunction = true;
    plugFunction(first, port.secondary, 0, { hotplugged: true });
    expect(takeInterrupt()).toBe(true);
    expect(at(SLTSTA) & 0x49).toBe(0x49);
    expect(root.configRead(0x101, 0, 4)).toBe(0x0010_1b36);
    expect(words(() => plugFunction(new Nvme({ id: "f2" }), port.secondary, 2, { hotplugged: true }))).toBe(
      "PCI: slot 0 function 0 already occupied by nvme, new func nvme cannot be exposed to guest.",
    );
    expect(words(() => plugFunction(new Nvme({ id: "f3" }), port.secondary, null, { hotplugged: true }))).toBe(
      "PCI: slot 0 function 0 already occupied by nvme, new func nvme cannot be exposed to guest.",
    );
  });

  it("is refused where the port or the bus does not do it", () => {
    const { port } = machineWithPort({ hotplug: false });
    expect(words(() => plugFunction(new Nvme(), port.secondary, 0, { hotplugged: true }))).toBe("Hot-plug failed: unsupported by the port device 'r1'");
    const nvme = new Nvme();
    plugFunction(nvme, port.secondary, 0);
    expect(words(() => port.requestUnplug(nvme))).toBe("Hot-unplug failed: unsupported by the port device 'r1'");
  });
});

describe("a slot's interrupt", () => {
  const BUTTON = 0x0001;
  const HOTPLUG = 0x0020;
  const LINK = 0x1000;

  it.each([
    ["link state and hotplug interrupts", LINK | HOTPLUG, true],
    ["hotplug interrupts alone", HOTPLUG, false],
    ["link state alone", LINK, false],
  ])("comes of a link that goes up and down with %s enabled", (_name, enabled, comes) => {
    const { port, put, at, takeInterrupt, driverStarts } = machineWithPort();
    driverStarts();
    put(SLTCTL, enabled | INDICATOR_ON | ATTENTION_OFF);
    put(SLTSTA, 0x011f);
    takeInterrupt();
    plugFunction(new Nvme({ id: "n" }), port.secondary, 0, { hotplugged: true });
    expect(at(SLTSTA) & 0x0100).toBe(0x0100);
    expect(takeInterrupt()).toBe(comes);
    put(SLTSTA, 0x011f);
    put(SLTCTL, enabled | INDICATOR_OFF | ATTENTION_OFF | POWER_OFF);
    expect(at(SLTSTA) & 0x0140).toBe(0x0100);
    expect(takeInterrupt()).toBe(comes);
  });

  it.each([["the button", BUTTON], ["hotplug interrupts", HOTPLUG]])("is one that a guest with %s alone does not take: it may be asked again", (_name, enabled) => {
    const { port, put } = machineWithPort();
    const nvme = new Nvme({ id: "n" });
    plugFunction(nvme, port.secondary, 0);
    put(SLTCTL, enabled | INDICATOR_ON | ATTENTION_OFF);
    expect([1, 2].map(() => port.requestUnplug(nvme))).toEqual(["asked", "asked"]);
    put(SLTCTL, BUTTON | HOTPLUG | INDICATOR_ON | ATTENTION_OFF);
    expect(words(() => port.requestUnplug(nvme))).toBe("Device n is already in the process of unplug");
  });
});

describe("Link Status", () => {
  const withLink = (status: number | null): Nvme => {
    const nvme = new Nvme({ id: "n" });
    const at = findCapability(nvme.config, CAP_EXPRESS);
    if (status === null) {
      removeCapability(nvme.config, CAP_EXPRESS);
    } else {
      nvme.config.set16(at + 0x12, status);
    }
    return nvme;
  };

  it.each([
    ["the partner's speed and width", 0x0104, 0x2104],
    ["no more than the partner has", 0x0011, 0x2011],
    ["the port's own without a partner of PCI Express", null, 0x2204],
  ])("tells %s", (_name, theirs, shown) => {
    for (const hotplugged of [false, true]) {
      const { root, port, at } = machineWithPort();
      expect(at(LNKSTA)).toBe(0x0204);
      const nvme = withLink(theirs);
      plugFunction(nvme, port.secondary, 0, { hotplugged });
      expect(at(LNKSTA)).toBe(shown);
      expect(root.configRead(8, LNKSTA - 2, 4) >>> 16).toBe(shown);
      expect(root.configRead(8, LNKSTA, 1)).toBe(shown & 0xff);
      root.reset();
      expect(at(LNKSTA)).toBe(shown);
      unplugFunction(nvme);
      root.reset();
      expect(at(LNKSTA)).toBe(0x0204);
    }
  });

  it("tells no more than the port has of a wider and faster partner", () => {
    const { port, at } = machineWithPort({ speed: 8, width: 8 });
    plugFunction(withLink(0x0104), port.secondary, 0);
    expect(at(LNKSTA)).toBe(0x2083);
  });

  it("follows a partner whose link is trained anew", () => {
    const { port, at } = machineWithPort();
    const nvme = withLink(0x0104);
    plugFunction(nvme, port.secondary, 0);
    nvme.config.set16(findCapability(nvme.config, CAP_EXPRESS) + 0x12, 0x0082);
    expect(at(LNKSTA)).toBe(0x2082);
  });
});

describe("what a root port reserves", () => {
  const GIB = 2n ** 30n;
  const none = { buses: null, io: null, memory: null, prefetch32: null, prefetch64: null };

  it("is told by QEMU's vendor capability, byte for byte", () => {
    const { root } = machineWithPort({ reserve: { buses: 3, io: 0n, memory: 8n << 20n, prefetch32: null, prefetch64: 64n << 20n } });
    expect(root.configRead(8, 0x34, 1)).toBe(0x90);
    // As QEMU 7.2 shows them for bus-reserve=3,io-reserve=0,mem-reserve=8M,pref64-reserve=64M.
    expect([0, 4, 8, 12, 16, 20, 24, 28].map((offset) => root.configRead(8, 0x90 + offset, 4))).toEqual([0x0120_5409, 3, 0, 0, 0x80_0000, 0xffff_ffff, 0x400_0000, 0]);
    root.configWrite(8, 0x1c, 2, 0xf0f0);
    root.configWrite(8, 4, 2, 7);
    expect([root.configRead(8, 0x1c, 2), root.configRead(8, 4, 2)]).toEqual([0x00f0, 6]);
    const { root: plain } = machineWithPort();
    expect(plain.configRead(8, 0x34, 1)).toBe(0x54);
    plain.configWrite(8, 4, 2, 7);
    expect(plain.configRead(8, 4, 2)).toBe(7);
  });

  it.each([
    [{ ...none, prefetch32: 1n, prefetch64: 1n }, "PCI resource reserve cap: PREF32 and PREF64 conflict"],
    [{ ...none, memory: 4n * GIB }, "PCI resource reserve cap: mem-reserve must be less than 4G"],
    [{ ...none, prefetch32: 4n * GIB }, "PCI resource reserve cap: pref32-reserve  must be less than 4G"],
  ])("has QEMU's bounds", (reserve, refusal) => {
    expect(words(() => new PcieRootPort({ reserve }))).toBe(refusal);
  });
});

describe("hot unplug", () => {
  it("waits for the guest to power the slot off", () => {
    const { root, port, at, put, gone, driverStarts, takeInterrupt } = machineWithPort();
    const nvme = new Nvme({ id: "n" });
    plugFunction(nvme, port.secondary, 0);
    driverStarts();
    put(SLTCTL, INTERRUPTS | INDICATOR_ON | ATTENTION_OFF);
    put(SLTSTA, 0x0010);
    takeInterrupt();

    expect(port.requestUnplug(nvme)).toBe("asked");
    expect(takeInterrupt()).toBe(true);
    expect(at(SLTSTA) & 1).toBe(1);
    expect(words(() => port.requestUnplug(nvme))).toBe("Device n is already in the process of unplug");
    put(SLTSTA, 0x0001);
    put(SLTCTL, INTERRUPTS | INDICATOR_BLINK | ATTENTION_OFF);
    expect(words(() => port.requestUnplug(nvme))).toBe("Hot-unplug failed: guest is busy (power indicator blinking)");
    // Power off alone, with the indicator still blinking, is not it yet; the function has lost its power.
    put(SLTCTL, INTERRUPTS | INDICATOR_BLINK | ATTENTION_OFF | POWER_OFF);
    expect(gone).toEqual([]);
    expect(root.configRead(0x100, 0, 4)).toBe(0xffff_ffff);
    put(SLTCTL, INTERRUPTS | INDICATOR_OFF | ATTENTION_OFF | POWER_OFF);
    expect(gone).toEqual([nvme]);
    expect(nvme.bus).toBeNull();
    // Not present; presence and link state have changed; command completed.
    expect(at(SLTSTA)).toBe(0x0118);
    expect(at(LNKSTA)).toBe(0x0204);
    // And again into the same slot.
    put(SLTSTA, 0x011f);
    plugFunction(new Nvme({ id: "n" }), port.secondary, 0, { hotplugged: true });
    expect(at(SLTSTA) & 0x49).toBe(0x49);
  });

  it("keeps the button pressed for a guest that listens later, and may be asked again", () => {
    const { port, at, put, gone, takeInterrupt, driverStarts } = machineWithPort();
    const nvme = new Nvme({ id: "n" });
    plugFunction(nvme, port.secondary, 0);
    expect(port.requestUnplug(nvme)).toBe("asked");
    expect(port.requestUnplug(nvme)).toBe("asked");
    expect(gone).toEqual([]);
    expect(at(SLTSTA) & 1).toBe(1);
    driverStarts();
    expect(port.requestUnplug(nvme)).toBe("asked");
    expect(takeInterrupt()).toBe(true);
    put(SLTCTL, INTERRUPTS | INDICATOR_OFF | ATTENTION_OFF | POWER_OFF);
    expect(gone).toEqual([nvme]);
  });

  it("is done at once where the slot is off", () => {
    const { port, at, gone } = machineWithPort();
    const nvme = new Nvme({ id: "n" });
    plugFunction(nvme, port.secondary, 0, { hotplugged: true });
    expect(port.requestUnplug(nvme)).toBe("removed");
    expect(gone).toEqual([nvme]);
    expect(at(SLTSTA) & 0x41).toBe(0);
  });

  it("is done at once for a function that the guest has not seen", () => {
    const { port, put, gone } = machineWithPort();
    put(SLTCTL, INDICATOR_ON | ATTENTION_OFF);
    const second = new Nvme({ id: "f1" });
    plugFunction(second, port.secondary, 1, { hotplugged: true });
    expect(port.requestUnplug(second)).toBe("removed");
    expect(gone).toEqual([second]);
  });

  it("does not take writes to a slot that is off already for a removal", () => {
    const { port, put, gone } = machineWithPort();
    plugFunction(new Nvme({ id: "n" }), port.secondary, 0, { hotplugged: true });
    put(SLTCTL, INTERRUPTS | INDICATOR_OFF | ATTENTION_OFF | POWER_OFF);
    expect(gone).toEqual([]);
  });

  it("is refused while the guest has engaged the interlock, which toggles and reads as zero", () => {
    const { port, at, put } = machineWithPort();
    const nvme = new Nvme({ id: "n" });
    plugFunction(nvme, port.secondary, 0);
    put(SLTCTL, at(SLTCTL) | 0x0800);
    expect(at(SLTCTL) & 0x0800).toBe(0);
    expect(at(SLTSTA) & 0x80).toBe(0x80);
    expect(words(() => port.requestUnplug(nvme))).toMatch(/^slot is electromechanically locked/);
    put(SLTCTL, at(SLTCTL) | 0x0800);
    expect(port.requestUnplug(nvme)).toBe("asked");
  });

  it("works at a switch's downstream port with its MSI", () => {
    const machine = makeMachine();
    const { root, memory } = machine;
    const rootPort = new PcieRootPort({ id: "r" });
    plugFunction(rootPort, root.bus, 8);
    const upstream = new X3130Upstream({ id: "u" });
    plugFunction(upstream, rootPort.secondary, 0);
    const down = new Xio3130Downstream({ id: "d", chassis: 2 });
    plugFunction(down, upstream.secondary, 0);
    root.configWrite(8, 0x18, 4, 0x0003_0100);
    root.configWrite(0x100, 0x18, 4, 0x0003_0201);
    root.configWrite(0x200, 0x18, 4, 0x0003_0302);
    root.configWrite(0x200, 4, 2, 4);
    root.configWrite(0x200, 0x74, 4, RAM_BASE + 0x200);
    root.configWrite(0x200, 0x7c, 2, 0x55);
    root.configWrite(0x200, 0x72, 2, 1);
    root.configWrite(0x200, 0x90 + 0x18, 2, 0x07f9 & ~POWER_OFF & ~0x10);
    plugFunction(new Nvme(), down.secondary, 0, { hotplugged: true });
    expect(memory.readWord(RAM_BASE + 0x200, 4)).toBe(0x55n);
  });

  it("interrupts by INTA while MSI-X is off, until the events are cleared", () => {
    const { root, port, put } = machineWithPort();
    const levels: boolean[] = [];
    root.onInterruptLine = (_line, level) => levels.push(level);
    put(SLTCTL, 0x0020 | 0x0008 | INDICATOR_ON | ATTENTION_OFF);
    plugFunction(new Nvme(), port.secondary, 0, { hotplugged: true });
    expect(levels).toEqual([true]);
    put(SLTSTA, 0x0008);
    expect(levels).toEqual([true, false]);
  });
});
