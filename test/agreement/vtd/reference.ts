/**
 * A third opinion on translation cases: the architecture's lookup of an untranslated request without PASID, written
 * anew and plainly (Intel VT-d 5.10, chapters 3, 7 and 9), with switches that turn single rules into what QEMU does. With
 * all switches off it has to say what viommu shows; a difference of QEMU is explained only where the switches of its
 * version say exactly what that QEMU shows.
 */
import type { Observation } from "../agreement.js";
import { Elsewhere, type Quirks } from "../translation-agreement.js";
import type { Access, VtdCase } from "./image.js";
import { DATA, isRestored, isSafe, RAM } from "./layout.js";
import type { Offer } from "./machines.js";

/** Rows of docs/differences.md that translation can show. */
export const QUIRKS = [
  "V-5", "V-6", "V-7", "V-8", "V-9", "V-10", "V-11", "V-12", "V-13", "V-14", "V-15", "V-16", "V-17", "V-18", "V-19", "V-20", "V-21", "V-22", "V-23", "V-24", "V-25", "V-26", "V-27", "V-28",
] as const;
/** What it can show only after a change: while the context entry is cached, P of the PASID entry does not count. */
export const WITH_CACHED_CONTEXT = "V-44";
export type Quirk = (typeof QUIRKS)[number] | typeof WITH_CACHED_CONTEXT;

/** How a lookup ends without an address: the reason; null: nothing is recorded. */
class Fault {
  /** V-5, V-6: what the record has in PP and PV. */
  pasid = 0n;

  constructor(readonly reason: number | null) {}
}

/** V-7: a translation that succeeded, as a QEMU keeps it. */
interface Kept {
  readonly devfn: number;
  readonly shift: number;
  readonly iova: bigint;
  readonly output: bigint;
  readonly writable: boolean;
  readonly readable: boolean;
}

/** A walk that succeeded: the address, log2 of its page's bytes, what all entries permit. */
interface Found {
  readonly output: bigint;
  readonly shift: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

const bits = (value: bigint, top: number, bottom: number): bigint => (value >> BigInt(bottom)) & ((1n << BigInt(top - bottom + 1)) - 1n);
const bit = (value: bigint, at: number): boolean => ((value >> BigInt(at)) & 1n) !== 0n;
const pageOf = (value: bigint): bigint => bits(value, 51, 12) << 12n;
/** With bits that no host has. */
const wholePageOf = (value: bigint): bigint => (value >> 12n) << 12n;

const ADDRESS = 0xf_ffff_ffff_f000n;
const indexOf = (iova: bigint, level: number): bigint => bits(iova, 20 + 9 * (level - 1), 12 + 9 * (level - 1));

/** Faults that FPD does not suppress (7.1.3, column "Qualified"). */
const UNQUALIFIED: ReadonlySet<number> = new Set([0x01, 0x08, 0x09, 0x0a, 0x30, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58]);

interface Tables {
  readonly base: bigint;
  readonly levels: number;
  readonly first: boolean;
  readonly scalable: boolean;
  /** V-22: PASID entry's AW. */
  readonly width: bigint;
}

/** What the structures say of a request: its tables, or pass-through. */
interface Route {
  readonly tables: Tables | null;
  readonly scalable: boolean;
  /** Of requests without PASID. */
  readonly pasid: bigint;
}

/** What the machine shows for a case. @throws Elsewhere */
export function predictVtd(one: VtdCase, offer: Offer, quirks: Quirks<Quirk>): Observation {
  return new Reference(one, offer, quirks).play();
}

class Reference {
  /** Bytes that devices have written, and flags that walks have set. */
  private readonly written = new Map<number, number>();
  private readonly kept: Kept[] = [];
  private faultsDisabled = false;

  constructor(
    private readonly one: VtdCase,
    private readonly offer: Offer,
    private readonly quirks: Quirks<Quirk>,
  ) {}

  play(): Observation {
    const out: Observation = {};
    for (const [n, access] of this.one.accesses.entries()) {
      out[`access ${n}`] = this.access(access);
    }
    out.entries = this.one.watched.map((address) => (this.word(BigInt(address)) ?? 0n).toString(16)).join(" ");
    return out;
  }

  // ---- memory and devices ----

  private exists(address: bigint): boolean {
    if (!isSafe(address)) {
      throw new Elsewhere();
    }
    return address < BigInt(RAM.base + RAM.size);
  }

