import { ContextInterner } from "./context-interner.js";
import { REQUIRED_PERMISSIONS } from "./permissions.js";
import { WALK_OK, WALK_PERMISSION_FAULT } from "./types.js";

/** Answer of `lookup` besides WALK_OK and WALK_PERMISSION_FAULT: nothing is cached for the address. */
export const TLB_MISS = 1;

/** In place of an ASID: translations of stage 2 alone, whose input addresses are IPAs. */
export const NO_ASID = -1;
/** In place of an ASID, of invalidations: entries of every ASID, the global ones too. */
export const ANY_ASID = -2;
/** The pseudo ASID of a VMID's global entries. */
const GLOBAL_ASID = -3;

const WAYS = 4;
const ENTRY_WORDS = 4;
/** log2 of the words of a set. */
const SET_SHIFT = 4;
const CONTEXT_SHIFT = 18;
const PAGE_BITS_SHIFT = 13;
/** What a tag has instead of a page's bits 12 to 42, so that five bits do: less by this. */
const PAGE_BITS_BASE = 11;
const TAG_4K = (12 - PAGE_BITS_BASE) << PAGE_BITS_SHIFT;
/** Input address bits from here on are in the tag. */
const TAG_ADDRESS_BITS = 44;
const LEAF_SHIFT = 16;
/** As constants of this module: an import costs two more loads and a check at each use. */
const required = REQUIRED_PERMISSIONS;
const ok = WALK_OK;
const denied = WALK_PERMISSION_FAULT;
const miss: number = TLB_MISS;

/** An entry, for who looks: addresses as two signed words. */
export interface TlbEntry {
  readonly vmid: number;
  /** NO_ASID: of stage 2 alone. Of a global entry 0. */
  readonly asid: number;
  readonly global: boolean;
  /** First input address, the bits above those that count copies of the highest of them. */
  readonly high: number;
  readonly low: number;
  readonly pageBits: number;
  readonly outHigh: number;
  readonly outLow: number;
  /** PERM_*. */
  readonly permissions: number;
}

/**
 * A set-associative TLB in one Int32Array, four ways of 16 bytes an entry:
 *
 * - word 0: bits 43:12 of the input address, those within the page zero
 * - word 1: 31:18 context, 17:13 log2 of the page's bytes less 11 (0: the entry is empty), 12:0 bits 56:44 of the
 *   input address
 * - word 2: bits 43:12 of the output address
 * - word 3: 20:16 log2 of the times that stage 1's leaf is larger, 15:8 bits 51:44 of the output address, 5:0 PERM_*
 *
 * Entries are tagged by an interned pair: (VMID, ASID), or (domain id, PASID). One page size is one probe; sizes
 * that were never inserted since the last complete flush are not probed. An entry stays until it is invalidated or
 * evicted, whatever happens to the tables: that is the point (DDI 0487 D8.16, IHI 0070 3.17; VT-d specification
 * 6.2).
 *
 * Of input addresses the bits from `inputBits` on do not count: the caller has refused what `selectStage1Range`
 * refuses, which leaves tags (TBI) there, or what is not canonical, which leaves copies of the bit below.
 */
export class Tlb {
  /** Bytes of an entry. */
  static readonly entryBytes = ENTRY_WORDS * 4;

  /** Of the last hit (also one without permission) or insertion: the output address of exactly the input address. */
  outHigh = 0;
  outLow = 0;
  /** Of the same: PERM_* in bits 5:0, and what else the entry holds. */
  private outAttributes = 0;
  /** Of the same: log2 bytes of the entry's page. */
  outPageBits = 0;

  private readonly words: Int32Array;
  /** Of an address's high word shifted by 12: what the tag has. */
  private readonly topMask: number;
  private readonly setMask: number;
  private readonly contexts: ContextInterner;
  /** Bit n: an entry of 1 << n bytes, n > 12, may exist. */
  private largeSizes = 0;
  /** Not 0 where an entry may exist that is a part of a larger leaf: stage 2's pages are smaller. */
  private parts = 0;
  /** 1 where a global entry may exist. */
  private globals = 0;
  /** The way that the next insertion into a full set takes. */
  private victim = 0;
  private lastVmid = 0;
  private lastAsid = 0;
  private lastContext = 0;
  /** A bit per context: what an invalidation concerns. */
  private readonly marks = new Int32Array((ContextInterner.lastContext + 1) / 32);
  private readonly marked: number[] = [];

