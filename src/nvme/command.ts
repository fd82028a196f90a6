/** A command as it was fetched (4.2), and what becomes of it. */
import type { Address, SubmissionQueue } from "./queues.js";

export class Command {
  /** Dword 0 of the completion. */
  result = 0;

  constructor(
    readonly sq: SubmissionQueue,
    /** CDW0 to CDW15. */
    readonly words: Int32Array,
  ) {}

  get opcode(): number {
    return this.words[0] & 0xff;
  }

  /** FUSE and PSDT, bits 9:8 and 15:14 of CDW0: fused operations and SGLs are not offered. */
  get usesUnoffered(): boolean {
    return (this.words[0] & 0xc300) !== 0;
  }

  get id(): number {
    return this.words[0] >>> 16;
  }

  get namespaceId(): number {
    return this.words[1] >>> 0;
  }

  get prp1(): Address {
    return [this.words[6], this.words[7]];
  }

  get prp2(): Address {
    return [this.words[8], this.words[9]];
  }

  /** CDW10 to CDW15 by their numbers. */
  dword(number: number): number {
    return this.words[number] >>> 0;
  }

  /** SLBA: CDW10 and 11. */
  get firstBlock(): number {
    return this.dword(11) * 0x1_0000_0000 + this.dword(10);
  }

  /** NLB: the number less one in bits 15:0 of CDW12. */
  get blocks(): number {
    return (this.dword(12) & 0xffff) + 1;
  }
}

/** What an admin or I/O command gives: a status, or null where it ends later. */
export type Outcome = number | null;
