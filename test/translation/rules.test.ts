import { beforeEach, describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../src/memory/index.js";
import { highWord, lowWord, toBigInt } from "../../src/support/index.js";
import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  LoopWalker,
  PageWalker,
  PERM_ALL,
  permits,
  WALK_ACCESS_FLAG_FAULT,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_TRANSLATION_FAULT,
  type StageTables,
} from "../../src/translation/index.js";

// Descriptor bits as Linux's io-pgtable-arm.c names and numbers them (ARM_LPAE_PTE_*).
const TABLE = 3n;
const PAGE = 3n;
const BLOCK = 1n;
const AF = 1n << 10n;
const NG = 1n << 11n;
const SH_IS = 3n << 8n;
const AP_UNPRIV = 1n << 6n;
const AP_RDONLY = 2n << 6n;
const HAP_READ = 1n << 6n;
const HAP_WRITE = 2n << 6n;
const MEMATTR_OIWB = 0xfn << 2n;
const MEMATTR_DEV = 0x1n << 2n;
const PXN = 1n << 53n;
const UXN = 1n << 54n;
const CONT = 1n << 52n;
const DBM = 1n << 51n;

// Permissions as text, to read like the architecture's tables: unprivileged, then privileged.
const shown = (permissions: number): string =>
  [..."rwxrwx"].map((letter, i) => ((permissions >> i) & 1 ? letter : "-")).join("");

const BASE = 0x9_0000_0000;
const BYTES = 1 << 20;

/** Stage-1 tables at BASE, stage-2 tables at BASE + 0x40000; stage 2 maps IPA x to BASE + x, one 2-MiB block. */
class Tables {
  readonly memory = new RamWordMemory();
  private readonly ram = new RamBlock("ram", BYTES, 0);

  constructor() {
    this.memory.place(BASE, this.ram);
  }

  put(address: number, descriptor: bigint): void {
    expect(this.memory.store64(highWord(address), lowWord(address), highWord(descriptor), lowWord(descriptor))).toBe(0);
  }
}

const common = {
  outputBits: 48,
  accessFlagFaultsDisabled: false,
  hierarchicalDisabled: false,
  writeImpliesNoExecute: false,
} as const;

function tablesAt(base: number, changes: Partial<StageTables> = {}): StageTables {
  return { ...common, granuleBits: 12, inputBits: 48, startLevel: 0, baseHigh: highWord(base), baseLow: lowWord(base), ...changes };
}

