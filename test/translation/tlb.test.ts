import { describe, expect, it } from "vitest";
import { highWord, lowWord, toBigInt } from "../../src/support/index.js";
import {
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  ANY_ASID,
  NO_ASID,
  Tlb,
  TLB_MISS,
  WALK_OK,
  WALK_PERMISSION_FAULT,
} from "../../src/translation/index.js";
import { ContextInterner } from "../../src/translation/context-interner.js";
import { Random } from "./random.js";

const ALL = 63;

function insert(tlb: Tlb, vmid: number, asid: number, va: bigint, pa: bigint, pageBits = 12, permissions = ALL, global = false): void {
  tlb.insert(tlb.contextOf(vmid, asid), highWord(va), lowWord(va), highWord(pa), lowWord(pa), pageBits, permissions, global);
}

/** The output address, "miss" or "denied". */
function lookup(tlb: Tlb, vmid: number, asid: number, va: bigint, access = ACCESS_READ): bigint | "miss" | "denied" {
  const code = tlb.lookup(tlb.contextOf(vmid, asid), highWord(va), lowWord(va), access);
  expect([WALK_OK, WALK_PERMISSION_FAULT, TLB_MISS]).toContain(code);
  return code === WALK_OK ? toBigInt(tlb.outHigh, tlb.outLow) : code === TLB_MISS ? "miss" : "denied";
}