  private byte(address: number): number {
    const written = this.written.get(address);
    if (written !== undefined) {
      return written;
    }
    if (address >= DATA.base && address < DATA.base + DATA.size) {
      return ((address & ~3) >>> (8 * (address & 3))) & 0xff;
    }
    return Number(((this.one.words.get(address - (address % 8)) ?? 0n) >> BigInt(8 * (address % 8))) & 0xffn);
  }

  /** 64 bits at a physical address; null where nothing answers. */
  private word(address: bigint): bigint | null {
    if (!this.exists(address)) {
      return null;
    }
    let value = 0n;
    for (let n = 7; n >= 0; n--) {
      value = (value << 8n) | BigInt(this.byte(Number(address) + n));
    }
    return value;
  }

  private structure(address: bigint, count: number): bigint[] | null {
    const words = Array.from({ length: count }, (_unused, n) => this.word(address + BigInt(8 * n)));
    return words.includes(null) ? null : (words as bigint[]);
  }

  private access({ device, devfn, write, iova, length, expected }: Access): string {
    const answer = this.lookup(devfn, iova, write);
    const pattern = (n: number): number => (device === "testdev" ? (0x1234_5678 >>> (8 * (n & 3))) & 0xff : 0xa5);
    const ok = !(answer instanceof Fault) && this.exists(answer);
    const read: number[] = [];
    for (let n = 0; n < length; n++) {
      if (!ok) {
        read.push(0);
      } else if (write) {
        if (!isRestored(answer + BigInt(n))) {
          throw new Elsewhere();
        }
        this.written.set(Number(answer) + n, pattern(n));
      } else {
        read.push(this.byte(Number(answer) + n));
      }
    }
    let result = Buffer.from(read).toString("hex");
    if (write) {
      const found = Array.from({ length }, (_unused, n) => this.byte(expected + n));
      result = device === "edu" ? Buffer.from(found).toString("hex") : !ok ? "dead0002" : found.every((byte, n) => byte === pattern(n)) ? "0" : "dead0004";
    }
    const recorded = answer instanceof Fault ? this.record(answer, devfn, iova, write) : null;
    return recorded === null ? result : `${result}; ${recorded}`;
  }

  /** The fault recording register (11.4.7.6): FI, SID, FR, T1, F. Null: nothing is recorded. */
  private record({ reason, pasid }: Fault, devfn: number, iova: bigint, write: boolean): string | null {
    if (reason === null || (this.faultsDisabled && !UNQUALIFIED.has(reason) && !(reason === 0x0b && this.quirks.has("V-9")))) {
      return null;
    }
    const high = BigInt(devfn) | (BigInt(reason) << 32n) | (write ? 0n : 1n << 62n) | (1n << 63n) | pasid;
    return printRecord(high, (iova >> 12n) << 12n);
  }

  // ---- lookup ----

  private lookup(devfn: number, iova: bigint, write: boolean): bigint | Fault {
    this.faultsDisabled = false;
    const { one, offer } = this;
    if (!one.enabled) {
      return iova;
    }
    let mode = offer.scalableMode ? Number(bits(one.rootTable, 11, 10)) : 0;
    if (mode > 1) {
      if (!this.quirks.has("V-23")) {
        return new Fault(0x30);
      }
      mode &= 1;
    }
    const root = pageOf(one.rootTable) & ((1n << BigInt(offer.awBits)) - 1n);
    const route = mode === 0 ? this.legacy(root, devfn) : this.scalable(root, devfn);
    if (route instanceof Fault) {
      return route;
    }
    const { tables } = route;
    if (tables === null) {
      if (iova >> BigInt(offer.awBits) !== 0n && !this.quirks.has("V-8")) {
        return new Fault(route.scalable ? 0x83 : 0x04);
      }
      return iova;
    }
    const hit = this.kept.find((one) => one.devfn === devfn && iova >> BigInt(one.shift) === one.iova >> BigInt(one.shift));
    if (hit !== undefined) {
      return (write ? hit.writable : hit.readable) ? hit.output | (iova & ((1n << BigInt(hit.shift)) - 1n)) : new Fault(null);
    }
    const found = this.walk(tables, iova, write);
    if (found instanceof Fault) {
      if (route.scalable && this.quirks.has("V-6")) {
        found.pasid = (1n << 31n) | ((this.quirks.has("V-5") ? route.pasid & 0xffffn : route.pasid) << 40n);
      } else if (!route.scalable && this.quirks.has("V-5")) {
        found.pasid = 0xffffn << 40n;
      }
      return found;
    }
    if (this.quirks.has("V-7")) {
      const { shift, readable, writable } = found;
      this.kept.push({ devfn, shift, iova, output: (found.output >> BigInt(shift)) << BigInt(shift), readable, writable });
    }
    return found.output;
  }

