import { loadWords, type WordMemory } from "../../memory/index.js";
import { deposit, extract, get } from "../../support/index.js";
import { BoundedCache } from "../../translation/index.js";
import {
  FAULT,
  FAULT_RECORD_WORDS,
  fillFault,
  IRTE,
  IRTE_BYTES,
  IRTE_WORDS,
  MESSAGE_ADDRESS,
  MESSAGE_DATA,
  REMAPPABLE_ADDRESS,
  REMAPPABLE_DATA,
  SVT_BUS_RANGE,
  SVT_NONE,
  SVT_REQUESTER_ID,
} from "../spec/index.js";
import { isQualified } from "./conditions.js";
import type { VtdFeatures } from "./features.js";

/** Answers of `remap`. */
export const INTERRUPT_REMAPPED = 0;
/** The message goes on as it came: compatibility format, or interrupt remapping is disabled. */
export const INTERRUPT_UNCHANGED = 1;
export const INTERRUPT_BLOCKED = -1;

/** High bits of a message's address. */
const MESSAGE_BASE = 0xfee0_0000 | 0;

/** What an interrupt remapping table entry means. Filled by `decodeIrte`. */
export class IrteView {
  /** 0, or why interrupts through the entry are blocked, but for the check of the source: a FAULT reason. */
  reason = 0;
  faultsDisabled = false;
  logical = false;
  redirectionHint = false;
  level = false;
  deliveryMode = 0;
  vector = 0;
  /** APIC id: 8 bits, or 32 in extended mode. */
  destination = 0;
  /** SVT_*, SID and SQ. */
  validation = SVT_NONE;
  source = 0;
  qualifier = 0;
}

/**
 * Judges an IRTE for remapped interrupts (Intel VT-d 5.10, 9.9; table 15). Entries for posted ones need CAP.PI,
 * without which IM is reserved.
 *
 * @param extended IRTA.EIME: destinations have 32 bits, else bits 15:8 of DST and the rest is reserved
 * @returns 0 or a fault reason, as in `out.reason`
 */
export function decodeIrte(words: ArrayLike<number>, extended: boolean, out: IrteView, base = 0): number {
  out.faultsDisabled = get(words, IRTE.FPD, base) !== 0;
  if (get(words, IRTE.P, base) === 0) {
    return (out.reason = FAULT.IR_NOT_PRESENT);
  }
  out.validation = get(words, IRTE.SVT, base);
  out.source = get(words, IRTE.SID, base);
  out.qualifier = get(words, IRTE.SQ, base);
  out.deliveryMode = get(words, IRTE.DLM, base);
  const destination = get(words, IRTE.DST, base);
  // Bits 14:12 (and 15, IM) and 31:24, 63:40 and 39:32 without EIME, 127:84 are reserved; so are SVT 3, DLM 3 and 6.
  const reserved =
    (words[base] & 0xff00_f000) |
    (extended ? 0 : words[base + 1] & 0xffff_00ff) |
    (words[base + 2] & 0xfff0_0000) |
    words[base + 3];
  if (reserved !== 0 || out.validation > SVT_BUS_RANGE || out.deliveryMode === 3 || out.deliveryMode === 6) {
    return (out.reason = FAULT.IR_ENTRY_RESERVED);
  }
  out.logical = get(words, IRTE.DM, base) !== 0;
  out.redirectionHint = get(words, IRTE.RH, base) !== 0;
  out.level = get(words, IRTE.TM, base) !== 0;
  out.vector = get(words, IRTE.V, base);
  out.destination = extended ? destination : (destination >>> 8) & 0xff;
  return (out.reason = 0);
}

/** Whether a requester may use an entry (9.9 SVT, SQ, SID). */
export function isSourceAllowed(entry: IrteView, requesterId: number): boolean {
  switch (entry.validation) {
    case SVT_REQUESTER_ID: {
      // SQ: all bits; all but bit 2; but bits 2:1; but bits 2:0.
      const mask = 0xffff & ~(7 & ~(7 >>> entry.qualifier));
      return (requesterId & mask) === (entry.source & mask);
    }
    case SVT_BUS_RANGE: {
      const bus = requesterId >>> 8;
      return bus >= entry.source >>> 8 && bus <= (entry.source & 0xff);
    }
    default:
      return true;
  }
}

/**
 * Interrupt remapping (Intel VT-d 5.10, 5.1): from a message to the interrupt range to the one that reaches the
 * local APICs, or a fault. The owner sets the fields from its registers, and records `record` where `hasFault`.
 */
export class InterruptRemapper {
  /** GSTS.IRES and CFIS. */
  enabled = false;
  compatibility = false;
  /** What SIRTP took over: IRTA in bytes, log2 of the entries (S + 1), EIME. */
  table = 0;
  log2Entries = 1;
  extended = false;

  /** The message after INTERRUPT_REMAPPED and INTERRUPT_UNCHANGED: address words and data. */
  outAddressHigh = 0;
  outAddressLow = 0;
  outData = 0;
  /** After INTERRUPT_REMAPPED: the entry, whole. */
  get entry(): IrteView {
    return this.found;
  }
  /** After INTERRUPT_REMAPPED, and a fault that has one: the index. */
  index = -1;