describe("Tlb", () => {
  it("answers for every address of a page of each size, and for no other", () => {
    for (const bits of [12, 14, 16, 21, 25, 29, 30]) {
      const tlb = new Tlb(64);
      const size = 1n << BigInt(bits);
      const va = 0xabc0_0000_0000n + 5n * size;
      const pa = 0xf340_0000_0000n + 3n * size;
      insert(tlb, 1, 2, va + 0x123n, pa + 0x123n, bits);
      for (const offset of [0n, 0x123n, size / 2n, size - 1n]) {
        expect(lookup(tlb, 1, 2, va + offset), `${bits}`).toBe(pa + offset);
        expect(tlb.outPageBits).toBe(bits);
      }
      expect(lookup(tlb, 1, 2, va - 1n)).toBe("miss");
      expect(lookup(tlb, 1, 2, va + size)).toBe("miss");
      expect(lookup(tlb, 1, 3, va)).toBe("miss");
      expect(lookup(tlb, 2, 2, va)).toBe("miss");
      expect(lookup(tlb, 1, NO_ASID, va)).toBe("miss");
    }
  });

  it("tells the two halves of the address space apart, and ignores the top byte", () => {
    const tlb = new Tlb(64);
    insert(tlb, 0, 0, 0xffff_8000_0000_1000n, 0x1000n);
    expect(lookup(tlb, 0, 0, 0x0000_8000_0000_1000n)).toBe("miss");
    expect(lookup(tlb, 0, 0, 0x5aff_8000_0000_1234n)).toBe(0x1234n);
  });

  it("holds addresses of 57 bits where it is asked to, and outputs of 52", () => {
    const tlb = new Tlb(64, 16, 57);
    const va = 0x0023_4567_89ab_c000n;
    insert(tlb, 7, 9, va, 0xf_edcb_a987_6000n);
    insert(tlb, 7, 9, va | (1n << 56n), 0x8_0000_0000_1000n);
    expect(lookup(tlb, 7, 9, va | 0xabcn)).toBe(0xf_edcb_a987_6abcn);
    expect(lookup(tlb, 7, 9, va ^ (1n << 48n))).toBe("miss");
    expect(lookup(tlb, 7, 9, va ^ (1n << 55n))).toBe("miss");
    for (const bits of [21, 30]) {
      insert(tlb, 7, 9, 0xff00_0000_0000_0000n, 0xf_c000_0000_0000n, bits);
      expect(lookup(tlb, 7, 9, 0xff00_0000_001f_fff8n)).toBe(0xf_c000_001f_fff8n);
      tlb.invalidateRange(7, 9, 0xff00_0000 | 0, 0, 0xff00_0000 | 0, 0x1000);
      expect(lookup(tlb, 7, 9, 0xff00_0000_001f_fff8n)).toBe("miss");
    }
    expect(lookup(tlb, 7, 9, va | (1n << 56n))).toBe(0x8_0000_0000_1000n);
    tlb.invalidateAddress(7, 9, highWord(va), lowWord(va));
    expect(lookup(tlb, 7, 9, va)).toBe("miss");
    tlb.invalidateRange(7, 9, 0, 0, -1, -1);
    expect(tlb.liveEntries()).toBe(0);
  });

  it("invalidates what VT-d names: a domain, a domain and PASID, aligned pages of either stage", () => {
    const [first, second] = [0x5000_0000n, 0x9000_0000n];
    const fill = (): Tlb => {
      const tlb = new Tlb(256, 16, 57);
      for (const domain of [1, 2]) {
        for (const pasid of [0, 0xf_ffff]) {
          for (let page = 0n; page < 8n; page++) {
            insert(tlb, domain, pasid, first + (page << 12n), page << 12n);
          }
        }
        insert(tlb, domain, NO_ASID, second, 0x20_0000n, 21);
      }
      return tlb;
    };
    const held = (tlb: Tlb, domain: number, pasid: number): string =>
      Array.from({ length: 8 }, (_unused, page) => (lookup(tlb, domain, pasid, first + BigInt(page << 12)) === "miss" ? "-" : "x")).join("");
    expect(fill().liveEntries()).toBe(34);
    let tlb = fill();
    tlb.invalidateVmid(1);
    expect([held(tlb, 1, 0), held(tlb, 1, 0xf_ffff), held(tlb, 2, 0), lookup(tlb, 1, NO_ASID, second)]).toEqual(["--------", "--------", "xxxxxxxx", "miss"]);
    tlb = fill();
    tlb.invalidateAsid(1, 0xf_ffff);
    expect([held(tlb, 1, 0), held(tlb, 1, 0xf_ffff), held(tlb, 2, 0xf_ffff), lookup(tlb, 1, NO_ASID, second)]).toEqual(["xxxxxxxx", "--------", "xxxxxxxx", 0x20_0000n]);
    // Address mask 1 at page 2: pages 2 and 3.
    tlb = fill();
    tlb.invalidateRange(1, 0, 0, 0x5000_2000, 0, 0x5000_3fff);
    expect([held(tlb, 1, 0), held(tlb, 1, 0xf_ffff)]).toEqual(["xx--xxxx", "xxxxxxxx"]);
    // A second-stage page takes what first stages had a part in with it.
    tlb = fill();
    tlb.invalidateIpaRange(1, 0, 0x9000_0000 | 0, 0, 0x9000_0fff | 0);
    expect([held(tlb, 1, 0), lookup(tlb, 1, NO_ASID, second), lookup(tlb, 2, NO_ASID, second)]).toEqual(["--------", "miss", 0x20_0000n]);
  });

  it("reports a missing permission as such", () => {
    const tlb = new Tlb(64);
    insert(tlb, 0, 1, 0x1000n, 0x2000n, 12, 1 | 8 | 16);
    expect(lookup(tlb, 0, 1, 0x1000n, ACCESS_READ)).toBe(0x2000n);
    expect(lookup(tlb, 0, 1, 0x1000n, ACCESS_WRITE)).toBe("denied");
    expect(lookup(tlb, 0, 1, 0x1000n, ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(0x2000n);
  });

  it("keeps a translation until it is invalidated", () => {
    const tlb = new Tlb(64);
    insert(tlb, 0, 1, 0x1000n, 0x2000n);
    for (let i = 0; i < 100; i++) {
      expect(lookup(tlb, 0, 1, 0x1000n)).toBe(0x2000n);
    }
    insert(tlb, 0, 1, 0x1000n, 0x3000n);
    expect(lookup(tlb, 0, 1, 0x1000n)).toBe(0x3000n);
    expect(tlb.liveEntries()).toBe(1);
    tlb.invalidateAddress(0, 1, 0, 0x1fff);
    expect(lookup(tlb, 0, 1, 0x1000n)).toBe("miss");
  });

  it("serves global entries to every ASID of the VMID, and drops them by address but not by ASID", () => {
    for (const bits of [12, 21]) {
      const tlb = new Tlb(64);
      insert(tlb, 3, 1, 0x4020_0000n, 0x8020_0000n, bits, ALL, true);
      expect(lookup(tlb, 3, 1, 0x4020_0010n)).toBe(0x8020_0010n);
      expect(lookup(tlb, 3, 2, 0x4020_0010n)).toBe(0x8020_0010n);
      expect(lookup(tlb, 4, 1, 0x4020_0010n)).toBe("miss");
      expect(lookup(tlb, 3, NO_ASID, 0x4020_0010n)).toBe("miss");
      tlb.invalidateAsid(3, 1);
      tlb.invalidateAsid(3, 2);
      expect(lookup(tlb, 3, 2, 0x4020_0010n)).toBe(0x8020_0010n);
      tlb.invalidateAddress(3, 7, 0, 0x4020_0000);
      expect(lookup(tlb, 3, 2, 0x4020_0010n)).toBe("miss");
      insert(tlb, 3, 1, 0x4020_0000n, 0x8020_0000n, bits, ALL, true);
      tlb.invalidateVmidStage1(3);
      expect(lookup(tlb, 3, 1, 0x4020_0010n)).toBe("miss");
    }
  });

  it("drops the parts of a block with any address in it, and keeps those of another block or ASID", () => {
    const tlb = new Tlb(64);
    const block = 0x40_4000_0000n;
    const part = (asid: number, va: bigint, pageBits: number): void =>
      tlb.insert(tlb.contextOf(1, asid), highWord(va), lowWord(va), 0, lowWord(va), pageBits, ALL, false, 30);
    part(2, block + 0x7000n, 12);
    part(2, block + 0x2060_0000n, 21);
    part(3, block + 0x7000n, 12);
    part(2, block + 0x4000_7000n, 12);
    insert(tlb, 1, 2, block - 0x1000n, 0x5000n);
    const other = block + 0x3ff0_0000n;
    tlb.invalidateAddress(1, 2, highWord(other), lowWord(other));
    expect([block + 0x7000n, block + 0x2060_0000n, block + 0x4000_7000n, block - 0x1000n].map((va) => lookup(tlb, 1, 2, va))).toEqual([
      "miss",
      "miss",
      BigInt.asUintN(32, block + 0x4000_7000n),
      0x5000n,
    ]);
    expect(lookup(tlb, 1, 3, block + 0x7000n)).toBe(BigInt.asUintN(32, block + 0x7000n));
  });

  it("drops by IPA the stage-2 entries of those addresses and every combined entry of the VMID", () => {
    const tlb = new Tlb(64);
    insert(tlb, 1, NO_ASID, 0x1000n, 0x2000n);
    insert(tlb, 1, NO_ASID, 0x5000n, 0x6000n);
    insert(tlb, 1, 9, 0x7000n, 0x8000n);
    insert(tlb, 2, 9, 0x7000n, 0x8000n);
    tlb.invalidateIpaRange(1, 0, 0x1000, 0, 0x1fff);
    expect(lookup(tlb, 1, NO_ASID, 0x1000n)).toBe("miss");
    expect(lookup(tlb, 1, NO_ASID, 0x5000n)).toBe(0x6000n);
    expect(lookup(tlb, 1, 9, 0x7000n)).toBe("miss");
    expect(lookup(tlb, 2, 9, 0x7000n)).toBe(0x8000n);
  });

  it("does not confuse stage 1 and stage 2 invalidations of one VMID", () => {
    const tlb = new Tlb(64);
    insert(tlb, 1, NO_ASID, 0x1000n, 0x2000n);
    tlb.invalidateAddress(1, ANY_ASID, 0, 0x1000);
    tlb.invalidateVmidStage1(1);
    expect(lookup(tlb, 1, NO_ASID, 0x1000n)).toBe(0x2000n);
    tlb.invalidateVmid(1);
    expect(lookup(tlb, 1, NO_ASID, 0x1000n)).toBe("miss");
  });

  it("agrees with a plain list under random insertions and invalidations", () => {
    interface Entry {
      vmid: number;
      asid: number;
      global: boolean;
      va: bigint;
      pa: bigint;
      bits: number;
    }
    let hits = 0;
    for (let seed = 0; seed < 30; seed++) {
      const random = new Random(seed);
      const tlb = new Tlb(random.pick([16, 64, 1024]), 16);
      let model: Entry[] = [];
      // A page has one size in a context, as tables have it.
      const sizeOf = (va: bigint): number => [12, 21, 12, 16, 30][Number((va >> 30n) % 5n)];
      const address = (): bigint =>
        (random.chance(3) ? 0xffff_0000_0000_0000n : 0n) | (BigInt(random.below(5)) << 30n) | BigInt(random.below(12) << 12) | (BigInt(random.below(3)) << 21n);
      const size = (e: Entry): bigint => 1n << BigInt(e.bits);
      const covers = (e: Entry, from: bigint, to: bigint): boolean => e.va <= to && e.va + size(e) > from;
      for (let step = 0; step < 800; step++) {
        const vmid = random.below(2);
        const asid = random.chance(4) ? NO_ASID : random.below(3);
        const va = address();
        const what = random.below(20);
        if (what < 8) {
          const bits = sizeOf(va);
          const mask = (1n << BigInt(bits)) - 1n;
          const pa = (BigInt(random.below(0x10000)) << 32n) & ~mask & 0xffff_ffff_ffffn;
          const global = asid !== NO_ASID && random.chance(5);
          const entry = { vmid, asid, global, va: va & ~mask, pa, bits };
          // Software that changes nG without an invalidation may see either; the model keeps one.
          tlb.invalidateAddress(vmid, asid, highWord(va), lowWord(va));
          model = model.filter((e) => !(e.vmid === vmid && (e.asid === asid || (e.global && asid !== NO_ASID)) && covers(e, va, va)));
          if (global) {
            tlb.invalidateAddress(vmid, ANY_ASID, highWord(va), lowWord(va));
            model = model.filter((e) => !(e.vmid === vmid && e.asid !== NO_ASID && covers(e, va, va)));
          }
          insert(tlb, vmid, asid, va, pa | (va & mask), bits, ALL, global);
          model.push(entry);
        } else if (what < 16) {
          const got = lookup(tlb, vmid, asid, va);
          if (got !== "miss") {
            hits++;
            const entry = model.find((e) => e.vmid === vmid && (e.asid === asid || (e.global && asid !== NO_ASID)) && covers(e, va, va));
            expect(entry, `seed ${seed} step ${step}: hit on what was invalidated`).toBeDefined();
            expect(got).toBe(entry!.pa | (va & (size(entry!) - 1n)));
          } else if (model.length <= 1) {
            // One entry cannot have been evicted.
            expect(model.some((e) => e.vmid === vmid && e.asid === asid && covers(e, va, va))).toBe(false);
          }
        } else if (what === 16) {
          const last = va + BigInt(random.pick([0, 0x1000, 0x20_0000, 0x4000_0000]));
          const which = random.pick([asid, asid, ANY_ASID]);
          tlb.invalidateRange(vmid, which, highWord(va), lowWord(va), highWord(last), lowWord(last));
          const concerned = (e: Entry): boolean =>
            which === NO_ASID ? e.asid === NO_ASID : e.asid !== NO_ASID && (which === ANY_ASID || e.asid === which || e.global);
          model = model.filter((e) => !(e.vmid === vmid && concerned(e) && covers(e, va, last)));
        } else if (what === 17) {
          tlb.invalidateAsid(vmid, asid);
          model = model.filter((e) => !(e.vmid === vmid && e.asid === asid && !e.global));
        } else if (what === 18 && random.chance(4)) {
          tlb.invalidateVmidStage1(vmid);
          model = model.filter((e) => !(e.vmid === vmid && e.asid !== NO_ASID));
        } else if (random.chance(20)) {
          tlb.invalidateAll();
          model = [];
        }
      }
      expect(tlb.liveEntries()).toBeLessThanOrEqual(model.length);
    }
    expect(hits).toBeGreaterThan(500);
  });

  it("keeps a working set that fits", () => {
    const tlb = new Tlb(4096);
    for (let page = 0n; page < 4096n; page++) {
      insert(tlb, 0, 1, page << 12n, (page + 1n) << 12n);
    }
    let held = 0;
    for (let page = 0n; page < 4096n; page++) {
      held += lookup(tlb, 0, 1, page << 12n) === (page + 1n) << 12n ? 1 : 0;
    }
    expect(held).toBe(4096);
    expect(Tlb.entryBytes).toBe(16);
  });

  it("starts over when contexts run out, and never mixes them up", () => {
    const tlb = new Tlb(1024, 4);
    for (let asid = 0; asid < 100; asid++) {
      insert(tlb, 0, asid, 0x1000n, BigInt(asid + 1) << 12n);
      expect(lookup(tlb, 0, asid, 0x1000n)).toBe(BigInt(asid + 1) << 12n);
      expect(lookup(tlb, 1, asid, 0x1000n)).toBe("miss");
    }
    for (let round = 0; round < 70_000; round++) {
      tlb.invalidateAsid(0, 99);
      expect(tlb.contextOf(0, 99)).toBeGreaterThan(0);
    }
    insert(tlb, 0, 99, 0x1000n, 0x5000n);
    expect(lookup(tlb, 0, 99, 0x1000n)).toBe(0x5000n);
    tlb.invalidateVmid(0);
    expect(lookup(tlb, 0, 99, 0x1000n)).toBe("miss");
  });

  it("refuses sizes that are no power of two", () => {
    expect(() => new Tlb(100)).toThrow("power of two");
    expect(() => new Tlb(64, 3)).toThrow("power of two");
    expect(() => new ContextInterner(16384)).toThrow("power of two");
  });
});
