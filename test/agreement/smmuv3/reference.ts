/**
 * A third opinion on translation cases: the architecture's lookup written anew and plainly (Arm IHI 0070 chapters 3, 5 and 7, DDI
 * 0487 D8), with switches that turn single rules into what QEMU does. With all switches off it has to say what
 * viommu shows; a difference of QEMU is explained only where the switches of its version say exactly what that QEMU shows.
 */
import { CD, EVENT, EVENT_WORDS, get, getAddress, OAS_BITS, STE } from "../../../src/smmuv3/spec/index.js";
import type { Observation } from "../agreement.js";
import { Elsewhere, Ends, type Quirks } from "../translation-agreement.js";
import type { Access, TranslationCase } from "./image.js";
import { DATA, isRestored, isSafe, RAM } from "./layout.js";
import { EDU_DEVFN, TESTDEV_DEVFN } from "./machines.js";
import { printEvent } from "./play.js";

/** Rows of docs/differences.md that translation can show. */
export const QUIRKS = [
  "S-1", "S-7", "S-8", "S-9", "S-10", "S-11", "S-12", "S-13", "S-14", "S-15", "S-16", "S-17", "S-18", "S-19", "S-20",
  "S-21", "S-22", "S-23", "S-24", "S-25", "S-26", "S-27", "S-28", "S-29", "S-30", "S-31", "S-32", "S-33", "S-34", "S-35", "S-36", "S-37", "S-38", "S-3", "S-47", "S-48",
] as const;
export type Quirk = (typeof QUIRKS)[number];

const OAS = 44;
const CLASS_CD = 0;
const CLASS_TT = 1;
const CLASS_IN = 2;

/** How a lookup ends without an address: the record, or null where none is written. */
class Fault {
  constructor(readonly record: Int32Array | null) {}
}

interface Stage {
  readonly stage: 1 | 2;
  readonly granuleBits: number;
  readonly inputBits: number;
  readonly startLevel: number;
  readonly base: bigint;
  readonly outputBits: number;
  readonly accessFlagFaults: boolean;
  readonly hierarchical: boolean;
}

interface Config {
  readonly bypass: boolean;
  readonly stage2: Stage | null;
  /** Stage 1's two ranges; null where walks of it are disabled. */
  readonly ranges: readonly [Stage | null, Stage | null] | null;
  readonly cd: Int32Array;
  readonly ste: Int32Array;
}

/** A translation that succeeded: its aligned region, and what the leaves alone permit. */
interface Kept {
  readonly iova: bigint;
  readonly shift: number;
  readonly output: bigint;
  readonly writable1: boolean;
  /** S2AP. */
  readonly access2: bigint;
}

interface Transaction {
  readonly sid: number;
  readonly iova: bigint;
  readonly write: boolean;
}

const bits = (value: bigint, top: number, bottom: number): bigint => (value >> BigInt(bottom)) & ((1n << BigInt(top - bottom + 1)) - 1n);
const alignDown = (value: bigint, to: number): bigint => (value >> BigInt(to)) << BigInt(to);

/** What the machine shows for a case. @throws Ends, Elsewhere */
export function predict(one: TranslationCase, stages: "1" | "2" | "nested", quirks: Quirks<Quirk>): Observation {
  return new Reference(one, stages, quirks).play();
}

class Reference {
  /** What devices have written. */
  private readonly written = new Map<number, number>();
  /** S-22: what a QEMU keeps of translations that succeeded. */
  private readonly kept: Kept[] = [];

  constructor(
    private readonly one: TranslationCase,
    private readonly stages: "1" | "2" | "nested",
    private readonly quirks: Quirks<Quirk>,
  ) {}

  play(): Observation {
    const out: Observation = { gerror: "0", cons: "0" };
    for (const [n, access] of this.one.accesses.entries()) {
      out[`access ${n}`] = this.access(access);
    }
    return out;
  }

  // ---- memory and devices ----