  private walk(tables: Tables, iova: bigint, write: boolean): Found | Fault {
    const found = tables.first ? this.firstStage(tables, iova, write) : this.secondStage(tables, iova, write);
    if (found instanceof Fault) {
      return found;
    }
    // A page may be larger than the range, or not.
    const [first, last] = this.quirks.has("V-12") ? [(found.output >> BigInt(found.shift)) << BigInt(found.shift), found.output | ((1n << BigInt(found.shift)) - 1n)] : [found.output, found.output];
    if (first <= 0xfeef_ffffn && last >= 0xfee0_0000n) {
      const scalable = this.quirks.has("V-13") ? this.offer.scalableMode : tables.scalable;
      return new Fault(scalable ? 0x87 : 0x0e);
    }
    return found;
  }

  /** Address bits from the host's width on. */
  private get beyond(): bigint {
    return ((1n << 64n) - 1n) ^ ((1n << BigInt(this.offer.awBits)) - 1n);
  }

  private levelsOf(aw: bigint): number | null {
    return aw === 1n ? 3 : aw === 2n && this.offer.awBits === 48 ? 4 : null;
  }

  private legacy(table: bigint, devfn: number): Route | Fault {
    const root = this.structure(table, 2);
    if (root === null) {
      return new Fault(0x08);
    }
    if (!bit(root[0], 0)) {
      return new Fault(0x01);
    }
    if ((root[0] & (this.beyond | 0xffen)) !== 0n || root[1] !== 0n) {
      return new Fault(0x0a);
    }
    const context = this.structure(pageOf(root[0]) + BigInt(16 * devfn), 2);
    if (context === null) {
      return new Fault(0x09);
    }
    const [low, high] = context;
    this.faultsDisabled = bit(low, 1);
    if (!bit(low, 0)) {
      return new Fault(0x02);
    }
    const type = Number(bits(low, 3, 2));
    const reserved = 0xff0n | (type === 2 && !this.quirks.has("V-10") ? 0n : this.beyond);
    if ((low & reserved) !== 0n || (high & ~0xff_ff7fn) !== 0n) {
      return new Fault(0x0b);
    }
    const levels = this.levelsOf(bits(high, 2, 0));
    if (type === 3 || (type === 1 && !this.offer.deviceIotlb) || levels === null) {
      return new Fault(0x03);
    }
    return { scalable: false, pasid: 0n, tables: type === 2 ? null : { base: pageOf(low), levels, first: false, scalable: false, width: 0n } };
  }

  private scalable(table: bigint, devfn: number): Route | Fault {
    const quirks = this.quirks;
    const reasons = quirks.has("V-14") ? [0x08, 0x01, 0x0a, 0x09, 0x02, 0x0b] : [0x38, 0x39, 0x3a, 0x40, 0x41, 0x42];
    const root = this.structure(table, 2);
    if (root === null) {
      return new Fault(reasons[0]);
    }
    const half = root[devfn >> 7];
    if (!bit(half, 0)) {
      return new Fault(reasons[1]);
    }
    if (((quirks.has("V-16") ? root[0] | root[1] : half) & (this.beyond | 0xffen)) !== 0n) {
      return new Fault(reasons[2]);
    }
    const context = this.structure(pageOf(half) + BigInt(32 * (devfn & 0x7f)), 4);
    if (context === null) {
      return new Fault(reasons[3]);
    }
    this.faultsDisabled = bit(context[0], 1);
    if (!bit(context[0], 0)) {
      return new Fault(reasons[4]);
    }
    const { deviceIotlb, pasidBits } = this.offer;
    const loose = quirks.has("V-17");
    // PRE needs page requests; RID_PASID and RID_PRIV need ECAP.RPS and RPRIVS.
    const reserved = this.beyond | 0x1e0n | (loose ? 0n : 0x10n | (deviceIotlb ? 0n : 4n) | (pasidBits > 0 ? 0n : 8n));
    if ((context[0] & reserved) !== 0n || (context[1] & (loose ? ~0x1f_ffffn : -1n)) !== 0n || context[2] !== 0n || context[3] !== 0n) {
      return new Fault(reasons[5]);
    }
    const ofContext = this.faultsDisabled;
    const route = this.pasid(pageOf(context[0]), this.quirks.has("V-27") ? bits(context[1], 19, 0) : 0n);
    if (route instanceof Fault && quirks.has("V-20")) {
      this.faultsDisabled = ofContext;
    }
    return route instanceof Fault && quirks.has("V-15") ? new Fault(0x58) : route;
  }

