import type { VtdFeatures } from "../../../src/vtd/lookup/index.js";

/**
 * What a VT-d unit does with an untranslated request, straight from the text of Intel VT-d 5.10 (chapters 3, 7.1.3
 * and 9) in 64-bit numbers: no caches, no speed, none of the code under test.
 */
export interface OracleAnswer {
  /** 0, or the fault's reason. */
  readonly reason: number;
  /** Whether FPD on the way suppresses the report. */
  readonly quiet: boolean;
  /** With reason 0: the address; the page's size; whether it came as it went. */
  readonly out: bigint;
  readonly pageBits: number;
  readonly bypass: boolean;
  /** Permissions found: reads and writes at the request's privilege. */
  readonly readable: boolean;
  readonly writable: boolean;
}

export interface OracleRequest {
  readonly rid: number;
  /** undefined: no PASID. */
  readonly pasid: number | undefined;
  readonly address: bigint;
  readonly write: boolean;
  readonly read: boolean;
  readonly privileged: boolean;
}

/** A fault on the way. */
class Fault extends Error {
  constructor(readonly reason: number) {
    super();
  }
}

interface Leaf {
  out: bigint;
  pageBits: number;
  readable: boolean;
  writable: boolean;
}

interface Stage2 {
  pointer: bigint;
  levels: number;
  flags: boolean;
}

/** Memory as the oracle sees it: undefined where nothing answers. */
export interface OracleMemory {
  read(address: bigint): bigint | undefined;
  write(address: bigint, value: bigint): void;
}

const UNQUALIFIED = new Set([0x08, 0x01, 0x0a, 0x09, 0x29, 0x30, 0x31, 0x33, 0x34, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58]);

function bit(value: bigint, at: number): boolean {
  return ((value >> BigInt(at)) & 1n) === 1n;
}

/** Bits [top:bottom]. */
function cut(value: bigint, top: number, bottom: number): bigint {
  return (value >> BigInt(bottom)) & ((1n << BigInt(top - bottom + 1)) - 1n);
}

export class Oracle {
  private fpd = false;

  constructor(
    private readonly memory: OracleMemory,
    private readonly features: VtdFeatures,
    readonly rootTable: bigint,
    readonly scalable: boolean,
  ) {}

  ask(request: OracleRequest): OracleAnswer {
    this.fpd = false;
    const none = { out: 0n, pageBits: 0, readable: false, writable: false, bypass: false };
    try {
      const found = this.scalable ? this.scalableMode(request) : this.legacyMode(request);
      // LGN.4, SGN.8.1.
      if (found.out >= 0xfee0_0000n && found.out <= 0xfeef_ffffn) {
        throw new Fault(this.scalable ? 0x87 : 0x0e);
      }
      // The answer holds for so much around the address as is no interrupt range.
      let pageBits = found.bypass ? 32 : found.pageBits;
      for (; ; pageBits--) {
        const first = (found.out >> BigInt(pageBits)) << BigInt(pageBits);
        if (first > 0xfeef_ffffn || first + (1n << BigInt(pageBits)) <= 0xfee0_0000n) {
          break;
        }
      }
      return { reason: 0, quiet: false, ...found, pageBits };
    } catch (error) {
      if (!(error instanceof Fault)) {
        throw error;
      }
      return { reason: error.reason, quiet: this.fpd && !UNQUALIFIED.has(error.reason), ...none };
    }
  }

  /** A quadword, or the fault for one that is not there or beyond the host's width. */
  private fetch(address: bigint, reason: number): bigint {
    const value = address >> BigInt(this.features.hostAddressBits) === 0n ? this.memory.read(address) : undefined;
    if (value === undefined) {
      throw new Fault(reason);
    }
    return value;
  }

  private reserved(value: bigint, bits: readonly (readonly [number, number])[], reason: number): void {
    for (const [top, bottom] of bits) {
      if (top >= bottom && cut(value, top, bottom) !== 0n) {
        throw new Fault(reason);
      }
    }
  }