  private exists(address: bigint): boolean {
    if (!isSafe(address)) {
      throw new Elsewhere();
    }
    return address >= BigInt(RAM.base) && address < BigInt(RAM.base + RAM.size);
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

  private structure(address: bigint): Int32Array | null {
    const words = new Int32Array(16);
    for (let n = 0; n < 16; n += 2) {
      const word = this.word(address + BigInt(4 * n));
      if (word === null) {
        return null;
      }
      words[n] = Number(BigInt.asIntN(32, word));
      words[n + 1] = Number(BigInt.asIntN(32, word >> 32n));
    }
    return words;
  }

  private access({ device, write, iova, length, expected }: Access): string {
    const records: string[] = [];
    let ok = true;
    const read: number[] = [];
    const pattern = (n: number): number => (device === "testdev" ? (0x1234_5678 >>> (8 * (n & 3))) & 0xff : 0xa5);
    for (let done = 0; done < length; ) {
      const at = iova + BigInt(done);
      const answer = this.lookup({ sid: device === "edu" ? EDU_DEVFN : TESTDEV_DEVFN, iova: at, write });
      let step = length - done;
      if (answer instanceof Fault || !this.exists(answer)) {
        ok = false;
        if (answer instanceof Fault && answer.record !== null) {
          records.push(printEvent(answer.record));
        }
        // The memory core takes what nothing answers in pieces of at most 4 bytes, each translated for itself.
        step = this.quirks.has("S-8") ? pieceOf(at, step) : step;
        read.push(...new Array<number>(step).fill(0));
      } else {
        for (let n = 0; n < step; n++) {
          if (write) {
            if (!isRestored(answer + BigInt(n))) {
              throw new Elsewhere();
            }
            this.written.set(Number(answer) + n, pattern(done + n));
          } else {
            read.push(this.byte(Number(answer) + n));
          }
        }
      }
      done += step;
    }
    let result = Buffer.from(read).toString("hex");
    if (write) {
      const found = Array.from({ length }, (_unused, n) => this.byte(expected + n));
      result = device === "edu" ? Buffer.from(found).toString("hex") : !ok ? "dead0002" : found.every((byte, n) => byte === pattern(n)) ? "0" : "dead0004";
    }
    return [result, ...records].join("; ");
  }

  // ---- lookup ----

  private lookup(transaction: Transaction): bigint | Fault {
    const { registers } = this.one;
    if (this.quirks.has("S-33") && transaction.iova >> 48n !== 0n) {
      return new Fault(null);
    }
    if (!registers.enabled) {
      return registers.globalAbort && !this.quirks.has("S-3") ? new Fault(null) : transaction.iova;
    }
    const ste = this.fetchSte(transaction);
    if (ste instanceof Fault) {
      return ste;
    }
    const config = this.configure(transaction, ste);
    if (config instanceof Fault) {
      return config;
    }
    return this.translate(transaction, config);
  }

  private record(number: number, { sid }: Transaction): Int32Array {
    const record = new Int32Array(EVENT_WORDS);
    record[0] = number;
    record[1] = sid;
    return record;
  }

  private fetchFault(number: number, transaction: Transaction, address: bigint): Fault {
    const record = this.record(number, transaction);
    const at = number === EVENT.F_CD_FETCH && this.quirks.has("S-17") ? 4 : 6;
    record[at] = Number(BigInt.asIntN(32, address));
    record[at + 1] = Number(BigInt.asIntN(32, address >> 32n));
    return new Fault(record);
  }

  private badStream(transaction: Transaction): Fault {
    const recorded = this.one.registers.recordInvalidStreams || this.quirks.has("S-13");
    return new Fault(recorded ? this.record(EVENT.C_BAD_STREAMID, transaction) : null);
  }

  private fetchSte(transaction: Transaction): Int32Array | Fault {
    const { strtabBase, strtabBaseConfig } = this.one.registers;
    const log2Size = strtabBaseConfig & 0x3f;
    const { sid } = transaction;
    if (sid >= 2 ** Math.min(16, log2Size)) {
      return this.badStream(transaction);
    }
    // 6.3.24: bits beyond the OAS are RES0.
    const base = bits(strtabBase, this.quirks.has("S-1") ? 51 : OAS - 1, 6) << 6n;
    let address: bigint;
    if (strtabBaseConfig >> 16 === 1) {
      const raw = (strtabBaseConfig >> 6) & 0x1f;
      const split = raw === 8 || raw === 10 || this.quirks.has("S-15") ? raw : 6;
      const first = alignDown(base, this.quirks.has("S-38") ? Math.max(5, log2Size - split + 2) : Math.max(6, log2Size - split + 3)) + 8n * BigInt(sid >> split);
      const descriptor = first < 1n << BigInt(OAS) ? this.word(first) : null;
      if (descriptor === null) {
        return this.fetchFault(EVENT.F_STE_FETCH, transaction, first);
      }
      const span = Number(descriptor & 0x1fn);
      const index = sid & ((1 << split) - 1);
      if (this.quirks.has("S-14")) {
        if (span === 0 || (span > split + 1 && !this.quirks.has("S-37"))) {
          return this.badStream(transaction);
        }
        if (index > 2 ** span - 1) {
          return new Fault(this.record(EVENT.C_BAD_STE, transaction));
        }
      } else if (span === 0 || span > 11 || span > split + 1 || index >= 2 ** (span - 1)) {
        return this.badStream(transaction);
      }
      address = alignDown(bits(descriptor, 55, 6) << 6n, this.quirks.has("S-37") ? 6 : 5 + span) + 64n * BigInt(index);
    } else {
      address = alignDown(base, log2Size + (this.quirks.has("S-38") ? 5 : 6)) + 64n * BigInt(sid);
    }
    const ste = address < 1n << BigInt(OAS) ? this.structure(address) : null;
    return ste ?? this.fetchFault(EVENT.F_STE_FETCH, transaction, address);
  }

  /** STE and CD, judged (5.2.2, 5.4.2). */
  private configure(transaction: Transaction, ste: Int32Array): Config | Fault {
    const bad = new Fault(this.record(EVENT.C_BAD_STE, transaction));
    if (get(ste, STE.V) === 0) {
      return bad;
    }
    const config = get(ste, STE.CONFIG);
    const none = { stage2: null, ranges: null, cd: new Int32Array(16), ste };
    if (config < 4) {
      return new Fault(null);
    }
    if (config === 4) {
      return { ...none, bypass: true };
    }
    if (((config & 1) !== 0 && this.stages === "2") || ((config & 2) !== 0 && this.stages === "1")) {
      return bad;
    }
    if (((config & 1) !== 0 || this.quirks.has("S-23")) && get(ste, STE.S1STALLD) !== 0) {
      return bad;
    }
    if (this.quirks.has("S-23") && get(ste, STE.S1CDMAX) !== 0) {
      return bad;
    }
    if ((config & 1) !== 0 && !this.quirks.has("S-18") && getAddress(ste, STE.S1CONTEXTPTR) >= 2 ** OAS) {
      return bad;
    }
    let stage2: Stage | null = null;
    if ((config & 2) !== 0) {
      stage2 = this.stage2(ste);
      if (stage2 === null) {
        return bad;
      }
    }
    if ((config & 1) === 0) {
      return { ...none, stage2, bypass: false };
    }
    const cd = this.fetchCd(transaction, ste, stage2);
    if (cd instanceof Fault) {
      return cd;
    }
    const ranges = this.ranges(cd, (base) =>
      stage2 === null || !this.quirks.has("S-26") ? base : this.walk2(this.asRead(transaction), ste, stage2, base, false, CLASS_TT),
    );
    if (ranges === null) {
      return new Fault(this.record(EVENT.C_BAD_CD, transaction));
    }
    return ranges instanceof Fault ? ranges : { bypass: false, stage2, ranges, cd, ste };
  }

  private stage2(ste: Int32Array): Stage | null {
    if (get(ste, STE.S2AA64) === 0) {
      if (this.quirks.has("S-7")) {
        throw new Ends();
      }
      return null;
    }
    const granuleBits = [12, 16, 14, 0][get(ste, STE.S2TG)];
    const outputBits = Math.min(OAS, OAS_BITS[get(ste, STE.S2PS)]);
    const base = bits(BigInt(getAddress(ste, STE.S2TTB)), this.quirks.has("S-32") ? 51 : 55, 0);
    const size = get(ste, STE.S2T0SZ);
    const level = startLevel2(granuleBits, get(ste, STE.S2SL0), size, !this.quirks.has("S-20"));
    const least = this.quirks.has("S-19") ? 64 - outputBits : 64 - OAS;
    if (
      get(ste, STE.S2S) !== 0 || (!this.quirks.has("S-25") && (get(ste, STE.S2HA) !== 0 || get(ste, STE.S2HD) !== 0)) || granuleBits === 0 || base >> BigInt(outputBits) !== 0n ||
      size < Math.max(16, least) || size > 39 || level === null || get(ste, STE.S2ENDI) !== 0
    ) {
      return null;
    }
    return { stage: 2, granuleBits, inputBits: 64 - size, startLevel: level, base, outputBits, accessFlagFaults: get(ste, STE.S2AFFD) === 0, hierarchical: false };
  }

  private fetchCd(transaction: Transaction, ste: Int32Array, stage2: Stage | null): Int32Array | Fault {
    let address = bits(BigInt(getAddress(ste, STE.S1CONTEXTPTR)), this.quirks.has("S-47") ? 47 : 63, 0);
    if (stage2 !== null) {
      if (this.quirks.has("S-18") && address >> BigInt(OAS) !== 0n) {
        return new Fault(null);
      }
      const translated = this.walk2(this.asRead(transaction), ste, stage2, address, false, CLASS_CD);
      if (translated instanceof Fault) {
        return translated;
      }
      address = translated;
    }
    return this.structure(address) ?? this.fetchFault(EVENT.F_CD_FETCH, transaction, address);
  }

  private asRead(transaction: Transaction): Transaction {
    return this.quirks.has("S-30") ? { ...transaction, write: false } : transaction;
  }

  /** Null: C_BAD_CD. `place` says where a first table is. */
  private ranges(cd: Int32Array, place: (base: bigint) => bigint | Fault): [Stage | null, Stage | null] | null | Fault {
    if (get(cd, CD.V) === 0 || get(cd, CD.AA64) === 0 || get(cd, CD.A) === 0 || get(cd, CD.S) !== 0 || get(cd, CD.HA) !== 0 || get(cd, CD.HD) !== 0) {
      return null;
    }
    if (this.quirks.has("S-7") && get(cd, CD.IPS) > 5) {
      throw new Ends();
    }
    const outputBits = Math.min(OAS, OAS_BITS[get(cd, CD.IPS)]);
    const out: [Stage | null, Stage | null] = [null, null];
    const fields = [
      { off: CD.EPD0, granule: [12, 16, 14, 0][get(cd, CD.TG0)], size: CD.T0SZ, base: CD.TTB0, flat: CD.HAD0 },
      { off: CD.EPD1, granule: [0, 14, 12, 16][get(cd, CD.TG1)], size: CD.T1SZ, base: CD.TTB1, flat: CD.HAD1 },
    ];
    for (const [n, { off, granule, size, base, flat }] of fields.entries()) {
      if (get(cd, off) !== 0) {
        continue;
      }
      const tsz = get(cd, size);
      const ttb = bits(BigInt(getAddress(cd, base)), this.quirks.has("S-32") ? 50 : 55, 0);
      if (get(cd, CD.ENDI) !== 0 || granule === 0 || tsz < 16 || tsz > 39 || ttb >> BigInt(outputBits) !== 0n) {
        return null;
      }
      const placed = place(ttb);
      if (placed instanceof Fault) {
        return placed;
      }
      const inputBits = 64 - tsz;
      const startLevel = 4 - Math.ceil((inputBits - granule) / (granule - 3));
      out[n] = { stage: 1, granuleBits: granule, inputBits, startLevel, base: this.quirks.has("S-26") ? bits(placed, outputBits - 1, 0) : placed, outputBits, accessFlagFaults: get(cd, CD.AFFD) === 0, hierarchical: get(cd, flat) === 0 };
    }
    return out;
  }

  // ---- translation ----

  private translate(transaction: Transaction, config: Config): bigint | Fault {
    const { iova, write } = transaction;
    const { ste, stage2, ranges, cd } = config;
    if (ranges === null) {
      if (iova >> BigInt(OAS) !== 0n) {
        if (this.quirks.has("S-16")) {
          return config.bypass ? iova : new Fault(null);
        }
        return new Fault(this.fault(EVENT.F_ADDR_SIZE, transaction, 1, CLASS_IN));
      }
      if (stage2 === null) {
        return iova;
      }
      const kept = this.keptFor(iova);
      if (kept !== undefined) {
        return bits(kept.access2, write ? 1 : 0, write ? 1 : 0) === 1n ? kept.output | bits(iova, kept.shift - 1, 0) : new Fault(null);
      }
      return this.walk2(transaction, ste, stage2, iova, write, CLASS_IN, { iova, shift: 64, writable1: true });
    }
    const recorded = get(cd, CD.R) !== 0;
    const stage1Fault = (number: number): Fault => new Fault(recorded ? this.fault(number, transaction, 1, CLASS_IN) : null);
    const upper = bits(iova, 55, 55) === 1n;
    const tagged = get(cd, upper && !this.quirks.has("S-21") ? CD.TBI1 : CD.TBI0) !== 0;
    const above = (size: number): bigint => bits(iova, tagged ? 55 : 63, Math.min(55, 64 - size));
    const ones = (size: number): bigint => (1n << BigInt((tagged ? 55 : 63) - Math.min(55, 64 - size) + 1)) - 1n;
    const size = get(cd, upper ? CD.T1SZ : CD.T0SZ);
    let stage = ranges[upper ? 1 : 0];
    if (stage === null || above(size) !== (upper ? ones(size) : 0n)) {
      stage = this.quirks.has("S-48") && !upper && above(get(cd, CD.T1SZ)) === 0n ? ranges[1] : null;
    }
    if (stage === null) {
      return stage1Fault(EVENT.F_TRANSLATION);
    }
    const kept = this.keptFor(iova);
    if (kept !== undefined) {
      if (!write || (kept.writable1 && kept.access2 >= 2n)) {
        return kept.output | bits(iova, kept.shift - 1, 0);
      }
      return kept.writable1 ? new Fault(get(ste, STE.S2R) === 0 ? null : this.fault(EVENT.F_PERMISSION, transaction, 2, CLASS_IN)) : stage1Fault(EVENT.F_PERMISSION);
    }
    return this.walk1(transaction, config, stage, stage1Fault);
  }

  private keptFor(iova: bigint): Kept | undefined {
    return this.quirks.has("S-22") ? this.kept.find((entry) => iova >> BigInt(entry.shift) === entry.iova) : undefined;
  }

  private keep(iova: bigint, shift: number, physical: bigint, writable1: boolean, access2: bigint): void {
    this.kept.push({ iova: iova >> BigInt(shift), shift, output: alignDown(physical, shift), writable1, access2 });
  }

  /** Where a stage-1 descriptor of a nested walk is, seen by its table and index. */
  private descriptorAddress(transaction: Transaction, { ste, stage2, cd }: Config, stage: Stage, table: bigint, index: bigint, first: boolean): bigint | Fault {
    const address = table + 8n * index;
    if (stage2 === null) {
      return address;
    }
    if (!this.quirks.has("S-27")) {
      return this.walk2(transaction, ste, stage2, address, false, CLASS_TT);
    }
    if (first && this.quirks.has("S-26")) {
      return address;
    }
    // The table's address goes through stage 2, its descriptors follow in physical memory.
    const whole = { recorded: get(cd, CD.R) !== 0, outputBits: stage.outputBits };
    const translated = this.walk2(transaction, ste, stage2, table, false, CLASS_TT, undefined, this.quirks.has("S-28") ? whole : undefined);
    return translated instanceof Fault ? translated : translated + 8n * index;
  }

  private walk1(transaction: Transaction, config: Config, stage: Stage, stage1Fault: (number: number) => Fault): bigint | Fault {
    const { iova, write } = transaction;
    const { ste, stage2 } = config;
    const input = bits(iova, stage.inputBits - 1, 0);
    let table = stage.base;
    let tableBits = Math.max(4, stage.inputBits - shiftOf(stage.granuleBits, stage.startLevel) + 3);
    let readOnly = false;
    let unprivileged = true;
    for (let level = stage.startLevel; ; level++) {
      const shift = shiftOf(stage.granuleBits, level);
      const index = bits(input, level === stage.startLevel ? stage.inputBits - 1 : shift + stage.granuleBits - 4, shift);
      const address = this.descriptorAddress(transaction, config, stage, alignDown(table, tableBits), index, level === stage.startLevel);
      if (address instanceof Fault) {
        return address;
      }
      const descriptor = this.word(address);
      if (descriptor === null) {
        return this.walkAbort(transaction, 1, CLASS_TT, address);
      }
      const kind = Number(descriptor & 3n);
      if ((kind & 1) === 0 || (kind === 1 && !this.hasBlock(stage.granuleBits, level))) {
        return stage1Fault(EVENT.F_TRANSLATION);
      }
      const isTable = kind === 3 && level < 3;
      const output = alignDown(bits(descriptor, 47, 0), isTable ? stage.granuleBits : shift);
      const large = output >> BigInt(stage.outputBits) !== 0n;
      if (large && !this.quirks.has("S-12")) {
        return stage1Fault(EVENT.F_ADDR_SIZE);
      }
      if (isTable) {
        if (stage.hierarchical && bits(descriptor, 62, 62) === 1n) {
          readOnly = true;
          if (this.quirks.has("S-11") && write) {
            return stage1Fault(EVENT.F_PERMISSION);
          }
        }
        unprivileged &&= !stage.hierarchical || bits(descriptor, 61, 61) === 0n;
        table = output;
        tableBits = stage.granuleBits;
        continue;
      }
      if (stage.accessFlagFaults && bits(descriptor, 10, 10) === 0n && !this.quirks.has("S-35")) {
        return stage1Fault(EVENT.F_ACCESS);
      }
      readOnly ||= bits(descriptor, 7, 7) === 1n;
      unprivileged &&= bits(descriptor, 6, 6) === 1n;
      if ((write && readOnly) || (!unprivileged && !this.quirks.has("S-10"))) {
        return stage1Fault(EVENT.F_PERMISSION);
      }
      if (large && !this.quirks.has("S-36")) {
        return stage1Fault(EVENT.F_ADDR_SIZE);
      }
      const result = output | bits(input, shift - 1, 0);
      const writable1 = bits(descriptor, 7, 7) === 0n;
      if (stage2 !== null) {
        return this.walk2(transaction, ste, stage2, result, write, CLASS_IN, { iova, shift, writable1 });
      }
      this.keep(iova, shift, result, writable1, 3n);
      return result;
    }
  }

  /**
   * @param keep the input, and what stage 1 says about it, where the result is kept
   * @param asStage1 S-28: a fault is shown as one of stage 1 with these
   */
  private walk2(
    transaction: Transaction,
    ste: Int32Array,
    stage: Stage,
    ipa: bigint,
    write: boolean,
    faultClass: number,
    keep?: { readonly iova: bigint; readonly shift: number; readonly writable1: boolean },
    asStage1?: { readonly recorded: boolean; readonly outputBits: number },
  ): bigint | Fault {
    const recorded = asStage1?.recorded ?? get(ste, STE.S2R) !== 0;
    const fail = (number: number): Fault => new Fault(recorded ? this.fault(number, transaction, asStage1 === undefined ? 2 : 1, faultClass, ipa) : null);
    if (asStage1 !== undefined && ipa >> BigInt(asStage1.outputBits) !== 0n) {
      return fail(EVENT.F_ADDR_SIZE);
    }
    if (ipa >> BigInt(stage.inputBits) !== 0n) {
      return fail(EVENT.F_TRANSLATION);
    }
    let table = stage.base;
    let tableBits = Math.max(4, stage.inputBits - shiftOf(stage.granuleBits, stage.startLevel) + 3);
    for (let level = stage.startLevel; ; level++) {
      const shift = shiftOf(stage.granuleBits, level);
      const concatenated = level === stage.startLevel && !this.quirks.has("S-24");
      // S-20: nothing of a first level that resolves no bits is left of its table's address.
      const resolved = stage.inputBits - (stage.granuleBits - 3) * (4 - stage.startLevel);
      if (resolved < 0) {
        return fail(EVENT.F_TRANSLATION);
      }
      const index = bits(ipa, concatenated ? stage.inputBits - 1 : Math.min(stage.inputBits - 1, shift + stage.granuleBits - 4), shift);
      const address = alignDown(table, tableBits) + 8n * index;
      const descriptor = this.word(address);
      if (descriptor === null) {
        return this.walkAbort(transaction, asStage1 === undefined ? 2 : 1, faultClass, asStage1 === undefined ? address : ipa);
      }
      const kind = Number(descriptor & 3n);
      if ((kind & 1) === 0 || (kind === 1 && !this.hasBlock(stage.granuleBits, level))) {
        return fail(EVENT.F_TRANSLATION);
      }
      const isTable = kind === 3 && level < 3;
      const output = alignDown(bits(descriptor, 47, 0), isTable ? stage.granuleBits : shift);
      const large = output >> BigInt(stage.outputBits) !== 0n;
      if (large && !this.quirks.has("S-12")) {
        return fail(EVENT.F_ADDR_SIZE);
      }
      if (isTable) {
        table = output;
        tableBits = stage.granuleBits;
        continue;
      }
      if (stage.accessFlagFaults && bits(descriptor, 10, 10) === 0n) {
        return fail(EVENT.F_ACCESS);
      }
      const permission = write ? 7 : 6;
      if (bits(descriptor, permission, permission) === 0n) {
        return fail(EVENT.F_PERMISSION);
      }
      if (faultClass === CLASS_TT && get(ste, STE.S2PTW) !== 0 && bits(descriptor, 5, 4) === 0n && !this.quirks.has("S-29")) {
        return fail(EVENT.F_PERMISSION);
      }
      if (large) {
        return fail(EVENT.F_ADDR_SIZE);
      }
      const result = output | bits(ipa, shift - 1, 0);
      if (keep !== undefined) {
        this.keep(keep.iova, Math.min(keep.shift, shift), result, keep.writable1, bits(descriptor, 7, 6));
      }
      return result;
    }
  }

  private hasBlock(granuleBits: number, level: number): boolean {
    return level === 2 || (level === 1 && granuleBits === 12) || (level < 3 && this.quirks.has("S-31"));
  }

  private fault(number: number, transaction: Transaction, stage: number, faultClass: number, ipa = 0n): Int32Array {
    const record = this.record(number, transaction);
    record[3] = (transaction.write ? 0 : 8) | (stage === 2 ? 0x80 : 0) | (this.quirks.has("S-34") && number !== EVENT.F_WALK_EABT ? 0 : faultClass << 8);
    record[4] = Number(BigInt.asIntN(32, transaction.iova));
    record[5] = Number(BigInt.asIntN(32, transaction.iova >> 32n));
    const shown = this.quirks.has("S-9") ? ipa : alignDown(ipa, 12);
    record[6] = Number(BigInt.asIntN(32, shown));
    record[7] = Number(BigInt.asIntN(32, shown >> 32n));
    return record;
  }

  private walkAbort(transaction: Transaction, stage: number, faultClass: number, address: bigint): Fault {
    const record = this.fault(EVENT.F_WALK_EABT, transaction, stage, stage === 1 ? CLASS_TT : faultClass);
    record[6] = Number(BigInt.asIntN(32, address));
    record[7] = Number(BigInt.asIntN(32, address >> 32n));
    return new Fault(record);
  }
}

function shiftOf(granuleBits: number, level: number): number {
  return granuleBits + (granuleBits - 3) * (3 - level);
}

/** D8.2: the first level that S2SL0 selects; null where it does not fit. `limited`: levels that the OAS does not need are refused. */
function startLevel2(granuleBits: number, sl0: number, size: number, limited: boolean): number | null {
  const level = (granuleBits === 12 ? 2 : 3) - sl0;
  const shift = shiftOf(granuleBits, level);
  const inputBits = 64 - size;
  if (sl0 === 3 || inputBits > shift + granuleBits - 3 + 4 || (limited && inputBits <= shift)) {
    return null;
  }
  return level;
}

/** Bytes of the next piece of an access that nothing answers: a power of two, aligned, 4 at the most. */
function pieceOf(address: bigint, left: number): number {
  const alignment = (address & 1n) !== 0n ? 1 : (address & 2n) !== 0n ? 2 : 4;
  return Math.min(alignment, left >= 4 ? 4 : left >= 2 ? 2 : 1);
}
