/** One case of the translation topic: what is in memory and in the registers, and the accesses to make. */
import type { Words } from "../memory-image.js";

export interface Access {
  /** edu reads into and writes from its buffer; iommu-testdev writes a pattern and looks where it should have come out. */
  readonly device: "edu" | "testdev";
  readonly devfn: number;
  readonly write: boolean;
  /** Input address, and bytes from there; within 4 KiB. */
  readonly iova: bigint;
  readonly length: number;
  /** Physical address where it comes out if nothing is wrong. */
  readonly expected: number;
}

export interface VtdCase {
  readonly words: Words;
  /** RTADDR. */
  readonly rootTable: bigint;
  /** GCMD.TE. */
  readonly enabled: boolean;
  readonly accesses: readonly Access[];
  /** Entries of page tables whose accessed and dirty flags are looked at afterwards. */
  readonly watched: readonly number[];
  /** What the generator did, in words. */
  readonly notes: readonly string[];
}

export function printCase(one: VtdCase): string {
  return [
    `  notes: ${one.notes.join("; ")}`,
    `  RTADDR 0x${one.rootTable.toString(16)}, TE ${Number(one.enabled)}`,
    ...one.accesses.map(({ device, devfn, write, iova, length, expected }) => `  ${device} ${devfn.toString(16)} ${write ? "writes" : "reads"} ${length} bytes at 0x${iova.toString(16)}, expected at 0x${expected.toString(16)}`),
  ].join("\n");
}