  private legacyMode(request: OracleRequest): Leaf & { bypass: boolean } {
    const haw = this.features.hostAddressBits;
    if (request.pasid !== undefined) {
      throw new Fault(0x31);
    }
    const rootAt = this.rootTable + BigInt(request.rid >> 8) * 16n;
    const root = this.fetch(rootAt, 0x08);
    const rootHigh = this.fetch(rootAt + 8n, 0x08);
    if (!bit(root, 0)) {
      throw new Fault(0x01);
    }
    this.reserved(root, [[11, 1], [63, haw]], 0x0a);
    this.reserved(rootHigh, [[63, 0]], 0x0a);
    const at = (root & ~0xfffn) + BigInt(request.rid & 0xff) * 16n;
    const low = this.fetch(at, 0x09);
    const high = this.fetch(at + 8n, 0x09);
    this.fpd = bit(low, 1);
    if (!bit(low, 0)) {
      throw new Fault(0x02);
    }
    const type = Number(cut(low, 3, 2));
    this.reserved(low, type === 2 ? [[11, 4]] : [[11, 4], [63, haw]], 0x0b);
    this.reserved(high, [[7, 7], [23, 8 + this.features.domainBits], [63, 24]], 0x0b);
    const aw = Number(cut(high, 2, 0));
    if (type === 3 || (type === 1 && !this.features.deviceTlb) || (type === 2 && !this.features.passThrough) || !this.supported(aw)) {
      throw new Fault(0x03);
    }
    if (type === 2) {
      if (request.address >> BigInt(haw) !== 0n) {
        throw new Fault(0x04);
      }
      return { out: request.address, pageBits: haw, readable: true, writable: true, bypass: true };
    }
    const stage: Stage2 = { pointer: low & ~0xfffn, levels: aw + 2, flags: false };
    if (request.address >> BigInt(this.width(stage)) !== 0n) {
      throw new Fault(0x04);
    }
    const leaf = this.secondStage(stage, request.address, request.read, request.write, {
      root: 0x03, table: 0x07, reserved: 0x0c, none: request.write ? 0x05 : 0x06, write: 0x05, read: 0x06, beyond: 0x04, combined: false,
    });
    return { ...leaf, bypass: false };
  }

  private scalableMode(request: OracleRequest): Leaf & { bypass: boolean } {
    const f = this.features;
    const haw = f.hostAddressBits;
    const upper = (request.rid & 0x80) !== 0;
    const root = this.fetch(this.rootTable + BigInt(request.rid >> 8) * 16n + (upper ? 8n : 0n), 0x38);
    if (!bit(root, 0)) {
      throw new Fault(0x39);
    }
    this.reserved(root, [[11, 1], [63, haw]], 0x3a);
    const at = (root & ~0xfffn) + BigInt(request.rid & 0x7f) * 32n;
    const ce = [0n, 8n, 16n, 24n].map((offset) => this.fetch(at + offset, 0x40));
    this.fpd = bit(ce[0], 1);
    if (!bit(ce[0], 0)) {
      throw new Fault(0x41);
    }
    this.reserved(ce[0], [[8, 5], [63, haw], f.pageRequests ? [0, 1] : [4, 4], f.pasid ? [0, 1] : [3, 3], f.deviceTlb ? [0, 1] : [2, 2]], 0x42);
    this.reserved(ce[1], [[63, 21], f.ridPrivilege ? [0, 1] : [20, 20], f.ridPasid ? [0, 1] : [19, 0]], 0x42);
    this.reserved(ce[2], [[63, 0]], 0x42);
    this.reserved(ce[3], [[63, 0]], 0x42);
    const ridPasid = Number(cut(ce[1], 19, 0));
    const limit = 64 * 2 ** (Number(cut(ce[0], 11, 9)) + 7);
    if ((bit(ce[0], 4) && !bit(ce[0], 2)) || ridPasid >= limit) {
      throw new Fault(0x43);
    }
    if (request.pasid !== undefined) {
      if (!bit(ce[0], 3)) {
        throw new Fault(0x45);
      }
      if (request.pasid >= 2 ** f.pasidBits) {
        throw new Fault(0x89);
      }
      if (request.pasid >= limit) {
        throw new Fault(0x46);
      }
      if (request.pasid === ridPasid) {
        throw new Fault(0x48);
      }
    }
    const pasid = request.pasid ?? ridPasid;
    const privileged = request.pasid === undefined ? bit(ce[1], 20) : request.privileged;
    const directory = this.fetch((ce[0] & ~0xfffn) + BigInt(pasid >> 6) * 8n, 0x50);
    this.fpd ||= bit(directory, 1);
    if (!bit(directory, 0)) {
      throw new Fault(0x51);
    }
    this.reserved(directory, [[11, 2], [63, haw]], 0x52);
    const entryAt = (directory & ~0xfffn) + BigInt(pasid & 63) * 64n;
    const pe = Array.from({ length: 8 }, (_unused, i) => this.fetch(entryAt + BigInt(i * 8), 0x58));
    this.fpd ||= bit(pe[0], 1);
    return this.pasidEntry(pe, request, privileged);
  }