  /**
   * @param entries a power of two, 16 to 1,048,576
   * @param contexts (VMID, ASID) pairs that can have entries at the same time; one more flushes all. A power of two.
   * @param inputBits bits of input addresses that count: 56 (VMSAv8-64: bit 55 chooses the range) or 57 (VT-d with five levels)
   */
  constructor(
    readonly entries = 4096,
    contexts = 1024,
    inputBits: 56 | 57 = 56,
  ) {
    if (!Number.isInteger(Math.log2(entries)) || entries < 16 || entries > 1 << 20) {
      throw new RangeError(`entries of a TLB: ${entries} is not a power of two from 16 to 1048576`);
    }
    this.words = new Int32Array(entries * ENTRY_WORDS);
    this.setMask = entries / WAYS - 1;
    this.topMask = (1 << (inputBits - TAG_ADDRESS_BITS)) - 1;
    this.contexts = new ContextInterner(contexts);
  }

  /** Of the last hit or insertion: PERM_*. */
  get outPermissions(): number {
    return this.outAttributes & 0x3f;
  }

  /**
   * The context of a pair, to be used at once: it means the pair until the next call of `contextOf` or of
   * an invalidation.
   *
   * @param vmid any non-negative integer below 2^31
   * @param asid the same, or NO_ASID for translations of stage 2 alone
   */
  contextOf(vmid: number, asid: number): number {
    return vmid === this.lastVmid && asid === this.lastAsid && this.lastContext !== 0
      ? this.lastContext
      : this.intern(vmid, asid);
  }

  /**
   * Looks an address up.
   *
   * @param context of `contextOf`
   * @param access ACCESS_*
   * @returns WALK_OK with out* filled; WALK_PERMISSION_FAULT where the entry does not allow the access
   *   (a walk tells which stage forbids it); TLB_MISS
   */
  lookup(context: number, addressHigh: number, addressLow: number, access: number): number {
    const words = this.words;
    const page = (addressHigh << 20) | (addressLow >>> 12);
    const tag = (context << CONTEXT_SHIFT) | ((addressHigh >>> 12) & this.topMask);
    const tag4k = tag | TAG_4K;
    let at = this.setOf(page, 12, context);
    if (words[at] !== page || words[at | 1] !== tag4k) {
      at |= 4;
      if (words[at] !== page || words[at | 1] !== tag4k) {
        at ^= 12;
        if (words[at] !== page || words[at | 1] !== tag4k) {
          at |= 4;
          if (words[at] !== page || words[at | 1] !== tag4k) {
            return (this.largeSizes | this.globals) !== 0 ? this.lookupRest(page, tag, addressLow, access) : miss;
          }
        }
      }
    }
    const data = words[at | 2];
    const attributes = words[at | 3];
    this.outHigh = ((attributes & 0xff00) << 4) | (data >>> 20);
    this.outLow = (data << 12) | (addressLow & 0xfff);
    this.outAttributes = attributes;
    this.outPageBits = 12;
    return (required[access & 15] & ~attributes) === 0 ? ok : denied;
  }

  /**
   * Caches a translation, in place of the one for the same page or of a victim.
   *
   * @param context of `contextOf`
   * @param addressHigh,addressLow any input address in the page
   * @param outHigh,outLow the output address of that input address
   * @param pageBits log2 bytes of the page, 12 to 30
   * @param permissions PERM_*
   * @param global whether it holds for all ASIDs of the VMID (nG clear); ignored for NO_ASID
   * @param leafBits log2 bytes of stage 1's leaf, at least `pageBits`: an invalidation of any address in it drops
   *   the entry, as the parts of a block go with it (DDI 0487, D8.16)
   */
  insert(
    context: number,
    addressHigh: number,
    addressLow: number,
    outHigh: number,
    outLow: number,
    pageBits: number,
    permissions: number,
    global: boolean,
    leafBits = pageBits,
  ): void {
    const words = this.words;
    const owner = global ? this.globalContext(context) : context;
    const pageMask = -1 << (pageBits - 12);
    const page = ((addressHigh << 20) | (addressLow >>> 12)) & pageMask;
    const tag =
      (owner << CONTEXT_SHIFT) |
      ((pageBits - PAGE_BITS_BASE) << PAGE_BITS_SHIFT) |
      ((addressHigh >>> 12) & this.topMask);
    if (pageBits !== 12) {
      this.largeSizes |= 1 << pageBits;
    }
    const set = this.setOf(page, pageBits, owner);
    let at = this.find(page, tag, pageBits, owner);
    if (at < 0) {
      if (words[set | 1] === 0) {
        at = set;
      } else if (words[set | 5] === 0) {
        at = set | 4;
      } else if (words[set | 9] === 0) {
        at = set | 8;
      } else if (words[set | 13] === 0) {
        at = set | 12;
      } else {
        at = set | (this.victim << 2);
        this.victim = (this.victim + 1) & (WAYS - 1);
      }
    }
    words[at] = page;
    words[at | 1] = tag;
    words[at | 2] = ((outHigh << 20) | (outLow >>> 12)) & pageMask;
    const attributes = ((leafBits - pageBits) << LEAF_SHIFT) | ((outHigh >>> 4) & 0xff00) | permissions;
    this.parts |= leafBits - pageBits;
    words[at | 3] = attributes;
    this.outHigh = outHigh;
    this.outLow = outLow;
    this.outAttributes = attributes;
    this.outPageBits = pageBits;
  }

