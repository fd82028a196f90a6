import { describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { highWord, lowWord, toBigInt } from "../../../src/support/index.js";
import { ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import {
  dropCached,
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BLOCKED,
  BYPASSED,
  INTERRUPT,
  NO_PASID,
  TRANSLATED,
  VtdTranslator,
  type VtdFeatures,
} from "../../../src/vtd/lookup/index.js";
import { FAULT, FRCD } from "../../../src/vtd/spec/index.js";
import { get } from "../../../src/support/index.js";
import { Random } from "../../fuzz/random.js";
import { FULL, without } from "./bench.js";
import { Oracle, type OracleRequest } from "./oracle.js";

/** More of the same with VIOMMU_FUZZ=nightly. */
const SEEDS = Array.from({ length: process.env.VIOMMU_FUZZ === "nightly" ? 100 : 3 }, (_unused, i) => i + 1);

const PAGES = 160;
const FIRST_TABLES = 32;
const SECOND_TABLES = 64;
const DATA = 128;
const RIDS = [0x0000, 0x0010, 0x0080, 0x0100];
const PASIDS = [0, 1, 2, 3, 64, 65];

/** Small memory full of structures and tables that mostly lead somewhere, at physical address 0. */
class World {
  readonly memory = new RamWordMemory();
  readonly words: Int32Array;
  private readonly random: Random;

  constructor(
    seed: number,
    readonly features: VtdFeatures,
    readonly scalable: boolean,
  ) {
    this.random = new Random(seed);
    this.memory.place(0, new RamBlock("ram", PAGES * 4096, 0x7f00_0000_0000));
    this.words = this.memory.flat.subarray(0, PAGES * 1024);
    for (let page = FIRST_TABLES; page < SECOND_TABLES; page++) {
      this.fillFirst(page);
    }
    for (let page = SECOND_TABLES; page < DATA; page++) {
      this.fillSecond(page);
    }
    for (const rid of RIDS) {
      this.context(rid);
    }
    for (let directory = 0; directory < 4; directory++) {
      for (const pasid of PASIDS) {
        this.pasid(directory, pasid);
      }
    }
  }

  below(limit: number): number {
    return this.random.below(limit);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(items: readonly T[]): T {
    return this.random.pick(items);
  }

  write(address: number, value: bigint): void {
    this.memory.store64(0, address, highWord(value), lowWord(value));
  }

  /** One of 64 bits flipped, in a few of a hundred. */
  spoilt(value: bigint, percent: number): bigint {
    return this.chance(percent) ? value ^ (1n << BigInt(this.below(64))) : value;
  }

  fillFirst(page: number): void {
    for (const index of [0, 1, 2, 3, 4, 5, 40, 256, 511]) {
      const to = this.chance(75) ? FIRST_TABLES + this.below(SECOND_TABLES - FIRST_TABLES) : DATA + this.below(40);
      let entry = BigInt(to) << 12n;
      entry |= this.chance(97) ? 1n : 0n;
      entry |= this.chance(94) ? 2n : 0n;
      entry |= this.chance(94) ? 4n : 0n;
      entry |= this.chance(50) ? 0x20n : 0n;
      entry |= this.chance(50) ? 0x40n : 0n;
      entry |= this.chance(6) ? 0x80n : 0n;
      if ((entry & 0x80n) !== 0n && this.chance(70)) {
        entry &= ~0x3fff_e000n;
      }
      this.write(page * 4096 + index * 8, this.spoilt(entry, 2));
    }
  }

  fillSecond(page: number): void {
    for (let index = 0; index < PAGES; index++) {
      // By index 0 and 1 tables, by the others the pages of a guest: first-stage tables, data.
      const to =
        index < 4
          ? this.chance(85) ? SECOND_TABLES + this.below(DATA - SECOND_TABLES) : FIRST_TABLES + this.below(32)
          : this.chance(90) ? FIRST_TABLES + this.below(32) : this.below(PAGES + 4);
      let entry = BigInt(to) << 12n;
      entry |= this.chance(96) ? 1n : 0n;
      entry |= this.chance(93) ? 2n : 0n;
      entry |= this.chance(4) ? 0x80n : 0n;
      if ((entry & 0x80n) !== 0n && this.chance(70)) {
        entry &= ~0x3fff_f000n;
      }
      this.write(page * 4096 + index * 8, this.spoilt(entry, 1));
    }
    this.write(page * 4096 + 511 * 8, 0xfee0_0003n);
  }

  /** Root table at page 0; context tables from page 1 on, two a bus; directories at pages 8 to 11, PASID tables behind. */
  context(rid: number): void {
    const bus = rid >> 8;
    if (!this.scalable) {
      this.write(bus * 16, this.spoilt((BigInt(1 + bus) << 12n) | 1n, 2));
      this.write(bus * 16 + 8, this.spoilt(0n, 2));
      const at = (1 + bus) * 4096 + (rid & 0xff) * 16;
      const type = BigInt(this.pick([0, 0, 0, 1, 1, 2, 3]));
      const low = (BigInt(SECOND_TABLES + this.below(DATA - SECOND_TABLES)) << 12n) | (type << 2n) | (this.chance(95) ? 1n : 0n) | (this.chance(20) ? 2n : 0n);
      this.write(at, this.spoilt(low, 4));
      this.write(at + 8, this.spoilt(BigInt(this.pick([1, 2, 2, 2, 3, 4])) | (BigInt(this.below(4)) << 8n), 4));
      return;
    }
    const half = (rid & 0x80) !== 0 ? 1 : 0;
    this.write(bus * 16 + half * 8, this.spoilt((BigInt(1 + bus * 2 + half) << 12n) | 1n, 2));
    const at = (1 + bus * 2 + half) * 4096 + (rid & 0x7f) * 32;
    const low =
      (BigInt(8 + this.below(4)) << 12n) | (this.chance(95) ? 1n : 0n) | (this.chance(20) ? 2n : 0n) | (this.features.pasid && this.chance(95) ? 8n : 0n) | (this.features.deviceTlb && this.chance(20) ? 4n : 0n);
    this.write(at, this.spoilt(low, 4));
    this.write(at + 8, this.spoilt(BigInt(this.features.ridPasid ? this.pick([0, 0, 0, 1, 64]) : 0) | (this.features.ridPrivilege && this.chance(15) ? 0x10_0000n : 0n), 4));
    this.write(at + 16, this.spoilt(0n, 3));
    this.write(at + 24, 0n);
  }

  pasid(directory: number, pasid: number): void {
    const table = 12 + directory * 2 + (pasid >> 6);
    this.write((8 + directory) * 4096 + (pasid >> 6) * 8, this.spoilt((BigInt(table) << 12n) | (this.chance(97) ? 1n : 0n) | (this.chance(10) ? 2n : 0n), 3));
    const at = table * 4096 + (pasid & 63) * 64;
    const type = this.pick([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5]);
    const second = type === 2 || type === 3;
    const first = type === 1 || type === 3;
    const quads = Array<bigint>(8).fill(0n);
    quads[0] = (BigInt(type) << 6n) | (this.chance(95) ? 1n : 0n) | (this.chance(15) ? 2n : 0n);
    if (second) {
      quads[0] |= (BigInt(SECOND_TABLES + this.below(DATA - SECOND_TABLES)) << 12n) | (BigInt(this.pick([1, 2, 2, 2, 3])) << 2n) | (this.features.secondStageAccessedDirty && this.chance(30) ? 0x200n : 0n);
    }
    quads[1] = BigInt(1 + this.below(6)) | (this.chance(50) ? 1n << 23n : 0n);
    if (first) {
      const root = type === 3 ? this.pick([4, 5, 6, 40, 41]) : FIRST_TABLES + this.below(32);
      quads[2] = (BigInt(root) << 12n) | (this.features.fiveLevels && this.chance(20) ? 4n : 0n) | (this.chance(50) ? 0x10n : 0n);
      quads[2] |= this.features.extendedAccessed && this.chance(30) ? 0x80n : 0n;
    }
    quads[2] |= this.features.supervisorRequests && this.chance(70) ? 1n : 0n;
    quads.forEach((quad, i) => this.write(at + i * 8, this.spoilt(quad, 1)));
  }

  address(): bigint {
    const part = (): bigint => BigInt(this.pick([0, 0, 1, 2, 3, 4, 5, 40, 511]));
    const levels = this.pick([1, 3, 4, 4, 4, 5]);
    let address = BigInt(this.below(4096));
    for (let level = 0; level < levels; level++) {
      address |= part() << BigInt(12 + 9 * level);
    }
    const sign = this.pick([0, 0, 0, 1, 2]);
    if (sign === 1) {
      address = BigInt.asUintN(64, BigInt.asIntN(48, address));
    } else if (sign === 2) {
      address = BigInt.asUintN(64, BigInt.asIntN(57, address));
    }
    return this.spoilt(address, 2);
  }

  request(): OracleRequest {
    const access = this.pick([1, 1, 2, 2, 3]);
    return {
      rid: this.chance(97) ? this.pick(RIDS) : 0x0011,
      pasid: this.chance(60) && (this.scalable || this.chance(10)) ? this.chance(95) ? this.pick(PASIDS) : this.pick([200, 0x2000, 0xfffff]) : undefined,
      address: this.address(),
      read: (access & 1) !== 0,
      write: (access & 2) !== 0,
      privileged: this.chance(20),
    };
  }
}

const FEATURES: readonly VtdFeatures[] = [
  FULL,
  without([26, 31, 34, 45, 53], [35, 60]),
  without([2, 6, 49], [11, 34, 35, 56]),
  without([47, 26, 38, 39], [9, 19]),
];

function bytes(words: Int32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

describe("random tables", () => {
  const seen = new Map<number, number>();

  it.each(SEEDS)("agree with the specification's text (seed %i)", (seed) => {
    for (let round = 0; round < 6; round++) {
      const features = FEATURES[(seed + round) % FEATURES.length];
      const scalable = round % 3 !== 0;
      const world = new World(seed * 1000 + round, features, scalable);
      const t = new VtdTranslator(world.memory, features, { coherentWalks: true, tlbEntries: 64 });
      t.enabled = true;
      t.mode = scalable ? 1 : 0;
      const shadow = Int32Array.from(world.words);
      const memory = {
        read: (address: bigint): bigint | undefined => {
          const at = Number(address) / 4;
          return at < shadow.length ? toBigInt(shadow[at + 1], shadow[at]) : undefined;
        },
        write: (address: bigint, value: bigint): void => {
          const at = Number(address) / 4;
          shadow[at] = lowWord(value);
          shadow[at + 1] = highWord(value);
        },
      };
      const oracle = new Oracle(memory, features, 0n, scalable);
      for (let step = 0; step < 400; step++) {
        const request = world.request();
        const { address, pasid } = request;
        if (pasid === undefined && address >> 20n === 0xfeen) {
          continue;
        }
        const expected = oracle.ask(request);
        t.reset();
        const access = (request.read ? ACCESS_READ : 0) | (request.write ? ACCESS_WRITE : 0) | (request.privileged ? ACCESS_PRIVILEGED : 0);
        const ask = (): number => t.translate(request.rid, pasid ?? NO_PASID, highWord(address), lowWord(address), access);
        const code = ask();
        const label = `round ${round} step ${step} rid ${request.rid} pasid ${pasid} address ${address.toString(16)} access ${access}`;
        const describeAnswer = (): unknown => ({
          label,
          reason: t.reason.toString(16),
          out: code < 0 ? "" : toBigInt(t.outHigh, t.outLow).toString(16),
          bits: code < 0 ? 0 : t.outPageBits,
          bypass: code === BYPASSED,
          quiet: code < 0 && !t.hasFault,
        });
        expect(describeAnswer()).toEqual({
          label,
          reason: expected.reason.toString(16),
          out: expected.reason === 0 ? expected.out.toString(16) : "",
          bits: expected.pageBits,
          bypass: expected.bypass,
          quiet: expected.quiet,
        });
        if (expected.reason === 0) {
          // A clean page is not told to be writable before a write has marked it.
          expect((t.outPermissions & ACCESS_READ) !== 0).toBe(expected.readable);
          expect((t.outPermissions & ACCESS_WRITE) !== 0 && !expected.writable).toBe(false);
          expect(request.write && (t.outPermissions & ACCESS_WRITE) === 0).toBe(false);
          // Again, from the caches.
          expect([ask(), toBigInt(t.outHigh, t.outLow)]).toEqual([code, expected.out]);
        }
        seen.set(expected.reason, (seen.get(expected.reason) ?? 0) + 1);
        // Accessed and dirty flags, and nothing else.
        if (!bytes(world.words).equals(bytes(shadow))) {
          expect([label, world.words.findIndex((word, i) => word !== shadow[i])]).toEqual([label, -1]);
        }
      }
    }
  });

  it("reach the depth of every structure", () => {
    expect(seen.get(0)).toBeGreaterThan(200 * SEEDS.length);
    // Of the reasons that tables alone can make.
    expect(seen.size).toBeGreaterThan(30);
  });

  it.each(SEEDS)("give answers of the architecture whatever is cached and asked (seed %i)", (seed) => {
    const reasons = new Set<number>(Object.values(FAULT));
    const random = new Random(seed + 77);
    const world = new World(seed, FULL, true);
    const t = new VtdTranslator(world.memory, FULL, { tlbEntries: 64, contexts: 2, pasids: 4, coherentWalks: seed % 2 === 0 });
    t.enabled = true;
    t.mode = 1;
    for (let step = 0; step < 3000; step++) {
      switch (random.below(8)) {
        case 0:
          dropCached(t, Int32Array.of(random.word(), random.word(), random.word(), random.word()));
          break;
        case 1:
          world.context(world.pick(RIDS));
          world.pasid(world.below(4), world.pick(PASIDS));
          break;
        case 2:
          world.fillFirst(FIRST_TABLES + world.below(32));
          t.mode = world.chance(90) ? 1 : world.below(4);
          break;
        default: {
          const request = world.request();
          const kind = world.below(3);
          const access = (request.read ? 1 : 0) | (request.write ? 2 : 0) | (request.privileged ? 8 : 0) | (world.chance(5) ? 4 : 0);
          const code = t.translate(request.rid, request.pasid ?? -1, highWord(request.address), lowWord(request.address), access, kind);
          expect([TRANSLATED, BYPASSED, INTERRUPT, BLOCKED, ATS_ABORTED, ATS_UNSUPPORTED]).toContain(code);
          expect(t.reason === 0 || reasons.has(t.reason)).toBe(true);
          expect(code < 0 && t.reason === 0).toBe(false);
          expect(code < -1 && kind !== 1).toBe(false);
          expect(code === BLOCKED && kind === 1).toBe(false);
          if (t.hasFault) {
            expect(get(t.record, FRCD.FR)).toBe(t.reason);
            expect(get(t.record, FRCD.SID)).toBe(request.rid);
            expect(get(t.record, FRCD.AT)).toBe(kind);
          }
        }
      }
    }
  });
});