  private pasidEntry(pe: readonly bigint[], request: OracleRequest, privileged: boolean): Leaf & { bypass: boolean } {
    const f = this.features;
    const haw = f.hostAddressBits;
    if (!bit(pe[0], 0)) {
      throw new Fault(0x59);
    }
    const never: readonly [number, number] = [0, 1];
    this.reserved(pe[0], [[5, 5], [11, 10], [63, f.secondStage ? haw : 12], f.secondStage && f.secondStageAccessedDirty ? never : [9, 9]], 0x5a);
    this.reserved(
      pe[1],
      [
        [15, f.domainBits],
        [22, 16],
        f.coherentWalks ? never : [23, 23],
        f.snoopControl ? never : [24, 24],
        f.memoryTypes ? never : [26, 25],
        [31, 27],
        f.memoryTypes ? never : [63, 32],
      ],
      0x5a,
    );
    this.reserved(
      pe[2],
      [
        f.supervisorRequests ? never : [0, 0],
        [1, 1],
        f.firstStage ? never : [4, 2],
        f.extendedAccessed ? never : [7, 7],
        [11, 8],
        [63, f.firstStage ? haw : 12],
      ],
      0x5a,
    );
    for (let i = 3; i < 8; i++) {
      this.reserved(pe[i], [[63, 0]], 0x5a);
    }
    const type = Number(cut(pe[0], 8, 6));
    const allowed = [false, f.firstStage, f.secondStage, f.nested, f.passThrough, false, false, false];
    const aw = Number(cut(pe[0], 4, 2));
    const mode = Number(cut(pe[2], 3, 2));
    const usesFirst = type === 1 || type === 3;
    const usesSecond = type === 2 || type === 3;
    if (!allowed[type] || (usesSecond && !this.supported(aw)) || (usesFirst && mode > (f.fiveLevels ? 1 : 0))) {
      throw new Fault(0x5b);
    }
    const second: Stage2 = { pointer: pe[0] & ~0xfffn, levels: aw + 2, flags: bit(pe[0], 9) };
    const first = pe[2] & ~0xfffn;
    if (type === 3 && first >> BigInt(this.width(second)) !== 0n) {
      throw new Fault(0x5b);
    }
    if (privileged && !bit(pe[2], 0)) {
      throw new Fault(0x5d);
    }
    if (type === 4) {
      if (request.address >> BigInt(haw) !== 0n) {
        throw new Fault(0x83);
      }
      return { out: request.address, pageBits: haw, readable: true, writable: true, bypass: true };
    }
    if (type === 2) {
      if (request.address >> BigInt(this.width(second)) !== 0n) {
        throw new Fault(0x84);
      }
      return { ...this.secondStage(second, request.address, request.read, request.write, SCALABLE), bypass: false };
    }
    return {
      ...this.firstStage(first, mode === 1 ? 5 : 4, type === 3 ? second : undefined, request, privileged, bit(pe[2], 4), bit(pe[2], 7)),
      bypass: false,
    };
  }

  private supported(aw: number): boolean {
    return aw >= 1 && aw <= 3 && (this.features.secondStageLevels & (1 << aw)) !== 0;
  }

  private width(stage: Stage2): number {
    return Math.min(12 + 9 * stage.levels, this.features.guestAddressBits);
  }

  /** 3.7: every entry needs the permission; accessed flags are set on the way, the leaf's at the end. */
  private secondStage(stage: Stage2, address: bigint, read: boolean, write: boolean, reasons: Reasons): Leaf {
    const haw = this.features.hostAddressBits;
    if (address >> BigInt(this.width(stage)) !== 0n) {
      throw new Fault(reasons.beyond);
    }
    const walk = (commit: boolean): Leaf => {
      let table = stage.pointer;
      let readable = true;
      let writable = true;
      for (let level = stage.levels; ; level--) {
        const shift = 3 + 9 * level;
        const at = table + cut(address, shift + 8, shift) * 8n;
        const entry = this.fetch(at, level === stage.levels ? reasons.root : reasons.table);
        if (cut(entry, 1, 0) === 0n) {
          throw new Fault(reasons.none);
        }
        readable &&= bit(entry, 0);
        writable &&= bit(entry, 1);
        if (commit && write && !writable) {
          throw new Fault(reasons.write);
        }
        if (commit && read && !readable) {
          throw new Fault(reasons.read);
        }
        const large = (level === 2 && this.features.secondStage2m) || (level === 3 && this.features.secondStage1g);
        const leaf = level === 1 || (large && bit(entry, 7));
        this.reserved(
          entry,
          [
            [51, haw],
            [62, 62],
            leaf && this.features.snoopControl ? [0, 1] : [11, 11],
            level > 1 && !large ? [7, 7] : [0, 1],
            leaf && level > 1 ? [shift - 1, 12] : [0, 1],
          ],
          reasons.reserved,
        );
        const flags = stage.flags ? 0x100n | (leaf && write ? 0x200n : 0n) : 0n;
        if (commit && (entry & flags) !== flags) {
          this.memory.write(at, entry | flags);
        }
        if (leaf) {
          const mask = (1n << BigInt(shift)) - 1n;
          return { out: ((cut(entry, 51, 12) << 12n) & ~mask) | (address & mask), pageBits: shift, readable, writable };
        }
        table = cut(entry, 51, 12) << 12n;
      }
    };
    try {
      return walk(true);
    } catch (error) {
      // SSS.2: neither permission is granted by all entries together. The unit does not look where flags are kept.
      if (error instanceof Fault && (error.reason === reasons.write || error.reason === reasons.read) && reasons.combined && !stage.flags) {
        let found: Leaf | undefined;
        try {
          found = walk(false);
        } catch {
          found = undefined;
        }
        if (found !== undefined && !found.readable && !found.writable) {
          throw new Fault(reasons.none);
        }
      }
      throw error;
    }
  }