for (const [name, Walker] of [
  ["PageWalker", PageWalker],
  ["LoopWalker", LoopWalker],
] as const) {
  describe(name, () => {
    let t: Tables;
    let walker: LoopWalker;
    const root = BASE;
    const stage1 = tablesAt(root);
    const iova = 0x8080_4040_1123n;

    /** A four-level stage-1 path for `iova` with these descriptors' extra bits, ending in `leaf` at level 3. */
    function path(leaf: bigint, extra: { l0?: bigint; l1?: bigint; l2?: bigint } = {}): void {
      const next = (n: number): bigint => BigInt(BASE + n * 0x1000);
      t.put(BASE + Number((iova >> 39n) & 511n) * 8, next(1) | TABLE | (extra.l0 ?? 0n));
      t.put(BASE + 0x1000 + Number((iova >> 30n) & 511n) * 8, next(2) | TABLE | (extra.l1 ?? 0n));
      t.put(BASE + 0x2000 + Number((iova >> 21n) & 511n) * 8, next(3) | TABLE | (extra.l2 ?? 0n));
      t.put(BASE + 0x3000 + Number((iova >> 12n) & 511n) * 8, leaf);
    }

    const walk1 = (tables: StageTables, access = 0, address = iova): number =>
      walker.walkStage1(tables, highWord(address), lowWord(address), access);
    const out = (): bigint => toBigInt(walker.outHigh, walker.outLow);

    beforeEach(() => {
      t = new Tables();
      walker = new Walker(t.memory);
    });

    it("walks what Linux maps for a device: a page, not global, readable and writable by all", () => {
      path(0x12_3456_7000n | PAGE | NG | AF | AP_UNPRIV | SH_IS | (1n << 2n) | PXN | UXN);
      expect(walk1(stage1, ACCESS_WRITE)).toBe(WALK_OK);
      expect(out()).toBe(0x12_3456_7123n);
      expect(walker).toMatchObject({ outPageBits: 12, outLevel: 3, outGlobal: 0 });
      expect(shown(walker.outPermissions)).toBe("rw-rw-");
      path(0x12_3456_7000n | PAGE | AF | AP_UNPRIV | CONT | DBM);
      expect(walk1(stage1, ACCESS_WRITE)).toBe(WALK_OK);
      expect(walker.outGlobal).toBe(1);
    });

    it("takes permissions from AP, UXN and PXN (DDI 0487 D8.4.1)", () => {
      const seen: string[] = [];
      for (const ap of [0n, AP_UNPRIV, AP_RDONLY, AP_RDONLY | AP_UNPRIV]) {
        for (const xn of [0n, PXN, UXN, PXN | UXN]) {
          path(0x1000n | PAGE | AF | ap | xn);
          expect(walk1(stage1)).toBe(WALK_OK);
          seen.push(shown(walker.outPermissions));
        }
      }
      expect(seen).toEqual([
        ...["--xrwx", "--xrw-", "---rwx", "---rw-"],
        ...["rwxrw-", "rwxrw-", "rw-rw-", "rw-rw-"],
        ...["--xr-x", "--xr--", "---r-x", "---r--"],
        ...["r-xr-x", "r-xr--", "r--r-x", "r--r--"],
      ]);
    });

    it("checks an access against them, privileged and not", () => {
      path(0x1000n | PAGE | AF);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_PERMISSION_FAULT);
      expect(walker).toMatchObject({ faultStage: 1, faultLevel: 3, faultOnTableWalk: 0 });
      expect(walk1(stage1, ACCESS_READ | ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(WALK_OK);
      expect(walk1(stage1, ACCESS_EXECUTE)).toBe(WALK_OK);
      path(0x1000n | PAGE | AF | AP_RDONLY | AP_UNPRIV | UXN);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_OK);
      expect(walk1(stage1, ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
      expect(walk1(stage1, ACCESS_READ | ACCESS_EXECUTE)).toBe(WALK_PERMISSION_FAULT);
      expect(permits(PERM_ALL, ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE)).toBe(true);
      expect(permits(0, 0)).toBe(true);
    });

    it("lets tables take permissions away, unless hierarchical attributes are disabled (D8.4.2, CD.HPD)", () => {
      const leaf = 0x1000n | PAGE | AF | AP_UNPRIV;
      const rows: Array<[bigint, string]> = [
        [0n, "rwxrw-"],
        [1n << 59n, "rwxrw-"], // PXNTable
        [1n << 60n, "rw-rw-"], // UXNTable
        [1n << 61n, "--xrwx"], // APTable[0]
        [1n << 62n, "r-xr-x"], // APTable[1]
        [(1n << 61n) | (1n << 59n), "--xrw-"],
        [(1n << 62n) | (1n << 61n), "--xr-x"],
      ];
      for (const level of ["l0", "l1", "l2"] as const) {
        for (const [bits, permissions] of rows) {
          path(leaf, { [level]: bits });
          expect(walk1(stage1)).toBe(WALK_OK);
          expect(shown(walker.outPermissions), `${level} ${bits.toString(16)}`).toBe(permissions);
          expect(walk1(tablesAt(root, { hierarchicalDisabled: true }))).toBe(WALK_OK);
          expect(shown(walker.outPermissions)).toBe("rwxrw-");
        }
      }
    });

    it("honours WXN and PAN, and treats what EL0 may write as PXN whatever UWXN says", () => {
      const permissionsWith = (leaf: bigint, changes: Partial<StageTables>): string => {
        path(leaf | 0x1000n | PAGE | AF);
        expect(walk1(tablesAt(root, changes))).toBe(WALK_OK);
        return shown(walker.outPermissions);
      };
      expect(permissionsWith(AP_UNPRIV, { writeImpliesNoExecute: true })).toBe("rw-rw-");
      expect(permissionsWith(0n, { writeImpliesNoExecute: true })).toBe("--xrw-");
      expect(permissionsWith(AP_RDONLY, { writeImpliesNoExecute: true })).toBe("--xr-x");
      expect(permissionsWith(AP_UNPRIV, {})).toBe("rwxrw-");
      expect(permissionsWith(AP_UNPRIV | AP_RDONLY, { privilegedAccessNever: true })).toBe("r-x--x");
      expect(permissionsWith(0n, { privilegedAccessNever: true })).toBe("--xrwx");
    });

    it("faults on a clear access flag before it looks at permissions", () => {
      path(0x1000n | PAGE);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_ACCESS_FLAG_FAULT);
      expect(walk1(tablesAt(root, { accessFlagFaultsDisabled: true }), ACCESS_READ)).toBe(WALK_PERMISSION_FAULT);
    });

    it("knows which levels have blocks with each granule (D8.3.1)", () => {
      // [granule, level, legal]; one table of that level alone, so that the walk starts there.
      const rows: Array<[12 | 14 | 16, number, boolean]> = [
        [12, 0, false],
        [12, 1, true],
        [12, 2, true],
        [12, 3, false],
        [14, 0, false],
        [14, 1, false],
        [14, 2, true],
        [14, 3, false],
        [16, 1, false],
        [16, 2, true],
        [16, 3, false],
      ];
      for (const [granuleBits, startLevel, legal] of rows) {
        const shift = granuleBits + (granuleBits - 3) * (3 - startLevel);
        const tables = tablesAt(root, { granuleBits, startLevel, inputBits: Math.min(48, shift + 2) });
        const size = 1n << BigInt(Math.min(shift, 40));
        t.put(root + 8, size | BLOCK | AF | AP_UNPRIV);
        const code = walk1(tables, ACCESS_READ, size + 0x345n);
        expect(code, `${granuleBits} level ${startLevel}`).toBe(legal ? WALK_OK : WALK_TRANSLATION_FAULT);
        if (legal) {
          expect(out()).toBe(size + 0x345n);
          expect(walker).toMatchObject({ outPageBits: shift, outLevel: startLevel });
        } else {
          expect(walker).toMatchObject({ faultStage: 1, faultLevel: startLevel });
        }
      }
    });

    it("ignores the address bits of a block below its size", () => {
      t.put(root + 8, 0x4000_0000n + 0x1f_f000n + (BLOCK | AF | AP_UNPRIV));
      expect(walk1(tablesAt(root, { startLevel: 2, inputBits: 30 }), ACCESS_READ, 0x20_1234n)).toBe(WALK_OK);
      expect(out()).toBe(0x4000_1234n);
    });

    it("faults on addresses beyond the output size: of the base, a table, a page", () => {
      expect(walk1(tablesAt(root, { outputBits: 32 }))).toBe(WALK_ADDRESS_SIZE_FAULT);
      expect(walker).toMatchObject({ faultStage: 1, faultLevel: 0 });
      path(0x100_0000_0000n | PAGE | AF | AP_UNPRIV);
      expect(walk1(tablesAt(root, { outputBits: 40 }), ACCESS_READ)).toBe(WALK_ADDRESS_SIZE_FAULT);
      expect(walker).toMatchObject({ faultStage: 1, faultLevel: 3 });
      expect(walk1(tablesAt(root, { outputBits: 42 }), ACCESS_READ)).toBe(WALK_OK);
      path(0x1000n | PAGE | AF | AP_UNPRIV, { l1: 0x100_0000_0000n });
      expect(walk1(tablesAt(root, { outputBits: 40 }), ACCESS_READ)).toBe(WALK_ADDRESS_SIZE_FAULT);
      expect(walker).toMatchObject({ faultStage: 1, faultLevel: 1 });
    });

    it("reports the descriptor that no memory answers for", () => {
      path(0x1000n | PAGE | AF | AP_UNPRIV, { l1: 0x7_0000_0000n });
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_EXTERNAL_ABORT);
      expect(walker).toMatchObject({ faultStage: 1, faultLevel: 2 });
      // The bits of both addresses are or-ed in the descriptor.
      const table = 0xf_0000_0000 + 0x2000;
      expect(toBigInt(walker.fetchHigh, walker.fetchLow)).toBe(BigInt(table) + ((iova >> 21n) & 511n) * 8n);
    });

    describe("nested", () => {
      // Stage 1 at IPA 0 to 0x3fff, walked through stage 2 at BASE + 0x40000: IPA x is at BASE + x.
      const ipa1 = tablesAt(0);
      const stage2 = tablesAt(BASE + 0x4_0000, { inputBits: 40, startLevel: 1 });
      const leaf2 = PAGE | AF | HAP_READ | HAP_WRITE | MEMATTR_OIWB | SH_IS;

      /** Stage 2: 4-KiB pages for the first 64 KiB; one of them with other bits. */
      function stage2Tables(special?: { ipa: number; descriptor: bigint }): void {
        t.put(BASE + 0x4_0000, BigInt(BASE + 0x4_2000) | TABLE);
        t.put(BASE + 0x4_2000, BigInt(BASE + 0x4_3000) | TABLE);
        for (let page = 0; page < 16; page++) {
          const here = special !== undefined && special.ipa === page * 0x1000;
          t.put(BASE + 0x4_3000 + page * 8, here ? special.descriptor : BigInt(BASE + page * 0x1000) | leaf2);
        }
      }

      function stage1Tables(leaf: bigint): void {
        t.put(BASE + Number((iova >> 39n) & 511n) * 8, 0x1000n | TABLE);
        t.put(BASE + 0x1000 + Number((iova >> 30n) & 511n) * 8, 0x2000n | TABLE);
        t.put(BASE + 0x2000 + Number((iova >> 21n) & 511n) * 8, 0x3000n | TABLE);
        t.put(BASE + 0x3000 + Number((iova >> 12n) & 511n) * 8, leaf);
      }

      const nested = (access: number, second = stage2, first = ipa1): number =>
        walker.walkNested(first, second, highWord(iova), lowWord(iova), access);
      const faultIpa = (): bigint => toBigInt(walker.faultHigh, walker.faultLow);

      it("combines address, size and permissions of both stages", () => {
        stage2Tables({ ipa: 0x5000, descriptor: BigInt(BASE + 0x9000) | PAGE | AF | HAP_READ | MEMATTR_OIWB });
        stage1Tables(0x5000n | PAGE | AF | AP_UNPRIV);
        expect(nested(ACCESS_READ)).toBe(WALK_OK);
        expect(out()).toBe(BigInt(BASE + 0x9123));
        expect(shown(walker.outPermissions)).toBe("r-xr--");
        expect(walker).toMatchObject({ outPageBits: 12, outLevel: 3 });
        expect(nested(ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 0, faultLevel: 3 });
        expect(faultIpa()).toBe(0x5123n);
      });

      it("takes the smaller page of the two stages", () => {
        stage2Tables();
        stage1Tables(0n);
        t.put(BASE + 0x2000 + Number((iova >> 21n) & 511n) * 8, 0n | BLOCK | AF | AP_UNPRIV);
        const address = (iova & ~0x1f_ffffn) + 0x6789n;
        expect(walker.walkNested(ipa1, stage2, highWord(address), lowWord(address), ACCESS_READ)).toBe(WALK_OK);
        expect(out()).toBe(BigInt(BASE + 0x6789));
        expect(walker).toMatchObject({ outPageBits: 12, outLevel: 2 });
      });

      it("blames stage 2 for a table that it does not map, with the descriptor's IPA (CLASS TT)", () => {
        stage2Tables({ ipa: 0x2000, descriptor: 0n });
        stage1Tables(0x5000n | PAGE | AF | AP_UNPRIV);
        expect(nested(ACCESS_WRITE)).toBe(WALK_TRANSLATION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1, faultLevel: 3 });
        expect(faultIpa()).toBe(0x2000n + ((iova >> 21n) & 511n) * 8n);
      });

      it("needs to read tables only, and not from Device memory with S2PTW", () => {
        const stage1Leaf = 0x5000n | PAGE | AF | AP_UNPRIV;
        stage2Tables({ ipa: 0x2000, descriptor: BigInt(BASE + 0x2000) | PAGE | AF | HAP_READ | MEMATTR_OIWB });
        stage1Tables(stage1Leaf);
        expect(nested(ACCESS_WRITE)).toBe(WALK_OK);
        stage2Tables({ ipa: 0x2000, descriptor: BigInt(BASE + 0x2000) | PAGE | AF | HAP_WRITE | MEMATTR_OIWB });
        expect(nested(ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1 });
        const device = BigInt(BASE + 0x2000) | PAGE | AF | HAP_READ | HAP_WRITE | MEMATTR_DEV;
        stage2Tables({ ipa: 0x2000, descriptor: device });
        expect(nested(ACCESS_WRITE)).toBe(WALK_OK);
        const protectedWalk = tablesAt(BASE + 0x4_0000, { inputBits: 40, startLevel: 1, protectedTableWalk: true });
        expect(nested(ACCESS_WRITE, protectedWalk)).toBe(WALK_PERMISSION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1 });
        expect(faultIpa()).toBe(0x2000n + ((iova >> 21n) & 511n) * 8n);
        // The output may be Device memory: doorbells are.
        stage2Tables({ ipa: 0x5000, descriptor: BigInt(0x2008_0000) | PAGE | AF | HAP_WRITE | MEMATTR_DEV });
        expect(nested(ACCESS_WRITE, protectedWalk)).toBe(WALK_OK);
        expect(out()).toBe(0x2008_0123n);
      });

      it("reports stage 1's own faults as stage 1's", () => {
        stage2Tables();
        stage1Tables(0x5000n | PAGE | AF | AP_UNPRIV | AP_RDONLY);
        expect(nested(ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
        expect(walker).toMatchObject({ faultStage: 1, faultOnTableWalk: 0, faultHigh: 0, faultLow: 0 });
        stage1Tables(0n);
        expect(nested(ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
        expect(walker).toMatchObject({ faultStage: 1, faultLevel: 3 });
      });

      it("takes an IPA beyond stage 2's input for a level 0 translation fault of stage 2", () => {
        stage2Tables();
        stage1Tables(0x100_0000_0000n | PAGE | AF | AP_UNPRIV);
        expect(nested(ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultLevel: 0, faultOnTableWalk: 0 });
        expect(faultIpa()).toBe(0x100_0000_0123n);
        expect(walker.walkStage2(stage2, 0x100, 0, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
        expect(walker).toMatchObject({ faultStage: 2, faultLevel: 0 });
      });

      it("reads S2AP and XN, and XN[1:0] by privilege with FEAT_XNX (D8.4.3)", () => {
        const seen: string[] = [];
        for (const xnx of [false, true]) {
          const tables = tablesAt(BASE + 0x4_0000, { inputBits: 40, startLevel: 1, executeNeverPerPrivilege: xnx });
          for (const xn of [0n, 1n, 2n, 3n]) {
            stage2Tables({ ipa: 0x5000, descriptor: 0x7000n | PAGE | AF | HAP_WRITE | (xn << 53n) });
            expect(walker.walkStage2(tables, 0, 0x5000, 0)).toBe(WALK_OK);
            seen.push(shown(walker.outPermissions));
          }
        }
        expect(seen).toEqual(["-wx-wx", "-wx-wx", "-w--w-", "-w--w-", "-wx-wx", "-wx-w-", "-w--w-", "-w--wx"]);
      });

      it("indexes concatenated first tables with up to four more bits", () => {
        // 40 bits from level 1: two tables of 512 descriptors side by side (the second is the upper half).
        t.put(BASE + 0x4_1000 + 8, 0x8_4000_0000n | BLOCK | AF | HAP_READ);
        expect(walker.walkStage2(stage2, 0x80, 0x4000_0456, ACCESS_READ)).toBe(WALK_OK);
        expect(out()).toBe(0x8_4000_0456n);
        expect(walker).toMatchObject({ outPageBits: 30, outLevel: 1, outGlobal: 0 });
      });
    });

    it("sees memory that was moved, cut or taken away between walks", () => {
      path(0x5000n | PAGE | AF | AP_UNPRIV);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_OK);
      t.memory.remove(BASE);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_EXTERNAL_ABORT);
      const ram = new RamBlock("other", BYTES, 0);
      t.memory.place(BASE, ram);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
      t.memory.remove(BASE);
      t.memory.place(BASE + BYTES, ram);
      expect(walk1(stage1, ACCESS_READ)).toBe(WALK_EXTERNAL_ABORT);
    });
  });
}