  /** The directory and table entry of a PASID (9.5, 9.6). */
  private pasid(directories: bigint, pasid: bigint): Route | Fault {
    const directory = this.word(directories + 8n * (pasid >> 6n));
    if (directory === null) {
      return new Fault(0x50);
    }
    this.faultsDisabled ||= bit(directory, 1);
    if (!bit(directory, 0)) {
      return new Fault(0x51);
    }
    const looseDirectory = this.quirks.has("V-18");
    if ((directory & (this.beyond | 0xffcn)) !== 0n && !looseDirectory) {
      return new Fault(0x52);
    }
    const entry = this.structure((looseDirectory ? wholePageOf(directory) : pageOf(directory)) + 64n * (pasid & 63n), 8);
    if (entry === null) {
      return new Fault(0x58);
    }
    this.faultsDisabled ||= bit(entry[0], 1);
    const absent = new Fault(0x59);
    if (this.quirks.has("V-19")) {
      const route = this.routeOf(entry, pasid);
      return route instanceof Fault || bit(entry[0], 0) || this.quirks.has(WITH_CACHED_CONTEXT) ? route : absent;
    }
    if (!bit(entry[0], 0)) {
      return absent;
    }
    if (this.reservedInPasid(entry)) {
      return new Fault(0x5a);
    }
    return this.routeOf(entry, pasid);
  }

  private reservedInPasid(entry: readonly bigint[]): boolean {
    const { fsts, snoopControl } = this.offer;
    const beyond = this.beyond;
    const masks = [
      0xe20n | beyond | (fsts ? ADDRESS : 0n),
      // PWSNP, CD and EMTE, PAT need capabilities that no unit here has.
      0xffff_ffff_feff_0000n | (snoopControl ? 0n : 1n << 24n),
      // ERE, EAFE; SRE where there is no second stage that would have it; 6:5 are ignored.
      0xf82n | (fsts ? 1n : 0n) | beyond | (fsts ? 0n : ADDRESS | 0x1cn),
    ];
    return masks.some((mask, n) => (entry[n] & mask) !== 0n) || entry.slice(3).some((word) => word !== 0n);
  }

  private routeOf(entry: readonly bigint[], pasid: bigint): Route | Fault {
    const { fsts } = this.offer;
    const invalid = new Fault(0x5b);
    const width = bits(entry[0], 4, 2);
    const levels = this.levelsOf(width);
    const type = Number(bits(entry[0], 8, 6));
    const second = { base: wholePageOf(entry[0]), first: false, scalable: true, width };
    if (this.quirks.has("V-25")) {
      if (type < 1 || type > 4 || levels === null) {
        return invalid;
      }
      return { scalable: true, pasid, tables: type === 4 ? null : { ...second, levels } };
    }
    switch (type) {
      case 1:
        if (!fsts || bits(entry[2], 3, 2) !== 0n) {
          return invalid;
        }
        return { scalable: true, pasid, tables: { base: wholePageOf(entry[2]), levels: 4, first: true, scalable: true, width } };
      case 2:
        if (fsts || levels === null) {
          return invalid;
        }
        return { scalable: true, pasid, tables: { ...second, levels } };
      case 4:
        return { scalable: true, pasid, tables: null };
      default:
        return invalid;
    }
  }

  // ---- page tables ----

  /** An entry; null where it cannot be read. */
  private entry(address: bigint): bigint | null {
    const entry = this.word(address);
    return entry === (1n << 64n) - 1n && this.quirks.has("V-24") ? null : entry;
  }

