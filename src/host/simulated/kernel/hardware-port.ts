/**
 * The hardware as the simulated kernel drives it: what a real kernel reaches by MMIO, by tables in its
 * memory and by PCI. src/host/simulated/hardware implements it.
 */
import type { RamBlock, WordMemory } from "../../../memory/index.js";

export interface HostMemory {
  /** Host-physical words. */
  readonly words: WordMemory;
  /** A zeroed block; hostAddress is its HPA and the process's address. */
  allocate(name: string, bytes: number): RamBlock;
  free(block: RamBlock): void;
  /** HPA of zeroed, naturally aligned table memory of 2^log2Bytes bytes (6 to 24). */
  allocatePage(log2Bytes: number): number;
  freePage(hpa: number, log2Bytes: number): void;
}

export interface PhysicalSmmu {
  readonly name: string;
  /** IDR0 to IDR5. */
  readonly idr: Int32Array;
  readonly iidr: number;
  readonly aidr: number;
  /** Every access of its devices is coherent, No-Snoop included (the IORT's CANWBS). */
  readonly coherent: boolean;
  /** Errata for which the kernel does not nest, or issues commands twice (the last). */
  hasErratum(erratum: "arm-1209401" | "arm-2268618" | "arm-2812531" | "nvidia-t264-smmu-3"): boolean;
  /** Stores an entry of the stream table, 16 words. */
  writeSte(streamId: number, words: Int32Array): void;
  /** Runs one command (Arm IHI 0070, 4); returns a CERROR_ code. */
  command(word0: number, word1: number, word2: number, word3: number): number;
  /** Called with each event record (8 words, valid during the call). */
  onEvent(listener: (record: Int32Array) => void): void;
}

export type FaultOrigin = "first" | "tables" | "other" | "own";

export interface PhysicalVtd {
  readonly name: string;
  /** CAP and ECAP. */
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Sapphire Rapids SPR17: nothing may be mapped read-only in a nesting parent. */
  hasErratum(erratum: "772415"): boolean;
  /** RTADDR: the root table (HPA) and the mode, TTM_*. */
  setRootTable(address: number, mode: number): void;
  enableTranslation(on: boolean): void;
  /** Runs one descriptor of the invalidation queue (Intel VT-d 6.5.2); returns 0, an IQEI code, or -1 for a timeout. */
  submit(word0: number, word1: number, word2: number, word3: number): number;
  /**
   * Called with each fault record (4 words, valid during the call), and whose fault it is: "first" the first
   * stage's of a nested PASID entry, "tables" the second stage's on the way to that one's tables.
   */
  onFault(listener: (record: Int32Array, origin: FaultOrigin) => void): void;
}

export interface PhysicalFunctionDescription {
  readonly address: string;
  readonly vendor: number;
  readonly device: number;
  readonly class: number;
  readonly ats: boolean;
  /** Bits of PASIDs that the function can send; 0: none. */
  readonly pasidBits: number;
  readonly msixVectors: number;
  /** -1: none. */
  readonly numaNode: number;
  /** Only functions of vfio-pci have a character device. Empty: none is bound. */
  readonly driver: string;
  /** The SMMU that it is behind, whose registers may be unknown: then it is not simulated. */
  readonly smmu?: string | null;
  /** The AMD unit that it is behind, which is described and not simulated. */
  readonly amd?: string | null;
  /** Number of its IOMMU group; null: it is alone. */
  readonly group: number | null;
  /** Its reserved ranges, by /sys/kernel/iommu_groups/N/reserved_regions; null: none. */
  readonly reserved: ReadonlyArray<{ readonly base: number; readonly size: number; readonly type: "direct" | "direct-relaxable" | "reserved" | "msi" }> | null;
  /** How the kernel can reset it; null: as it likes. */
  readonly reset: readonly string[] | null;
}

export interface PhysicalFunction {
  readonly description: PhysicalFunctionDescription;
  /** With which its requests reach its IOMMU: StreamID, or requester id of a VT-d. */
  readonly sourceId: number;
  readonly iommu: { readonly name: string } | null;
  /** Little-endian value of 1, 2 or 4 bytes, unsigned. */
  configRead(offset: number, size: number): number;
  configWrite(offset: number, size: number, value: number): void;
  /** Size in bytes; 0: no such region. */
  regionInfo(index: number): { size: number };
  /** Host-physical address of a BAR; null: nobody but a processor reaches it. */
  barAddress(index: number): number | null;
  regionRead(index: number, offset: number, out: Uint8Array): void;
  regionWrite(index: number, offset: number, data: Uint8Array): void;
  /** What the function writes for a vector; null: the vector is masked. */
  setMsi(vector: number, target: { readonly address: bigint; readonly data: number } | null): void;
  /** Function level reset. */
  reset(): void;
  /** The ATS capability's enable bit; nothing without the capability. */
  enableAts(on: boolean): void;
  /** The same of the PASID capability. */
  enablePasid(on: boolean): void;
}

export interface PhysicalHost {
  readonly memory: HostMemory;
  /** By name. */
  readonly smmus: ReadonlyMap<string, PhysicalSmmu>;
  /** By name. */
  readonly vtds: ReadonlyMap<string, PhysicalVtd>;
  /** By PCI address. */
  readonly functions: ReadonlyMap<string, PhysicalFunction>;
  /** Memory writes to the interrupt range are messages. */
  readonly isX86: boolean;
  /** HPA of the interrupt controller's doorbell (GITS_TRANSLATER), or the first byte of the interrupt range (VT-d 3.14). */
  readonly msiDoorbell: number;
  /** Called when a function's write has reached the doorbell. */
  onMsi(listener: (source: PhysicalFunction, address: number, data: number) => void): void;
  /** Gives back what the hardware's own tables take. */
  close(): void;
}