  /** Drops every entry (CMD_TLBI_NSNH_ALL; VT-d's global IOTLB invalidation; reset). */
  invalidateAll(): void {
    this.words.fill(0);
    this.contexts.reset();
    this.lastContext = 0;
    this.largeSizes = 0;
    this.parts = 0;
    this.globals = 0;
  }

  /** Drops a VMID's entries of both stages (CMD_TLBI_S12_VMALL; VT-d's domain-selective IOTLB invalidation). */
  invalidateVmid(vmid: number): void {
    this.retireContexts(vmid, true);
  }

  /** Drops a VMID's entries that stage 1 had a part in (CMD_TLBI_NH_ALL). */
  invalidateVmidStage1(vmid: number): void {
    this.retireContexts(vmid, false);
  }

  /** Drops an ASID's entries but the global ones (CMD_TLBI_NH_ASID; VT-d's PASID-selective PASID-based IOTLB invalidation). */
  invalidateAsid(vmid: number, asid: number): void {
    this.lastContext = 0;
    if (!this.contexts.retire(vmid, asid)) {
      this.invalidateAll();
    }
  }

  /**
   * Drops the entries that translate an address, whatever their size: an ASID's and the global ones, or
   * with ANY_ASID all of stage 1 (CMD_TLBI_NH_VA, CMD_TLBI_NH_VAA). There is no cache of tables, so a leaf
   * invalidation is the same as one of all levels.
   */
  invalidateAddress(vmid: number, asid: number, addressHigh: number, addressLow: number): void {
    this.invalidateRange(vmid, asid, addressHigh, addressLow, addressHigh, addressLow);
  }

  /**
   * Drops the entries that translate any address from the first to the last, inclusive. The work is
   * bounded by the size of the TLB.
   */
  invalidateRange(
    vmid: number,
    asid: number,
    firstHigh: number,
    firstLow: number,
    lastHigh: number,
    lastLow: number,
  ): void {
    this.markContexts(vmid, asid);
    this.dropMarked(this.pageKey(firstHigh, firstLow), this.pageKey(lastHigh, lastLow));
  }

  /**
   * Drops what depends on the stage-2 translation of the IPAs from the first to the last (CMD_TLBI_S2_IPA):
   * those entries of stage 2 alone, and, as combined entries do not tell their IPA, all of the VMID that
   * stage 1 had a part in. More than the architecture asks for, never less.
   */
  invalidateIpaRange(vmid: number, firstHigh: number, firstLow: number, lastHigh: number, lastLow: number): void {
    this.invalidateRange(vmid, NO_ASID, firstHigh, firstLow, lastHigh, lastLow);
    this.invalidateVmidStage1(vmid);
  }

  /** How many entries could still be hit. Looks at all of them. */
  liveEntries(): number {
    this.marks.fill(0);
    for (let i = 0; i < this.contexts.count; i++) {
      this.mark(this.contexts.contextAt(i));
    }
    let live = 0;
    for (let at = 1; at < this.words.length; at += ENTRY_WORDS) {
      if (this.words[at] !== 0 && this.isMarked(this.words[at] >>> CONTEXT_SHIFT)) {
        live++;
      }
    }
    this.marked.length = 0;
    return live;
  }