  private secondStage({ base, levels, scalable: inScalable }: Tables, iova: bigint, write: boolean): Found | Fault {
    const scalable = inScalable && !this.quirks.has("V-21");
    const inputBits = Math.min(12 + 9 * levels, this.offer.awBits);
    if (iova >> BigInt(inputBits) !== 0n) {
      return new Fault(scalable ? 0x84 : 0x04);
    }
    let table = base;
    let permitted = 3n;
    /** What the request meets, if it is denied by what was walked up to here. */
    let denied: Fault | null = null;
    const refusal = new Fault(write ? (scalable ? 0x85 : 0x05) : scalable ? 0x86 : 0x06);
    for (let level = levels; ; level--) {
      const entry = this.entry(table + 8n * indexOf(iova, level));
      if (entry === null) {
        return denied ?? new Fault(level === levels ? (scalable ? 0x7b : 0x03) : scalable ? 0x78 : 0x07);
      }
      if ((entry & 3n) === 0n) {
        return denied ?? (scalable ? new Fault(0x79) : refusal);
      }
      permitted &= entry;
      if (denied === null && (permitted & (write ? 2n : 1n)) === 0n) {
        if (!scalable) {
          return refusal;
        }
        denied = refusal;
      }
      const leaf = level === 1 || (level < 4 && bit(entry, 7));
      const shift = 12 + 9 * (level - 1);
      const within = (1n << BigInt(shift)) - 1n;
      const snoops = this.offer.snoopControl || (this.offer.scalableMode && this.quirks.has("V-26"));
      const transient = leaf && this.offer.deviceIotlb && this.quirks.has("V-11") ? 0n : 1n << 62n;
      const reserved = (this.beyond & ADDRESS) | transient | (leaf && snoops ? 0n : 0x800n) | (level === 4 ? 0x80n : 0n) | (leaf ? within & ~0xfffn : 0n);
      if ((entry & reserved) !== 0n) {
        return denied ?? new Fault(scalable ? 0x7a : 0x0c);
      }
      if (leaf) {
        if (denied !== null) {
          // SSS.2: neither is permitted by all of them.
          return permitted === 0n ? new Fault(0x79) : denied;
        }
        return { output: pageOf(entry) | (iova & within), shift, readable: bit(permitted, 0), writable: bit(permitted, 1) };
      }
      table = pageOf(entry);
    }
  }

  private firstStage({ base, levels, width }: Tables, iova: bigint, write: boolean): Found | Fault {
    const signBit = BigInt(this.quirks.has("V-22") ? Math.min(30 + 9 * Number(width), this.offer.awBits) - 1 : 47);
    const top = iova >> signBit;
    if (top !== 0n && top !== (1n << (64n - signBit)) - 1n) {
      return new Fault(0x80);
    }
    let table = base;
    let writable = true;
    for (let level = levels; ; level--) {
      const address = table + 8n * indexOf(iova, level);
      const entry = this.entry(address);
      if (entry === null) {
        return new Fault(level === levels ? 0x73 : 0x70);
      }
      if (!bit(entry, 0)) {
        return new Fault(0x71);
      }
      if (!bit(entry, 2)) {
        return new Fault(0x81);
      }
      writable &&= bit(entry, 1);
      if (write && !writable) {
        return new Fault(0x85);
      }
      const large = level === 2 || (level === 3 && this.offer.fs1gp);
      const leaf = level === 1 || (large && bit(entry, 7));
      const shift = 12 + 9 * (level - 1);
      const within = (1n << BigInt(shift)) - 1n;
      const reserved = (this.beyond & ADDRESS) | (large || level === 1 ? 0n : 0x80n) | (leaf ? within & ~0x1fffn : 0n);
      if ((entry & reserved) !== 0n) {
        return new Fault(0x72);
      }
      const flags = leaf && write ? 0x60n : 0x20n;
      if (!this.quirks.has("V-28") || (entry & flags) === 0n) {
        this.mark(address, entry | flags);
      }
      if (leaf) {
        return { output: (pageOf(entry) & ~within) | (iova & within), shift, readable: true, writable };
      }
      table = pageOf(entry);
    }
  }

  /** Accessed and dirty flags (3.6.2). */
  private mark(address: bigint, entry: bigint): void {
    if (!isRestored(address)) {
      throw new Elsewhere();
    }
    for (let n = 0; n < 8; n++) {
      this.written.set(Number(address) + n, Number((entry >> BigInt(8 * n)) & 0xffn));
    }
  }
}

/** A fault recording register: reason, then both halves. */
export function printRecord(high: bigint, low: bigint): string {
  return `reason ${bits(high, 39, 32).toString(16)}: ${high.toString(16).padStart(16, "0")} ${low.toString(16).padStart(16, "0")}`;
}
