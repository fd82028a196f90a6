import { describe, expect, it } from "vitest";
import { E1000e, Edu, Nvme } from "../../src/devices/index.js";
import {
  type IommuOps,
  type PciBus,
  PcieRootPort,
  PciePciBridge,
  PciFunction,
  plugFunction,
  PxbPcie,
  setupIommu,
  unplugFunction,
  X3130Upstream,
  Xio3130Downstream,
} from "../../src/pci/index.js";
import { Refusal } from "../../src/support/index.js";
import { makeMachine } from "./machine.js";

function words(action: () => void): string {
  try {
    action();
  } catch (error) {
    if (error instanceof Refusal) {
      return error.words;
    }
    throw error;
  }
  return "accepted";
}

class Probe extends PciFunction {
  readonly log: string[];
  constructor(log: string[], private readonly fails = false) {
    super("probe", "p", "endpoint", { vendorId: 1, deviceId: 2, classCode: 0 }, 4096);
    this.log = log;
  }
  override realize(): void {
    this.log.push(`realize in ${this.dma?.name}`);
    if (this.fails) {
      throw new Refusal("no");
    }
  }
  override unrealize(): void {
    this.log.push(`unrealize at ${this.bdfText}`);
  }
}

describe("what may sit where", () => {
  it("refuses in QEMU's words", () => {
    const { root } = makeMachine();
    const pxb = new PxbPcie({ id: "pxb", busNr: 0x10 });
    plugFunction(pxb, root.bus, null);
    const port = new PcieRootPort({ id: "r1", chassis: 1 });
    plugFunction(port, root.bus, null);
    const pci = new PciePciBridge({ id: "pb" });
    plugFunction(pci, root.bus, null);
    const put = (fn: PciFunction, bus: PciBus, devfn: number | null = null) => words(() => plugFunction(fn, bus, devfn));

    expect(put(new Edu(), pxb.expanderBus)).toBe("PCI: Only PCI/PCIe bridges can be plugged into pxb-pcie");
    expect(put(new PxbPcie({ busNr: 9 }), pxb.expanderBus)).toBe("PCI: Only PCI/PCIe bridges can be plugged into pxb-pcie");
    expect(put(new PxbPcie({ busNr: 9 }), port.secondary)).toBe("PXB devices can be attached only to root bus");
    expect(put(new PxbPcie({ busNr: 9 }), pci.secondary)).toBe("pxb-pcie devices cannot reside on a PCI bus");
    expect(put(new PxbPcie({ busNr: 0x10 }), root.bus)).toBe("Bus 16 is already in use");
    expect(put(new PxbPcie({ busNr: 0 }), root.bus)).toBe("Bus 0 is already in use");
    expect(put(new PxbPcie({ busNr: 9, numaNode: 3, numaNodes: 2 }), root.bus)).toBe("Illegal numa node 3");
    expect(put(new PcieRootPort({ id: "r2", chassis: 1 }), root.bus)).toBe("Can't add chassis slot, error -16");
    expect(put(new Edu(), pci.secondary, 0)).toBe("Unsupported PCI slot 0 for standard hotplug controller. Valid slots are between 1 and 31.");
    expect(put(new Edu(), root.bus, 0)).toBe("PCI: slot 0 function 0 not available for edu, in use by gpex-root,id=(null)");
    expect(put(new E1000e(), port.secondary, 8)).toBe("PCI: slot 1 is not valid for e1000e, parent device only allows plugging into slot 0.");
    plugFunction(new Edu({ id: "x" }), root.bus, 0x18 + 0x48);
    expect(put(new Nvme(), root.bus, 0x60)).toBe("PCI: slot 12 function 0 not available for nvme, in use by edu,id=x");
    expect(put(new Edu(), root.bus, 0x61)).toBe("PCI: single function device can't be populated in function c.1");
    plugFunction(new Edu(), root.bus, 0x79);
    expect(put(new Edu(), root.bus, 0x78)).toBe("PCI: f.0 indicates single function, but f.1 is already populated.");
    expect(words(() => plugFunction(new Edu(), root.bus, null, { hotplugged: true }))).toBe("Bus 'pcie.0' does not support hotplugging");
    expect(put(new Nvme(), port.secondary)).toBe("accepted");
    expect(put(new Nvme(), port.secondary)).toBe("PCI: no slot/function available for the device, all in use or reserved");
  });

  it("keeps the parts of a switch together", () => {
    const { root } = makeMachine();
    const port = new PcieRootPort({ id: "r1" });
    plugFunction(port, root.bus, null);
    const upstream = new X3130Upstream({ id: "up" });
    expect(words(() => plugFunction(new X3130Upstream(), root.bus, null))).toMatch(/upstream port .* below a root port/);
    expect(words(() => plugFunction(new Xio3130Downstream({ chassis: 7 }), root.bus, null))).toMatch(/downstream port .* upstream port/);
    expect(words(() => plugFunction(new PcieRootPort({ chassis: 7 }), port.secondary, null))).toMatch(/root port belongs to a root complex/);
    plugFunction(upstream, port.secondary, null);
    expect(words(() => plugFunction(new Edu(), upstream.secondary, null))).toMatch(/switch's internal bus/);
    expect(words(() => plugFunction(new Xio3130Downstream({ chassis: 7 }), upstream.secondary, null))).toBe("accepted");
  });

  it("takes chassis slots and root bus numbers back when their owners go", () => {
    const { root } = makeMachine();
    const port = new PcieRootPort({ id: "r1", chassis: 1 });
    plugFunction(port, root.bus, null);
    unplugFunction(port);
    plugFunction(new PcieRootPort({ id: "r2", chassis: 1 }), root.bus, null);
    const pxb = new PxbPcie({ busNr: 5 });
    plugFunction(pxb, root.bus, null);
    expect(root.busByNumber(5)).toBe(pxb.expanderBus);
    unplugFunction(pxb);
    expect(root.busByNumber(5)).toBeNull();
    plugFunction(new PxbPcie({ busNr: 5 }), root.bus, null);
  });

  it("lets several functions share a slot, function 0 saying so", () => {
    const { root } = makeMachine();
    const first = new Edu({ id: "f0" });
    first.multifunction = true;
    plugFunction(first, root.bus, 0x18);
    plugFunction(new Edu({ id: "f1" }), root.bus, 0x19);
    expect(root.configRead(0x18, 0x0e, 1)).toBe(0x80);
    expect(root.configRead(0x19, 0x0e, 1)).toBe(0);
    // A function that brings its header from elsewhere says what the slot says.
    const copied = new Edu({ id: "host" });
    copied.realize = () => {
      copied.config.bytes[0x0e] = 0x80;
    };
    plugFunction(copied, root.bus, 0x20);
    expect(root.configRead(0x20, 0x0e, 1)).toBe(0);
    expect(root.bus.freeDevfn()).toBe(8);
  });
});

describe("the life of a function", () => {
  it("asks the IOMMU before anything is made, then takes its address space, then realizes", () => {
    const { root, memory } = makeMachine();
    const log: string[] = [];
    const ops: IommuOps = {
      supportsAddressSpace: (bus, devfn, candidate) => void log.push(`supports ${bus.id} ${devfn} ${candidate.model}`),
      getAddressSpace: () => {
        log.push("space");
        return memory;
      },
    };
    setupIommu(root.bus, ops);
    const probe = new Probe(log);
    plugFunction(probe, root.bus, 0x10);
    unplugFunction(probe);
    expect(log).toEqual(["supports pcie.0 16 probe", "space", "realize in memory", "unrealize at 00:02.0"]);
    expect(probe.bus).toBeNull();
    expect(probe.dma).toBeNull();
  });

  it("leaves nothing behind when the IOMMU or realize refuses", () => {
    const { root, memory } = makeMachine();
    const log: string[] = [];
    let refuse = true;
    setupIommu(root.bus, {
      supportsAddressSpace: () => {
        if (refuse) {
          throw new Refusal("not here");
        }
      },
      getAddressSpace: () => {
        log.push("space");
        return memory;
      },
    });
    const probe = new Probe(log);
    expect(words(() => plugFunction(probe, root.bus, 0x10))).toBe("not here");
    expect(log).toEqual([]);
    refuse = false;
    const failing = new Probe(log, true);
    expect(words(() => plugFunction(failing, root.bus, 0x10))).toBe("no");
    expect(log).toEqual(["space", "realize in memory"]);
    for (const fn of [probe, failing]) {
      expect(fn.bus).toBeNull();
      expect(fn.dma).toBeNull();
    }
    expect(root.bus.functions.has(0x10)).toBe(false);
    plugFunction(probe, root.bus, 0x10);
  });

  it("uses system memory where no IOMMU is, or where the root bus bypasses it", () => {
    const { root, memory } = makeMachine();
    const other = makeMachine().memory;
    const pxb = new PxbPcie({ id: "pxb", busNr: 0x10, bypassIommu: true });
    plugFunction(pxb, root.bus, null);
    setupIommu(pxb.expanderBus, { getAddressSpace: () => other });
    const port = new PcieRootPort({ id: "r" });
    plugFunction(port, pxb.expanderBus, null);
    expect(port.dma).toBe(memory);
    // The expander itself is on pcie.0.
    expect(pxb.dma).toBe(memory);
  });

  it("finds the IOMMU of the nearest root bus, not that of pcie.0", () => {
    const { root, memory } = makeMachine();
    const far = makeMachine().memory;
    const pxb = new PxbPcie({ id: "pxb", busNr: 0x10 });
    plugFunction(pxb, root.bus, null);
    setupIommu(root.bus, { getAddressSpace: () => memory });
    setupIommu(pxb.expanderBus, { getAddressSpace: () => far });
    const port = new PcieRootPort({ id: "r" });
    plugFunction(port, pxb.expanderBus, null);
    const nvme = new Nvme();
    plugFunction(nvme, port.secondary, null);
    expect(nvme.dma).toBe(far);
    expect(words(() => setupIommu(root.bus, { getAddressSpace: () => far }))).toBe("An iommu is already attached to this bus");
  });

  it("takes what is behind a bridge along when the bridge goes", () => {
    const { root } = makeMachine();
    const port = new PcieRootPort({ id: "r" });
    plugFunction(port, root.bus, null);
    const log: string[] = [];
    plugFunction(new Probe(log), port.secondary, null);
    unplugFunction(port);
    expect(log.at(-1)).toMatch(/^unrealize/);
    expect([...root.allFunctions()].map((fn) => fn.model)).toEqual(["gpex-root"]);
  });

  it("does no DMA and sends no message without bus mastering", () => {
    const { root, memory } = makeMachine();
    const nvme = new Nvme();
    plugFunction(nvme, root.bus, 8);
    const data = new Uint8Array([1, 2, 3, 4]);
    expect(nvme.dmaWrite(0x4000_0000n, data)).not.toBe(0);
    expect(nvme.sendMessage(0x4000_0000n, 0x11223344)).not.toBe(0);
    expect(memory.readWord(0x4000_0000, 4)).toBe(0n);
    root.configWrite(8, 4, 2, 4);
    expect(nvme.sendMessage(0x4000_0000n, 0x11223344)).toBe(0);
    expect(memory.readWord(0x4000_0000, 4)).toBe(0x11223344n);
    expect(nvme.dmaWrite(0x4000_0000n, data)).toBe(0);
    expect(nvme.counters).toEqual({ transactions: 2, bytes: 4, faults: 1 });
  });
});
