/**
 * QOM paths of the devices that the user asked for: /machine/peripheral/ID, and device[n] of
 * /machine/peripheral-anon for those without an id, counted up over the machine's life (QEMU's qdev_set_id).
 */
export class DeviceNames {
  private readonly names = new Map<object, { container: "peripheral" | "peripheral-anon"; name: string }>();
  private anonymous = 0;

  add(device: object, id: string): void {
    this.names.set(device, id === "" ? { container: "peripheral-anon", name: `device[${this.anonymous++}]` } : { container: "peripheral", name: id });
  }

  remove(device: object): void {
    this.names.delete(device);
  }

  /** Empty: the device is none of the user's. */
  pathOf(device: object): string {
    const found = this.names.get(device);
    return found === undefined ? "" : `/machine/${found.container}/${found.name}`;
  }

  /** The devices in a container by name, in the order in which they came. */
  in(container: "peripheral" | "peripheral-anon"): Map<string, object> {
    return new Map([...this.names].filter(([, one]) => one.container === container).map(([device, { name }]) => [name, device]));
  }
}

/** Numbers n of the board's own devices, /machine/unattached/device[n], in the order in which QEMU 11.1's virt makes them. */
export interface BoardNumbers {
  readonly interruptController: number;
  /** The ITS or GICv2m frame; null: none. */
  readonly msiController: number | null;
  readonly hostBridge: number;
  /** The SMMU of iommu=smmuv3; null: none. */
  readonly smmu: number | null;
  /** The host of the first pxb-pcie; others follow. */
  readonly firstExpander: number;
}

/** The same of q35: the first CPU, kvmvapic, the other CPUs, then the chipset. Null: the machine is without it. */
export interface Q35Numbers {
  readonly lpc: number;
  readonly ahci: number | null;
  readonly smbus: number | null;
  readonly firstExpander: number;
}

/** Nine devices of the LPC bridge stand before the AHCI controller, eight memories' EEPROMs behind the SMBus controller. */
export function q35Numbers(cpus: number, hasAhci: boolean, hasSmbus: boolean): Q35Numbers {
  const lpc = cpus + 1;
  const ahci = hasAhci ? lpc + 10 : null;
  const smbus = hasSmbus ? lpc + 10 + (hasAhci ? 1 : 0) : null;
  return { lpc, ahci, smbus, firstExpander: lpc + 10 + (hasAhci ? 1 : 0) + (hasSmbus ? 9 : 0) };
}

/** UART and RTC stand before the host bridge; GPIO, its key, 32 virtio transports and the platform bus before the expanders. */
export function boardNumbers(cpus: number, hasMsiController: boolean, hasSmmu: boolean): BoardNumbers {
  const msiController = hasMsiController ? cpus + 1 : null;
  const hostBridge = cpus + (hasMsiController ? 4 : 3);
  const smmu = hasSmmu ? hostBridge + 1 : null;
  return { interruptController: cpus, msiController, hostBridge, smmu, firstExpander: (smmu ?? hostBridge) + 36 };
}
