/** One translation, fetch by fetch. */
import type { FieldReport, Hex } from "./registers.js";

export type WalkAccess = "read" | "write" | "execute";

/** Arguments of `x-viommu-walk`. */
export interface WalkQuestion {
  /** Name of a function of the machine. */
  readonly function: string;
  /** Null: without PASID. */
  readonly pasid: number | null;
  readonly iova: Hex;
  readonly access: WalkAccess;
  readonly privileged: boolean;
  /** `untranslated`; `ats-request`: an ATS translation request; `ats-translated`: a translated one. */
  readonly kind: "untranslated" | "ats-request" | "ats-translated";
}

/** One read of memory. Numbered by its place in `fetches`, from 1. */
export interface FetchReport {
  readonly number: number;
  /** What it is of: `L1 stream table descriptor`, `STE`, `CD`, `stage 1 level 0`, `stage 2 level 1`, `root entry`. */
  readonly name: string;
  /** Down: the structure or stage-1 level, from 0 (`row`); across: the stage-2 level on the way to it (`column`; the row's own fetch has the last column). */
  readonly row: number;
  readonly column: number;
  /** structure: STE, CD, context entries; 1, 2: of that stage's tables. */
  readonly stage: "structure" | 1 | 2;
  /** Level of the tables; null: a structure. */
  readonly level: number | null;
  /** Whose memory: what the address is. */
  readonly space: "guest-physical" | "host-physical";
  readonly address: Hex;
  /** The address before stage 2 where stage 2 has translated it; null: it has not. */
  readonly ipa: Hex | null;
  /** 64-bit words, as read. */
  readonly words: readonly Hex[];
  readonly fields: readonly FieldReport[];
  /** What it decided, in words: `Valid, a table: level 1 follows`. */
  readonly decides: string;
  /** Where the specification says so. */
  readonly section: string;
}

/** How the request ends. */
export interface WalkEnd {
  /** translated, bypassed; aborted: without an event or as one; read-as-zero; unknown: the rest cannot be seen. */
  readonly outcome: "translated" | "bypassed" | "aborted" | "read-as-zero" | "unknown";
  /** Of outcomes translated and bypassed: the address of exactly the input. Host-physical where the host's IOMMU has it, else guest-physical. */
  readonly output: Hex | null;
  readonly outputSpace: "guest-physical" | "host-physical";
  /** The guest-physical address on the way, where stage 2 follows; null: none, or not reached. */
  readonly ipa: Hex | null;
  /** log2 bytes around the input for which it holds; null: no translation. */
  readonly pageBits: number | null;
  /** r, w, x of what is granted: `rw-`; null: no translation. */
  readonly permissions: string | null;
  /** The event or fault record that the request gives; null: none. */
  readonly event: { readonly name: string; readonly number: number; readonly words: readonly Hex[]; readonly fields: readonly FieldReport[]; readonly section: string } | null;
  /** In a sentence: what happened and why. */
  readonly reason: string;
}

/** A field of an entry as the guest wrote it and as the kernel's hardware has it. */
export interface ComparedField extends Omit<FieldReport, "value" | "meaning"> {
  /** Null: the entry is not there. */
  readonly guest: Hex | null;
  readonly host: Hex | null;
  readonly meaning: string | null;
  /** same; taken: the guest's; dropped: the guest's is not taken; made: the host's own. */
  readonly fate: "same" | "taken" | "dropped" | "made";
  /** Why it is dropped or made. */
  readonly why: string | null;
}

/** The guest's entry beside the one that the kernel was given. */
export interface ComparedEntry {
  /** `STE of StreamID 0x100`, `PASID table entry 5`. */
  readonly name: string;
  readonly section: string;
  readonly fields: readonly ComparedField[];
}

/** Answer of `x-viommu-walk`. */
export interface WalkReport {
  readonly question: WalkQuestion;
  /** The IOMMU that walks: the host's for a passed-through function on a host that can be seen into, else the machine's. */
  readonly iommu: string;
  readonly side: "guest" | "host";
  /** StreamID or source id on that side. */
  readonly streamId: number;
  readonly fetches: readonly FetchReport[];
  /** More fetches than are told were made: the walk was cut off. */
  readonly cut: boolean;
  readonly end: WalkEnd;
  readonly compared: readonly ComparedEntry[];
  /** What cannot be seen, a line each. */
  readonly unknown: readonly string[];
}