  /** What could still be hit, for who looks. Changes nothing. */
  *held(): Generator<TlbEntry> {
    const { words, contexts, topMask } = this;
    const owners = new Map(Array.from({ length: contexts.count }, (_unused, n) => [contexts.contextAt(n), n] as const));
    const sign = (topMask + 1) >>> 1;
    for (let at = 0; at < words.length; at += ENTRY_WORDS) {
      const tag = words[at | 1];
      const owner = tag === 0 ? undefined : owners.get(tag >>> CONTEXT_SHIFT);
      if (owner === undefined) {
        continue;
      }
      const asid = contexts.asidAt(owner);
      const top = tag & topMask;
      const attributes = words[at | 3];
      yield {
        vmid: contexts.vmidAt(owner),
        asid: asid === GLOBAL_ASID ? 0 : asid,
        global: asid === GLOBAL_ASID,
        high: ((asid !== NO_ASID && (top & sign) !== 0 ? top | ~topMask : top) << 12) | (words[at] >>> 20),
        low: words[at] << 12,
        pageBits: pageBitsOf(tag),
        outHigh: ((attributes & 0xff00) << 4) | (words[at | 2] >>> 20),
        outLow: words[at | 2] << 12,
        permissions: attributes & 0x3f,
      };
    }
  }

  private intern(vmid: number, asid: number): number {
    let context = this.contexts.intern(vmid, asid);
    if (context === 0) {
      this.invalidateAll();
      context = this.contexts.intern(vmid, asid);
    }
    this.lastVmid = vmid;
    this.lastAsid = asid;
    this.lastContext = context;
    return context;
  }

  /** Pages other than 4 KiB, and global entries. */
  private lookupRest(page: number, tag: number, addressLow: number, access: number): number {
    let at = this.largeSizes === 0 ? -1 : this.findSizes(page, tag, this.largeSizes);
    if (at < 0 && this.globals !== 0) {
      const owner = this.knownGlobalContext(tag >>> CONTEXT_SHIFT);
      if (owner !== 0) {
        at = this.findSizes(page, (tag & this.topMask) | (owner << CONTEXT_SHIFT), this.largeSizes | 0x1000);
      }
    }
    if (at < 0) {
      return miss;
    }
    const words = this.words;
    const pageBits = pageBitsOf(words[at | 1]);
    const data = words[at | 2] | (page & ~(-1 << (pageBits - 12)));
    const attributes = words[at | 3];
    this.outHigh = ((attributes & 0xff00) << 4) | (data >>> 20);
    this.outLow = (data << 12) | (addressLow & 0xfff);
    this.outAttributes = attributes;
    this.outPageBits = pageBits;
    return (required[access & 15] & ~attributes) === 0 ? ok : denied;
  }

  /** The entry that holds a 4-KiB page number in one of the page sizes (a bit each), or -1. */
  private findSizes(page: number, tag: number, sizes: number): number {
    const context = tag >>> CONTEXT_SHIFT;
    while (sizes !== 0) {
      const pageBits = 31 - Math.clz32(sizes);
      const at = this.find(page & (-1 << (pageBits - 12)), tag | ((pageBits - PAGE_BITS_BASE) << PAGE_BITS_SHIFT), pageBits, context);
      if (at >= 0) {
        return at;
      }
      sizes ^= 1 << pageBits;
    }
    return -1;
  }

  /** Index of the entry with these tag words, or -1. */
  private find(page: number, tag: number, pageBits: number, context: number): number {
    const words = this.words;
    let at = this.setOf(page, pageBits, context);
    if (words[at] === page && words[at | 1] === tag) {
      return at;
    }
    at |= 4;
    if (words[at] === page && words[at | 1] === tag) {
      return at;
    }
    at ^= 12;
    if (words[at] === page && words[at | 1] === tag) {
      return at;
    }
    at |= 4;
    return words[at] === page && words[at | 1] === tag ? at : -1;
  }

  /** First word of the set of a page. Neighbouring pages lie in neighbouring sets. */
  private setOf(page: number, pageBits: number, context: number): number {
    const number = page >>> (pageBits - 12);
    // The last shifts make the index unsigned for the compiler, which then needs not extend its sign.
    return (((number ^ (number >>> 10) ^ Math.imul(context, 0x61)) & this.setMask) << (SET_SHIFT + 2)) >>> 2;
  }

  /** The context of the global entries of a context's VMID; entries of stage 2 alone have no such thing. */
  private globalContext(context: number): number {
    const index = this.indexOf(context);
    if (index < 0 || this.contexts.asidAt(index) < 0) {
      return context;
    }
    const owner = this.contexts.intern(this.contexts.vmidAt(index), GLOBAL_ASID);
    if (owner === 0) {
      // No number left: the entry serves its own ASID only, which is less than it could, not wrong.
      return context;
    }
    this.globals = 1;
    return owner;
  }

