import { type AddressSpace, type DmaAttributes, DMA_FAULT, type DmaSpace } from "../memory/index.js";

/** What the software path needs of its unit. */
export interface TranslatingUnit {
  readonly id: string;
  readonly translationEnabled: boolean;
  /** Where translated accesses go. */
  readonly memory: AddressSpace;
}

/** The address space of one emulated function behind a VT-d unit. */
export class SoftwareSpace implements DmaSpace {
  readonly kind = "iommu";

  constructor(
    readonly name: string,
    private readonly unit: TranslatingUnit,
  ) {}

  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number {
    return this.unit.translationEnabled ? DMA_FAULT : this.unit.memory.read(iova, out, attributes);
  }

  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number {
    return this.unit.translationEnabled ? DMA_FAULT : this.unit.memory.write(iova, data, attributes);
  }

  translate(iova: bigint): number | null {
    return this.unit.translationEnabled ? null : this.unit.memory.translate(iova);
  }
}