  reason = 0;
  hasFault = false;
  readonly record = new Int32Array(FAULT_RECORD_WORDS);

  private found = new IrteView();
  private readonly words = new Int32Array(IRTE_WORDS);
  /** The interrupt entry cache, by index. */
  private readonly cache: BoundedCache<IrteView>;
  private readonly request = {
    source: 0,
    pasid: -1,
    addressType: 0,
    high: 0,
    low: 0,
    write: true,
    execute: false,
    privileged: false,
  };

  /** @param entries entries that the cache holds */
  constructor(
    private readonly memory: WordMemory,
    private readonly features: VtdFeatures,
    entries = 1024,
  ) {
    this.cache = new BoundedCache(entries);
  }

  get cachedEntries(): number {
    return this.cache.size;
  }

  /**
   * Remaps one message.
   *
   * @param requesterId source id, 16 bits
   * @param address low word of the message's address, in the interrupt range
   * @returns INTERRUPT_*
   */
  remap(requesterId: number, address: number, data: number): number {
    this.reason = 0;
    this.hasFault = false;
    this.index = -1;
    this.outAddressHigh = 0;
    this.outAddressLow = address;
    this.outData = data;
    if (!this.enabled) {
      return INTERRUPT_UNCHANGED;
    }
    if (extract(address, REMAPPABLE_ADDRESS.FORMAT) === 0) {
      return this.extended || !this.compatibility
        ? this.block(FAULT.IR_COMPATIBILITY_BLOCKED, requesterId, false)
        : INTERRUPT_UNCHANGED;
    }
    let index = (extract(address, REMAPPABLE_ADDRESS.HANDLE_15) << 15) | extract(address, REMAPPABLE_ADDRESS.HANDLE_14_0);
    if (extract(address, REMAPPABLE_ADDRESS.SHV) !== 0) {
      if (data >>> 16 !== 0) {
        return this.block(FAULT.IR_REQUEST_RESERVED, requesterId, false);
      }
      index += extract(data, REMAPPABLE_DATA.SUBHANDLE);
    }
    this.index = index;
    if (index >= 2 ** this.log2Entries) {
      return this.block(FAULT.IR_INDEX, requesterId, false);
    }
    const entry = this.cache.find(index) ?? this.fetch(index);
    if (entry.reason !== 0) {
      return this.block(entry.reason, requesterId, entry.faultsDisabled);
    }
    if (!isSourceAllowed(entry, requesterId)) {
      return this.block(FAULT.IR_SOURCE_ID, requesterId, entry.faultsDisabled);
    }
    this.found = entry;
    this.compose(entry);
    return INTERRUPT_REMAPPED;
  }

  /** Drops all entries of the cache. */
  invalidateAll(): void {
    this.cache.dropAll();
  }

  /** Drops the 2^`mask` entries around an index (table 25). */
  invalidateEntries(index: number, mask: number): void {
    if (mask >= 16) {
      this.cache.dropAll();
    } else {
      this.cache.dropBlock(index, mask);
    }
  }

  /** Reads an entry; holds it unless it faults. */
  private fetch(index: number): IrteView {
    const view = new IrteView();
    const address = this.table + index * IRTE_BYTES;
    // Reason 21h: the entry's address is beyond the host's width.
    if (address >= 2 ** this.features.hostAddressBits) {
      view.reason = FAULT.IR_INDEX;
      return view;
    }
    if (!loadWords(this.memory, address, this.features.hostAddressBits, this.words, IRTE_WORDS)) {
      view.reason = FAULT.IR_ACCESS;
    } else if (decodeIrte(this.words, this.extended, view) === 0) {
      this.cache.hold(index, view);
    }
    return view;
  }

  /**
   * The message that the entry describes. A destination's bits 31:8 are in bits 31:8 of the address's high word,
   * where local APICs in x2APIC mode take them from.
   */
  private compose(entry: IrteView): void {
    let address = MESSAGE_BASE;
    address = deposit(address, MESSAGE_ADDRESS.DESTINATION, entry.destination & 0xff);
    address = deposit(address, MESSAGE_ADDRESS.DM, entry.logical ? 1 : 0);
    address = deposit(address, MESSAGE_ADDRESS.RH, entry.redirectionHint ? 1 : 0);
    let data = deposit(0, MESSAGE_DATA.VECTOR, entry.vector);
    data = deposit(data, MESSAGE_DATA.DLM, entry.deliveryMode);
    data = deposit(data, MESSAGE_DATA.TM, entry.level ? 1 : 0);
    // 5.1.4: the level is always "asserted".
    data = deposit(data, MESSAGE_DATA.LEVEL, 1);
    this.outAddressHigh = entry.destination & ~0xff;
    this.outAddressLow = address;
    this.outData = data;
  }

  private block(reason: number, requesterId: number, faultsDisabled: boolean): number {
    this.reason = reason;
    this.hasFault = !(faultsDisabled && isQualified(reason));
    if (this.hasFault) {
      const request = this.request;
      request.source = requesterId;
      // 11.4.7.6 FI: bits 63:48 are the index where there is one.
      request.high = this.index < 0 ? 0 : (this.index & 0xffff) << 16;
      fillFault(this.record, reason, request, false, false);
    }
    return INTERRUPT_BLOCKED;
  }
}
