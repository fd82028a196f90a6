/** A PCI host bridge, and a function behind it with what the kernel made for it. */
import type { DmaDevice } from "./devices/dma-device.js";
import type { HostBridgeDescription } from "./firmware/description.js";
import type { Domain } from "./iommu/domain.js";
import type { IommuDriver, IommuMaster } from "./iommu/driver.js";
import type { TakenMessages } from "./messages.js";
import type { ConfigAccess } from "./pci/config-access.js";
import type { RootBus } from "./pci/resources.js";
import type { PciFunction } from "./pci/function.js";
import type { ResourceMap } from "./pci/resources.js";

export interface HostBridge {
  readonly description: HostBridgeDescription;
  readonly config: ConfigAccess;
  readonly roots: RootBus[];
  readonly resources: ResourceMap;
}

/** A function with what the kernel made for it. */
export interface Device {
  readonly fn: PciFunction;
  readonly bridge: HostBridge;
  /** The IOMMU that translates it; null: none, its addresses are physical. */
  readonly iommu: IommuDriver | null;
  readonly master: IommuMaster | null;
  /** The StreamID or source-id that its transactions carry; null without an IOMMU. */
  readonly streamId: number | null;
  /** The driver for its DMA; null for functions without one, bridges among them. */
  readonly dma: DmaDevice | null;
  /** Domain that this kernel made for it. */
  domain: Domain | null;
  /** Its messages; null before they are set up. */
  messages: TakenMessages | null;
  /** It was plugged while the kernel ran. */
  readonly plugged: boolean;
}
