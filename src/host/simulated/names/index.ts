/** How functions of a host are named and told apart. */

/** What names and ids are made of, of a function's description. */
export interface NamedFunction {
  readonly address: string;
  readonly smmu?: string | null;
  readonly vtd?: string | null;
  readonly amd?: string | null;
  readonly streamId?: number;
}

/** Segment, bus, device and function as Linux writes them. */
export const PCI_ADDRESS = /^([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/;

/** Bytes that BAR 0 has at least: the DMA engine's registers and its buffer. */
export const ENGINE_BAR_BYTES = 0x1_0000;

/** Where BAR 0 of an NVMe controller has the engine: behind the controller's registers, its MSI-X table and pending bits. */
export const NVME_ENGINE_OFFSET = 0x1_0000;

/** bus << 8 | device << 3 | function of a PCI address such as 0009:01:00.0. */
export function requesterIdOf(address: string): number {
  const match = PCI_ADDRESS.exec(address);
  if (match === null) {
    throw new RangeError(`${address} is not a PCI address`);
  }
  return (parseInt(match[2], 16) << 8) | (parseInt(match[3], 16) << 3) | Number(match[4]);
}

/** The IOMMU in front of a function, by the host's name; null: none. */
export function iommuOf(description: NamedFunction): string | null {
  return description.smmu ?? description.vtd ?? description.amd ?? null;
}

/** The id with which a function's transactions reach its IOMMU: StreamID of an SMMU, requester id of a VT-d. */
export function sourceIdOf(description: NamedFunction): number {
  return description.streamId ?? requesterIdOf(description.address);
}