  /** 3.6 and 3.8. */
  private firstStage(
    pointer: bigint,
    levels: number,
    second: Stage2 | undefined,
    request: OracleRequest,
    privileged: boolean,
    writeProtect: boolean,
    extended: boolean,
  ): Leaf {
    const { read, write, address } = request;
    const haw = this.features.hostAddressBits;
    const sign = cut(address, 63, 2 + 9 * levels + 9);
    if (sign !== 0n && sign !== (1n << BigInt(64 - (11 + 9 * levels))) - 1n) {
      throw new Fault(0x80);
    }
    let table = pointer;
    let user = true;
    let writable = true;
    for (let level = levels; ; level--) {
      const shift = 3 + 9 * level;
      const guestAt = table + cut(address, shift + 8, shift) * 8n;
      const nested: Reasons = { ...SCALABLE, beyond: 0x74, read: level === levels ? 0x75 : 0x76, combined: false };
      let at = guestAt;
      if (second !== undefined) {
        at = this.secondStage(second, guestAt, true, false, nested).out;
      }
      const entry = this.fetch(at, level === levels ? 0x73 : 0x70);
      if (!bit(entry, 0)) {
        throw new Fault(0x71);
      }
      user &&= bit(entry, 2);
      writable &&= bit(entry, 1);
      if (!privileged && !user && (read || write)) {
        throw new Fault(0x81);
      }
      if (write && !writable && (!privileged || writeProtect)) {
        throw new Fault(0x85);
      }
      const large = level === 2 || (level === 3 && this.features.firstStage1g);
      const leaf = level === 1 || (large && bit(entry, 7));
      this.reserved(
        entry,
        [[51, haw], level > 1 && !large ? [7, 7] : [0, 1], leaf && level > 1 ? [shift - 1, 13] : [0, 1]],
        0x72,
      );
      const mark = (flags: bigint): void => {
        if ((entry & flags) !== flags) {
          const place = second === undefined ? at : this.secondStage(second, guestAt, false, true, { ...nested, write: 0x77 }).out;
          this.memory.write(place, this.fetch(place, 0x91) | flags);
        }
      };
      const accessed = 0x20n | (extended ? 0x400n : 0n);
      if (!leaf) {
        mark(accessed);
        table = cut(entry, 51, 12) << 12n;
        continue;
      }
      const mask = (1n << BigInt(shift)) - 1n;
      let result: Leaf = {
        out: ((cut(entry, 51, 12) << 12n) & ~mask) | (address & mask),
        pageBits: shift,
        readable: privileged || user,
        writable: privileged ? writable || !writeProtect : user && writable,
      };
      if (second !== undefined) {
        const final = this.secondStage(second, result.out, read, write, { ...SCALABLE, beyond: 0x74 });
        result = {
          out: final.out,
          pageBits: Math.min(shift, final.pageBits),
          readable: result.readable && final.readable,
          writable: result.writable && final.writable,
        };
      }
      mark(accessed | (write ? 0x40n : 0n));
      return result;
    }
  }
}

interface Reasons {
  readonly root: number;
  readonly table: number;
  readonly reserved: number;
  readonly none: number;
  readonly write: number;
  readonly read: number;
  readonly beyond: number;
  /** Whether a translation that permits nothing has the reason of an entry that does. */
  readonly combined: boolean;
}

const SCALABLE: Reasons = { root: 0x7b, table: 0x78, reserved: 0x7a, none: 0x79, write: 0x85, read: 0x86, beyond: 0x84, combined: true };