  private knownGlobalContext(context: number): number {
    if (context === this.lastContext) {
      return this.lastAsid < 0 ? 0 : this.contexts.known(this.lastVmid, GLOBAL_ASID);
    }
    const index = this.indexOf(context);
    return index < 0 || this.contexts.asidAt(index) < 0 ? 0 : this.contexts.known(this.contexts.vmidAt(index), GLOBAL_ASID);
  }

  /** Index of a context among the interned pairs, or -1. */
  private indexOf(context: number): number {
    for (let i = 0; i < this.contexts.count; i++) {
      if (this.contexts.contextAt(i) === context) {
        return i;
      }
    }
    return -1;
  }

  private retireContexts(vmid: number, stage2Too: boolean): void {
    this.lastContext = 0;
    for (let i = 0; i < this.contexts.count; i++) {
      if (this.contexts.vmidAt(i) === vmid && (stage2Too || this.contexts.asidAt(i) !== NO_ASID)) {
        if (!this.contexts.retireAt(i)) {
          this.invalidateAll();
          return;
        }
      }
    }
  }

  private markContexts(vmid: number, asid: number): void {
    const contexts = this.contexts;
    if (asid === ANY_ASID) {
      for (let i = 0; i < contexts.count; i++) {
        if (contexts.vmidAt(i) === vmid && contexts.asidAt(i) !== NO_ASID) {
          this.mark(contexts.contextAt(i));
        }
      }
      return;
    }
    this.mark(contexts.known(vmid, asid));
    if (asid !== NO_ASID) {
      this.mark(contexts.known(vmid, GLOBAL_ASID));
    }
  }

  private mark(context: number): void {
    if (context !== 0) {
      this.marks[context >>> 5] |= 1 << (context & 31);
      this.marked.push(context);
    }
  }

  private isMarked(context: number): boolean {
    return (this.marks[context >>> 5] & (1 << (context & 31))) !== 0;
  }

  /** Drops entries of the marked contexts between two page keys, and takes the marks away. */
  private dropMarked(first: number, last: number): void {
    const sizes = this.largeSizes | (1 << 12);
    let probes = 0;
    for (let pageBits = 12; pageBits < 31; pageBits++) {
      if ((sizes & (1 << pageBits)) !== 0) {
        probes += (Math.floor((last - first) / 2 ** (pageBits - 12)) + 2) * this.marked.length;
      }
    }
    // Parts of larger leaves are found by looking at all.
    if (probes <= this.setMask && this.parts === 0) {
      for (const context of this.marked) {
        for (let pageBits = 12; pageBits < 31; pageBits++) {
          if ((sizes & (1 << pageBits)) !== 0) {
            this.dropPages(context, pageBits, first, last);
          }
        }
      }
    } else if (this.marked.length > 0) {
      this.scan(first, last);
    }
    for (const context of this.marked) {
      this.marks[context >>> 5] = 0;
    }
    this.marked.length = 0;
  }

  private dropPages(context: number, pageBits: number, first: number, last: number): void {
    const step = 2 ** (pageBits - 12);
    for (let key = first - (first % step); key <= last; key += step) {
      const high = Math.floor(key / 0x1_0000_0000);
      const at = this.find(key | 0, (context << CONTEXT_SHIFT) | ((pageBits - PAGE_BITS_BASE) << PAGE_BITS_SHIFT) | high, pageBits, context);
      if (at >= 0) {
        this.words[at + 1] = 0;
      }
    }
  }

  private scan(first: number, last: number): void {
    const words = this.words;
    for (let at = 0; at < words.length; at += ENTRY_WORDS) {
      const tag = words[at + 1];
      if (tag === 0 || !this.isMarked(tag >>> CONTEXT_SHIFT)) {
        continue;
      }
      const size = 2 ** (pageBitsOf(tag) - 12 + (words[at + 3] >>> LEAF_SHIFT));
      const page = (tag & this.topMask) * 0x1_0000_0000 + (words[at] >>> 0);
      const start = page - (page % size);
      if (start <= last && start + size > first) {
        words[at + 1] = 0;
      }
    }
  }

  /** Number of an address's 4-KiB page, as the tag has it. */
  private pageKey(high: number, low: number): number {
    return ((high >>> 12) & this.topMask) * 0x1_0000_0000 + (((high << 20) | (low >>> 12)) >>> 0);
  }
}

/** log2 of the bytes of an entry's page. */
function pageBitsOf(tag: number): number {
  return ((tag >>> PAGE_BITS_SHIFT) & 0x1f) + PAGE_BITS_BASE;
}
