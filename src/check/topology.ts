/** Which root bus and which IOMMU a device is behind, read off the arguments alone. */
import { booleanProperty, type DeviceArgument, type MachineArguments, textProperty } from "../machine/arguments/index.js";

/** Name of the root bus that a machine has of itself. */
export const FIRST_ROOT = "pcie.0";

export class Topology {
  private readonly byId: ReadonlyMap<string, DeviceArgument>;

  constructor(private readonly args: MachineArguments) {
    this.byId = new Map(args.devices.filter(({ id }) => id !== "").map((device) => [device.id, device]));
  }

  /** Functions of the host. */
  get passedThrough(): DeviceArgument[] {
    return this.args.devices.filter(({ model }) => model.category === "passthrough");
  }

  /** The root bus's name. */
  rootBusOf(device: DeviceArgument): string {
    let at: DeviceArgument | undefined = device;
    for (let steps = 0; at !== undefined && steps < 256; steps++) {
      const bus: string = at.bus ?? FIRST_ROOT;
      const owner: DeviceArgument | undefined = this.byId.get(bus);
      if (owner === undefined) {
        return bus;
      }
      if (owner.model.name === "pxb-pcie") {
        return owner.id;
      }
      at = owner;
    }
    return FIRST_ROOT;
  }

  /** The port or bridge whose bus it is on; null: a root bus. */
  portOf(device: DeviceArgument): DeviceArgument | null {
    const owner = this.byId.get(device.bus ?? FIRST_ROOT);
    return owner === undefined || owner.model.name === "pxb-pcie" ? null : owner;
  }

  expander(bus: string): DeviceArgument | null {
    const device = this.byId.get(bus);
    return device?.model.name === "pxb-pcie" ? device : null;
  }

  /** The SMMU of a root bus; null: none that is said by -device. */
  smmuOf(bus: string): DeviceArgument | null {
    return this.args.devices.find((one) => one.model.name === "arm-smmuv3" && textProperty(one, "primary-bus") === bus) ?? null;
  }

  get vtd(): DeviceArgument | null {
    return this.args.devices.find(({ model }) => model.name === "intel-iommu") ?? null;
  }

  /** What is on the root bus goes past the IOMMU. */
  bypasses(bus: string): boolean {
    const expander = this.expander(bus);
    return expander === null ? this.args.machine.bypassIommu : booleanProperty(expander, "bypass_iommu");
  }

  /** The IOMMU that covers a device; null: none that is said by -device. */
  iommuOf(device: DeviceArgument): DeviceArgument | null {
    const bus = this.rootBusOf(device);
    return this.bypasses(bus) ? null : this.args.machine.board === "q35" ? this.vtd : this.smmuOf(bus);
  }

  isAccelerated(iommu: DeviceArgument | null): iommu is DeviceArgument {
    return iommu !== null && (iommu.model.name === "arm-smmuv3" ? booleanProperty(iommu, "accel") : booleanProperty(iommu, "fsts"));
  }

  /** Devices below a root bus, bridges among them. */
  below(bus: string): DeviceArgument[] {
    return this.args.devices.filter((device) => device.model.isPci && device.id !== bus && this.rootBusOf(device) === bus);
  }

  /** Something is on the bus that a port makes. */
  isFree(port: DeviceArgument): boolean {
    return port.id !== "" && !this.args.devices.some((one) => one.bus === port.id);
  }

  /** An id that no device, object or bus has yet. */
  freeId(stem: string, taken: ReadonlySet<string> = new Set()): string {
    const ids = new Set([...this.byId.keys(), ...this.args.objects.map(({ id }) => id), FIRST_ROOT, ...taken]);
    for (let n = 0; ; n++) {
      if (!ids.has(`${stem}${n}`)) {
        return `${stem}${n}`;
      }
    }
  }
}
