import { Refusal } from "../support/index.js";
import { PciBus } from "./bus.js";
import { PciFunction } from "./function.js";

/** numa_node's value for "none". */
export const NUMA_NODE_UNASSIGNED = 128;

export interface PxbPcieOptions {
  readonly id?: string;
  /** Number of its bus, 1 to 255. */
  readonly busNr?: number;
  readonly numaNode?: number;
  readonly bypassIommu?: boolean;
  /** NUMA nodes that the machine has. */
  readonly numaNodes?: number;
}

/** pxb-pcie: an expander bridge. It is an endpoint on pcie.0 and makes a root bus of its own with a fixed number. */
export class PxbPcie extends PciFunction {
  readonly expanderBus: PciBus;

  constructor(private readonly options: PxbPcieOptions = {}) {
    super("pxb-pcie", options.id ?? "", "expander", { vendorId: 0x1b36, deviceId: 0x000b, classCode: 0x060000, subsystemVendorId: 0x1af4, subsystemId: 0x1100 }, 256);
    // 66 MHz capable, fast back-to-back.
    this.config.set16(0x06, 0x00a0);
    const numaNode = options.numaNode ?? NUMA_NODE_UNASSIGNED;
    this.expanderBus = new PciBus(this.id, this, {
      isRoot: true,
      isExpress: true,
      rootNumber: options.busNr ?? 0,
      numaNode: numaNode === NUMA_NODE_UNASSIGNED ? undefined : numaNode,
    });
    this.expanderBus.bypassIommu = options.bypassIommu ?? false;
    this.secondaryBuses.push(this.expanderBus);
  }

  override realize(): void {
    const numaNode = this.options.numaNode ?? NUMA_NODE_UNASSIGNED;
    const nodes = this.options.numaNodes;
    if (numaNode !== NUMA_NODE_UNASSIGNED && nodes !== undefined && numaNode >= nodes) {
      throw new Refusal(`Illegal numa node ${numaNode}`, {
        rule: "numa-node-missing",
        found: `${this.label} with numa_node=${numaNode}, a machine with ${nodes} NUMA node(s)`,
        wouldWork: nodes === 0 ? "-numa node,nodeid=0 and so on" : `numa_node=0 to ${nodes - 1}`,
      });
    }
    this.bus?.topology?.addRootBus(this.expanderBus);
  }

  override unrealize(): void {
    this.bus?.topology?.removeRootBus(this.expanderBus);
  }
}

/** The host bridge function of pcie.0, 00.0 (QEMU's gpex-root). */
export class GpexHostBridge extends PciFunction {
  constructor() {
    super("gpex-root", "", "host-bridge", { vendorId: 0x1b36, deviceId: 0x0008, classCode: 0x060000, subsystemVendorId: 0x1af4, subsystemId: 0x1100 }, 256);
  }
}
