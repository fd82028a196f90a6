import { describe, expect, it } from "vitest";
import {
  ABORTED,
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BYPASSED,
  featuresOf,
  READ_AS_ZERO,
  TRANSLATED,
} from "../../../src/smmuv3/lookup/index.js";
import { EVENT, EVT, get, OP } from "../../../src/smmuv3/spec/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench, CDTAB, cdFields, FULL_IDR, RAM_BASE, S1_RW, S2_RW, stage2Fields, STRTAB } from "./bench.js";
import { buildCd, buildL1Cd, buildL1Std, buildSte } from "../../../src/smmuv3/spec/index.js";

/** mulberry32: 32 random bits a call. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

const EVENTS = new Set<number>(Object.values(EVENT));
/** Events that leave the answer to the transaction open, by number. */
const OPEN = new Set<number>([EVENT.F_TRANSLATION, EVENT.F_ADDR_SIZE, EVENT.F_ACCESS, EVENT.F_PERMISSION]);
const ANSWERS = new Set([TRANSLATED, BYPASSED, ABORTED, READ_AS_ZERO, ATS_UNSUPPORTED, ATS_ABORTED]);

describe("whatever is in memory", () => {
  it.each([1, 2, 3, 4])("every answer is one of the architecture's (seed %i)", (seed) => {
    const random = generator(seed);
    const pick = <T>(items: readonly T[]): T => items[random() % items.length];
    const idr = [...FULL_IDR];
    idr[0] ^= random() & 0x0308_0e00;
    const b = new Bench(featuresOf(idr), { tlbEntries: 64, streams: 8, contexts: 16 });
    const t = b.translator;
    const roots = [b.page(), b.page()];
    for (let i = 0; i < 32; i++) {
      b.map(roots[0], i * 0x1000, pick([RAM_BASE + i * 0x1000, CDTAB, roots[1]]), S1_RW);
      b.map(roots[1], pick([i * 0x1000, CDTAB + i * 0x1000, roots[0] + i * 0x1000]), pick([CDTAB, roots[0] + i * 0x1000]), S2_RW);
    }
    /** A legal image with some words spoilt, so that every depth of the lookup is reached. */
    const spoil = (words: Int32Array): Int32Array => {
      for (let i = random() % 3; i > 0; i--) {
        words[random() % words.length] ^= 1 << (random() & 31);
      }
      return words;
    };
    const seen = new Set<string>();
    for (let step = 0; step < 6000; step++) {
      const sid = random() & 31;
      switch (random() % 12) {
        case 0:
        case 1: {
          const config = 4 + (random() & 3);
          const image = buildSte({
            V: 1,
            CONFIG: config,
            S1CONTEXTPTR: CDTAB,
            S1CDMAX: pick([0, 0, 3, 8, 20]),
            S1FMT: random() & 3,
            S1DSS: random() & 3,
            EATS: random() & 1,
            ...stage2Fields(roots[1]),
          });
          b.writeWords(STRTAB + sid * 64, spoil(image));
          t.invalidateSte(sid);
          break;
        }
        case 2:
          b.writeWords(CDTAB + (random() & 15) * 64, spoil(buildCd(cdFields(roots[0], { ASID: random() & 3, A: random() & 1, S: 0 }))));
          t.invalidateSteRange(sid, random() & 31);
          break;
        case 3:
          b.writeWords(CDTAB + (random() & 63) * 8, spoil(buildL1Cd({ V: 1, L2PTR: CDTAB })));
          t.invalidateCds(sid);
          t.invalidateCd(sid, random() & 0xf);
          break;
        case 4:
          b.write64(roots[random() & 1] + (random() & 511) * 8, (BigInt(random()) << 32n) | BigInt(random()));
          break;
        case 5:
          t.tlbi(Int32Array.of((random() & ~0xff) | pick(Object.values(OP)), random(), random(), random()));
          break;
        case 6:
          t.enabled = (random() & 7) !== 0;
          t.atsCheck = (random() & 1) !== 0;
          t.recordInvalidSid = (random() & 1) !== 0;
          t.recordAtsErrors = (random() & 1) !== 0;
          t.globalAbort = (random() & 1) !== 0;
          break;
        case 7:
          if ((random() & 7) === 0) {
            t.table.format = random() & 3;
            t.table.split = random() & 31;
            t.table.log2Size = random() & 63;
            b.writeWords(STRTAB, spoil(buildL1Std({ SPAN: 7, L2PTR: STRTAB })));
          } else {
            t.table.format = 0;
            t.table.log2Size = 8;
            t.table.base = STRTAB;
          }
          break;
        default: {
          const access =
            pick([ACCESS_READ, ACCESS_WRITE, ACCESS_READ | ACCESS_EXECUTE, ACCESS_READ | ACCESS_WRITE]) |
            (random() & 1 ? ACCESS_PRIVILEGED : 0);
          const ssid = pick([-1, -1, -1, 0, 1, random() & 0xfffff]);
          const high = pick([0, 0, 0, random() | 0, -1]);
          const code = t.translate(pick([sid, sid, random()]), ssid, high, pick([random() & 0x1ffff, random() | 0]) | 0, access, random() % 3);
          expect(ANSWERS.has(code)).toBe(true);
          const number = t.hasEvent ? get(t.event, EVT.NUMBER) : 0;
          seen.add(`${code} ${number}`);
          if (t.hasEvent) {
            expect(EVENTS.has(number)).toBe(true);
            expect(code).toBeLessThan(0);
            expect(get(t.event, EVT.STALL) !== 0).toBe(number === EVENT.F_BAD_ATS_TREQ);
            if (code === READ_AS_ZERO) {
              expect(OPEN.has(number)).toBe(true);
            }
          }
          if (code === TRANSLATED) {
            expect(t.outHigh >>> 16).toBe(0);
            expect(t.outPageBits).toBeGreaterThanOrEqual(12);
          }
        }
      }
    }
    // The generator reaches deep: translations, and at least eight kinds of events.
    expect(seen.has(`${TRANSLATED} 0`)).toBe(true);
    expect(seen.size).toBeGreaterThan(10);
  });
});

describe("the hot path", () => {
  it("allocates nothing for cached configuration and a TLB hit", () => {
    const b = new Bench();
    const root = b.page();
    b.cd(CDTAB, cdFields(root));
    for (let sid = 0; sid < 4; sid++) {
      b.ste(sid, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    }
    for (let i = 0; i < 64; i++) {
      b.map(root, i * 0x1000, RAM_BASE + i * 0x1000, S1_RW);
    }
    const run = (count: number): number => {
      let sum = 0;
      for (let i = 0; i < count; i++) {
        sum += b.translator.translate((i >> 4) & 3, -1, 0, (i << 8) & 0x3ffff, ACCESS_READ) + (b.translator.outLow & 1);
      }
      return sum;
    };
    expect(run(200_000)).toBe(0);
    const before = process.memoryUsage().heapUsed;
    run(1_000_000);
    // One small object a call would be 16 MB and more.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(4_000_000);
  });
});
