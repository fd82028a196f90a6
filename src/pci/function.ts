/**
 * A PCI function: identity, configuration space, base address registers, and where it sits. Kinds of
 * functions (bridges, emulated endpoints, passed-through ones) extend it.
 */
import type { DmaSpace, MemoryRegion } from "../memory/index.js";
import type { PciBus } from "./bus.js";
import { ConfigSpace } from "./config-space.js";
import { iommuPath, type IommuPath } from "./iommu.js";

export type FunctionKind = "host-bridge" | "root-port" | "upstream-port" | "downstream-port" | "pci-bridge" | "expander" | "endpoint";

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
}

export interface Bar {
  readonly index: number;
  /** Bytes, a power of two. */
  readonly size: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
  readonly region: MemoryRegion;
}

export abstract class PciFunction {
  readonly config: ConfigSpace;
  readonly bars: Bar[] = [];
  /** Set while plugged. */
  bus: PciBus | null = null;
  devfn = 0;
  /** Buses that this function makes: none for an endpoint. */
  readonly secondaryBuses: PciBus[] = [];
  /** Where its DMA goes, set while plugged. */
  dma: DmaSpace | null = null;

  constructor(
    /** QEMU's name of the model, such as `pcie-root-port`. */
    readonly model: string,
    /** The user's id; empty when none was given. */
    readonly id: string,
    readonly kind: FunctionKind,
    identity: PciIdentity,
    /** 256 for conventional PCI, 4096 for PCI Express. */
    configBytes: 256 | 4096,
  ) {
    this.config = new ConfigSpace(configBytes, identity);
  }

  /** A name for messages: `e1000e 'net0'`, or the model alone. */
  get label(): string {
    return this.id === "" ? this.model : `${this.model} '${this.id}'`;
  }

  /** The host's function behind a passed-through one, and the iommufd that it goes through (null: a legacy container); null for an emulated function. */
  get passthrough(): { readonly hostAddress: string; readonly iommufd: string | null } | null {
    return null;
  }

  get isBridge(): boolean {
    return this.kind !== "endpoint";
  }

  /** bus << 8 | devfn as configuration cycles address it. */
  get bdf(): number {
    return ((this.bus?.number ?? 0) << 8) | this.devfn;
  }

  /** As `bb:dd.f`. */
  get bdfText(): string {
    return formatBdf(this.bdf);
  }

  get iommuPath(): IommuPath {
    if (this.bus === null) {
      throw new Error(`${this.label} is not plugged`);
    }
    return iommuPath(this.bus, this.devfn);
  }

  /** What its requests carry: its own bus, device, function, or its PCIe-to-PCI bridge's. */
  get requesterId(): number {
    const path = this.iommuPath;
    return (path.bus.number << 8) | path.devfn;
  }

  /** Secondary bus number register of a bridge; 0 for an endpoint. */
  get secondaryBus(): number {
    return 0;
  }

  /** Subordinate bus number register of a bridge. */
  get subordinateBus(): number {
    return 0;
  }

  /** Called when the function has its place and address space; makes what needs them. Throws Refusal or HostError, leaving nothing behind. */
  realize(): void {}

  /** Undoes `realize`. */
  unrealize(): void {}

  /** Reset of the function: configuration registers to their defaults, hardware quiet. */
  reset(): void {
    this.config.reset();
  }

  /** A guest's configuration access; offset in bytes, size 1, 2 or 4, within the space. */
  configRead(offset: number, size: number): number {
    return this.config.read(offset, size);
  }

  configWrite(offset: number, size: number, value: number): void {
    this.config.write(offset, size, value);
  }
}

export function formatBdf(bdf: number): string {
  const two = (value: number): string => value.toString(16).padStart(2, "0");
  return `${two(bdf >> 8)}:${two((bdf >> 3) & 0x1f)}.${bdf & 7}`;
}
