import { describe, expect, it } from "vitest";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import {
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BLOCKED,
  KIND_TRANSLATED,
  KIND_TRANSLATION_REQUEST,
  TRANSLATED,
  type VtdFeatures,
} from "../../../src/vtd/lookup/index.js";
import { faultName } from "../../../src/vtd/spec/index.js";
import {
  Bench,
  firstStage,
  FS_RO,
  FS_RW,
  FULL,
  HOLE,
  nested,
  passThrough,
  RAM_BASE,
  RID,
  ROOT_TABLE,
  secondStage,
  SS_RO,
  SS_RW,
  UPPER_RID,
  without,
} from "./bench.js";

const IOVA = 0x12_3456_7000n;
/** Legacy context entries: P, TT = 01b (device-TLB), 48 bits. */
const CE = 1n | 4n;
const AW48 = 2n;
/** Scalable-mode context entries: P, DTE, PASIDE; the smallest directory. */
const SCE = 1n | 4n | 8n;
const PAGE = BigInt(RAM_BASE) + 0x80_0000n;

interface Request {
  address?: bigint;
  access?: number;
  pasid?: number;
  rid?: number;
  kind?: number;
}

/** What a scenario writes; `fpd` is 0n or the FPD bit, for the context entry. */
type Scenario = (b: Bench, fpd: bigint) => Request;

/** How a Translation Request that meets the same ends: table 30's column. "none" is Success with R = W = 0. */
type Completion = "UR" | "CA" | "none" | undefined;

const WRITE: Request = { access: ACCESS_WRITE };

/** A legacy context over tables of a page, which `write` fills. */
function legacy(write?: (b: Bench, root: number) => void, request: Request = {}): Scenario {
  return (b, fpd) => {
    const root = b.page();
    write?.(b, root);
    b.legacy(RID, BigInt(root) | CE | fpd, AW48 | (7n << 8n));
    return request;
  };
}

/** A scalable context whose PASID 0 has the entry that `entry` makes. */
function scalable(entry: (b: Bench) => readonly bigint[], request: Request = {}): Scenario {
  return (b, fpd) => {
    const directory = b.page();
    b.pasid(directory, 0, ...entry(b));
    b.scalable(RID, BigInt(directory) | SCE | fpd);
    return request;
  };
}

/** A scalable context whose directory begins with this entry. */
function directoryEntry(entry: bigint): Scenario {
  return (b, fpd) => {
    const directory = b.page();
    b.write(directory, entry);
    b.scalable(RID, BigInt(directory) | SCE | fpd);
    return {};
  };
}

function first(write?: (b: Bench, root: number) => void, request: Request = {}, more = 0n): Scenario {
  return scalable((b) => {
    const root = b.page();
    write?.(b, root);
    return firstStage(root, 1n, more);
  }, request);
}

function second(write?: (b: Bench, root: number) => void, request: Request = {}): Scenario {
  return scalable((b) => {
    const root = b.page();
    write?.(b, root);
    return secondStage(root);
  }, request);
}

/** A first stage over a second one; all of `write`'s second-stage pages are its own to map. */
function below(write: (b: Bench, root1: number, root2: number) => void, request: Request = {}): Scenario {
  return scalable((b) => {
    const root1 = b.page();
    const root2 = b.page();
    write(b, root1, root2);
    return nested(root1, root2);
  }, request);
}

/** A first stage over a second one of 39 bits that maps all it uses onto itself. */
function narrow(write: (b: Bench, root1: number) => void): Scenario {
  return scalable((b) => {
    const [root1, root2] = [b.page(), b.page()];
    write(b, root1);
    const end = b.page();
    for (let page = root1; page < end; page += 0x1000) {
      b.map(root2, page, page, SS_RW, SS_RW, 3);
    }
    return nested(root1, root2, 1n);
  });
}

/** Maps every page that the first stage uses so far onto itself. */
function identity(b: Bench, root2: number, root1: number, attributes = SS_RW): void {
  const end = b.page();
  for (let page = root1; page < end; page += 0x1000) {
    b.map(root2, page, page, attributes, SS_RW);
  }
}

const map1 = (leaf: bigint, table = FS_RW) => (b: Bench, root: number): void => void b.map(root, IOVA, PAGE, leaf, table);
const map2 = (leaf: bigint, table = SS_RW) => (b: Bench, root: number): void => void b.map(root, IOVA, PAGE, leaf, table);

/** Reason, what leads there, whether FPD suppresses it, the completion of a Translation Request; the unit's features. */
const ROWS: readonly (readonly [number, string, Scenario, boolean, Completion, VtdFeatures?])[] = [
  [0x08, "LRT.1 root table not there", (b) => ((b.translator.rootTable = HOLE), {}), false, "CA"],
  [0x01, "LRT.2 root entry not present", () => ({}), false, "UR"],
  [0x0a, "LRT.3 reserved low bit", (b) => (b.write(ROOT_TABLE + 16, BigInt(RAM_BASE) | 3n), {}), false, "CA"],
  [0x0a, "LRT.3 address beyond the width", (b) => (b.write(ROOT_TABLE + 16, (1n << 46n) | 1n), {}), false, "CA"],
  [0x0a, "LRT.3 upper half", (b) => (b.write(ROOT_TABLE + 16, BigInt(RAM_BASE) | 1n, 1n), {}), false, "CA"],
  [0x09, "LCT.1 context table not there", (b) => (b.write(ROOT_TABLE + 16, BigInt(HOLE) | 1n), {}), false, "CA"],
  [0x02, "LCT.2 not present", (b, fpd) => (b.legacy(RID, fpd, 0n), {}), true, "UR"],
  [0x0b, "LCT.3 low bits", (b, fpd) => (b.legacy(RID, CE | 0x10n | fpd, AW48), {}), true, "CA"],
  [0x0b, "LCT.3 address", (b, fpd) => (b.legacy(RID, CE | (1n << 60n) | fpd, AW48), {}), true, "CA"],
  [0x0b, "LCT.3 bit 71", (b, fpd) => (b.legacy(RID, CE | fpd, AW48 | 0x80n), {}), true, "CA"],
  [0x0b, "LCT.3 above the domain id", (b, fpd) => (b.legacy(RID, CE | fpd, AW48 | (1n << 24n)), {}), true, "CA"],
  [0x0b, "LCT.3 domain id too wide", (b, fpd) => (b.legacy(RID, CE | fpd, AW48 | (0x1000n << 8n)), {}), true, "CA", without([], [1])],
  [0x03, "LCT.4.1 AW 0", (b, fpd) => (b.legacy(RID, CE | fpd, 0n), {}), true, "CA"],
  [0x03, "LCT.4.1 AW 4", (b, fpd) => (b.legacy(RID, CE | fpd, 4n), {}), true, "CA"],
  [0x03, "LCT.4.1 AW not in SAGAW", (b, fpd) => (b.legacy(RID, CE | fpd, 3n), {}), true, "CA", without([], [11])],
  [0x03, "LCT.4.2 TT 3", (b, fpd) => (b.legacy(RID, 0xdn | fpd, AW48), {}), true, "CA"],
  [0x03, "LCT.4.2 no device-TLBs", legacy(), true, undefined, without([2])],
  [0x03, "LCT.4.2 no pass-through", (b, fpd) => (b.legacy(RID, 9n | fpd, AW48), {}), true, "CA", without([6])],
  [0x03, "LCT.4.3 first table not there", (b, fpd) => (b.legacy(RID, BigInt(HOLE) | CE | fpd, AW48), {}), true, "CA"],
  [0x07, "LSS.1", legacy((b, root) => b.write64(root, BigInt(HOLE) | SS_RW)), true, "CA"],
  [0x0c, "LSS.2 address", legacy((b, root) => b.write64(root, (1n << 50n) | SS_RW)), true, "CA"],
  [0x0c, "LSS.2 page size at the top", legacy((b, root) => b.write64(root, BigInt(HOLE) | 0x83n)), true, "CA"],
  [0x04, "LGN.1.1 beyond AGAW", legacy(undefined, { address: 1n << 48n }), true, "none"],
  [0x04, "LGN.1.1 all ones", legacy(undefined, { address: -0x1000n & 0xffff_ffff_ffff_ffffn }), true, "none"],
  [0x04, "LGN.1.3 beyond HAW", (b, fpd) => (b.legacy(RID, 9n | fpd, AW48), { address: 1n << 46n }), true, undefined],
  [0x05, "LGN.2", legacy(map2(SS_RO), WRITE), true, undefined],
  [0x05, "LGN.2 neither", legacy(map2(0n), WRITE), true, "none"],
  [0x05, "LGN.2 in a table", legacy(map2(SS_RW, SS_RO), WRITE), true, undefined],
  [0x06, "LGN.3", legacy(map2(2n)), true, undefined],
  [0x06, "LGN.3 neither", legacy(), true, "none"],
  [0x0e, "LGN.4", legacy((b, root) => b.map(root, IOVA, 0xfee0_1000, SS_RW, SS_RW)), true, "CA"],
  [0x29, "read of the interrupt range", (b) => (b.legacy(RID, 9n, AW48), { address: 0xfeef_fffcn }), false, undefined],

  [0x30, "RTA.1.1 abort-DMA not supported", (b) => ((b.translator.mode = 3), {}), false, "CA", without([52])],
  [0x30, "RTA.1.2 reserved mode", (b) => ((b.translator.mode = 2), {}), false, "CA"],
  [0x30, "RTA.1.3 no scalable mode", (b) => ((b.translator.mode = 1), {}), false, "CA", without([43])],
  [0x31, "RTA.2 PASID in legacy mode", legacy(undefined, { pasid: 5 }), false, "UR"],
  [0x33, "RTA.4", (b) => ((b.translator.mode = 3), {}), false, "UR"],
  [0x38, "SRT.1", (b) => ((b.translator.mode = 1), (b.translator.rootTable = HOLE), {}), false, "CA"],
  [0x39, "SRT.2", (b) => ((b.translator.mode = 1), {}), false, "UR"],
  [0x39, "SRT.2 upper half", (b) => (b.scalable(RID, SCE), { rid: UPPER_RID }), false, "UR"],
  [0x3a, "SRT.3", (b) => ((b.translator.mode = 1), b.write(ROOT_TABLE + 16, BigInt(RAM_BASE) | 0x801n), {}), false, "CA"],
  [0x3a, "SRT.3 upper half", (b) => ((b.translator.mode = 1), b.write(ROOT_TABLE + 24, (1n << 46n) | 1n), { rid: UPPER_RID }), false, "CA"],
  [0x40, "SCT.1", (b) => ((b.translator.mode = 1), b.write(ROOT_TABLE + 16, BigInt(HOLE) | 1n), {}), false, "CA"],
  [0x41, "SCT.2", (b, fpd) => (b.scalable(RID, fpd), {}), true, "UR"],
  [0x42, "SCT.3 bit 8", (b, fpd) => (b.scalable(RID, SCE | 0x100n | fpd), {}), true, "CA"],
  [0x42, "SCT.3 HPTE", (b, fpd) => (b.scalable(RID, SCE | 0x20n | fpd), {}), true, "CA"],
  [0x42, "SCT.3 address", (b, fpd) => (b.scalable(RID, SCE | (1n << 46n) | fpd), {}), true, "CA"],
  [0x42, "SCT.3 bit 85", (b, fpd) => (b.scalable(RID, SCE | fpd, 1n << 21n), {}), true, "CA"],
  [0x42, "SCT.3 bit 96", (b, fpd) => (b.scalable(RID, SCE | fpd, 1n << 32n), {}), true, "CA"],
  [0x42, "SCT.3 fourth quadword", (b, fpd) => (b.write(b.scalable(RID, SCE | fpd) + 24, 1n << 63n), {}), true, "CA"],
  [0x42, "SCT.3 RID_PASID without RPS", (b, fpd) => (b.scalable(RID, SCE | fpd, 1n), {}), true, "CA", without([49])],
  [0x42, "SCT.3 RID_PRIV without RPRIVS", (b, fpd) => (b.scalable(RID, SCE | fpd, 1n << 20n), {}), true, "CA", without([53])],
  [0x42, "SCT.3 DTE without DT", (b, fpd) => (b.scalable(RID, SCE | fpd), {}), true, undefined, without([2])],
  [0x42, "SCT.3 PASIDE without PASID", (b, fpd) => (b.scalable(RID, SCE | fpd), {}), true, "CA", without([40])],
  [0x42, "SCT.3 PRE without PRS", (b, fpd) => (b.scalable(RID, SCE | 0x10n | fpd), {}), true, "CA", without([29])],
  [0x43, "SCT.4.1 PRE without DTE", (b, fpd) => (b.scalable(RID, 0x11n | fpd), {}), true, "CA"],
  [0x43, "SCT.4.2 RID_PASID beyond the directory", (b, fpd) => (b.scalable(RID, SCE | fpd, 0x2000n), {}), true, "CA"],
  [0x44, "SCT.5", (b, fpd) => (b.scalable(RID, 1n | fpd), { kind: KIND_TRANSLATED }), true, undefined],
  [0x0d, "LCT.5", (b, fpd) => (b.legacy(RID, 1n | fpd, AW48), { kind: KIND_TRANSLATED }), true, undefined],
  [0x0d, "LCT.5 pass-through", (b, fpd) => (b.legacy(RID, 9n | fpd, AW48), { kind: KIND_TRANSLATED }), true, undefined],
  [0x45, "SCT.6", (b, fpd) => (b.scalable(RID, 5n | fpd), { pasid: 1 }), true, "UR"],
  [0x46, "SCT.7", (b, fpd) => (b.scalable(RID, SCE | fpd), { pasid: 0x2000 }), true, "UR"],
  [0x48, "SCT.9", (b, fpd) => (b.scalable(RID, SCE | fpd, 9n), { pasid: 9 }), true, "UR"],
  [0x89, "SGN.10", (b, fpd) => (b.scalable(RID, SCE | fpd), { pasid: 0x100 }), true, "UR", without([38, 39])],
  [0x50, "SPD.1", (b, fpd) => (b.scalable(RID, SCE | BigInt(HOLE) | fpd), {}), false, "CA"],
  [0x51, "SPD.2", (b, fpd) => (b.scalable(RID, SCE | BigInt(b.page()) | fpd), {}), true, "none"],
  [0x52, "SPD.3 low bits", directoryEntry(BigInt(RAM_BASE) | 5n), true, "CA"],
  [0x52, "SPD.3 address", directoryEntry((1n << 63n) | 1n), true, "CA"],
  [0x58, "SPT.1", directoryEntry(BigInt(HOLE) | 1n), false, "CA"],
  [0x59, "SPT.2", scalable(() => []), true, "none"],
  [0x5a, "SPT.3 bit 5", scalable(() => [passThrough()[0] | 0x20n]), true, "CA"],
  [0x5a, "SPT.3 bit 10", scalable(() => [passThrough()[0] | 0x400n]), true, "CA"],
  [0x5a, "SPT.3 SSPTPTR", scalable(() => [passThrough()[0] | (1n << 46n)]), true, "CA"],
  [0x5a, "SPT.3 SSPTPTR without SSTS", scalable(() => [passThrough()[0] | 0x1000n]), true, "CA", without([46])],
  [0x5a, "SPT.3 SSADE without SSADS", scalable(() => [passThrough()[0] | 0x200n]), true, "CA", without([45])],
  [0x5a, "SPT.3 bit 80", scalable(() => [passThrough()[0], 1n << 16n]), true, "CA"],
  [0x5a, "SPT.3 bit 91", scalable(() => [passThrough()[0], 1n << 27n]), true, "CA"],
  [0x5a, "SPT.3 DID", scalable(() => [passThrough()[0], 0x4000n]), true, "CA", without([], [1])],
  [0x5a, "SPT.3 PWSNP without SMPWCS", scalable(() => [passThrough()[0], 1n << 23n]), true, "CA", without([48])],
  [0x5a, "SPT.3 PGSNP without SC", scalable(() => [passThrough()[0], 1n << 24n]), true, "CA", without([7])],
  [0x5a, "SPT.3 CD without MTS", scalable(() => [passThrough()[0], 1n << 25n]), true, "CA"],
  [0x5a, "SPT.3 PAT without MTS", scalable(() => [passThrough()[0], 1n << 63n]), true, "CA"],
  [0x5a, "SPT.3 SRE without SRS", scalable(() => [passThrough()[0], 0n, 1n]), true, "CA", without([31])],
  [0x5a, "SPT.3 ERE", scalable(() => [passThrough()[0], 0n, 2n]), true, "CA"],
  [0x5a, "SPT.3 FSPM without FSTS", scalable(() => [passThrough()[0], 0n, 4n]), true, "CA", without([47])],
  [0x5a, "SPT.3 WPE without FSTS", scalable(() => [passThrough()[0], 0n, 0x10n]), true, "CA", without([47])],
  [0x5a, "SPT.3 EAFE without EAFS", scalable(() => [passThrough()[0], 0n, 0x80n]), true, "CA", without([34])],
  [0x5a, "SPT.3 bit 136", scalable(() => [passThrough()[0], 0n, 0x100n]), true, "CA"],
  [0x5a, "SPT.3 FSPTPTR", scalable(() => [passThrough()[0], 0n, 1n << 46n]), true, "CA"],
  [0x5a, "SPT.3 FSPTPTR without FSTS", scalable(() => [passThrough()[0], 0n, 0x1000n]), true, "CA", without([47])],
  ...[3, 4, 5, 6, 7].map((quad): (typeof ROWS)[number] => [
    0x5a,
    `SPT.3 quadword ${quad}`,
    scalable(() => [...passThrough(), ...Array<bigint>(quad - 3).fill(0n), 1n << 40n]),
    true,
    "CA",
  ]),
  [0x5b, "SPT.4.1 AW", scalable(() => secondStage(RAM_BASE, 0n)), true, "CA"],
  [0x5b, "SPT.4.1 AW not in SAGAW", scalable(() => nested(RAM_BASE, RAM_BASE, 3n)), true, "CA", without([], [11])],
  [0x5b, "SPT.4.2 PGTT 0", scalable(() => [1n]), true, "CA"],
  [0x5b, "SPT.4.2 PGTT 5", scalable(() => [1n | (5n << 6n)]), true, "CA"],
  [0x5b, "SPT.4.2 no first stage", scalable(() => [1n | (1n << 6n)]), true, "CA", without([47])],
  [0x5b, "SPT.4.2 no second stage", scalable(() => [1n | (2n << 6n)]), true, "CA", without([46])],
  [0x5b, "SPT.4.2 no nesting", scalable(() => nested(RAM_BASE, RAM_BASE)), true, "CA", without([26])],
  [0x5b, "SPT.4.2 no pass-through", scalable(() => passThrough()), true, "CA", without([6])],
  [0x5b, "SPT.4.3 FSPM 2", scalable(() => firstStage(RAM_BASE, 1n, 8n)), true, "CA"],
  [0x5b, "SPT.4.3 no five levels", scalable(() => firstStage(RAM_BASE, 1n, 4n)), true, "CA", without([], [60])],
  [0x5b, "SPT.4.4", scalable(() => nested(2 ** 40, RAM_BASE, 1n)), true, "CA"],
  [0x5c, "SPT.5", scalable(() => firstStage(RAM_BASE), { pasid: 64, access: ACCESS_READ | ACCESS_EXECUTE }), true, undefined],
  [0x5d, "SPT.6 RID_PRIV", (b, fpd) => {
    const directory = b.page();
    b.pasid(directory, 0, ...passThrough());
    b.scalable(RID, BigInt(directory) | SCE | fpd, 1n << 20n);
    return {};
  }, true, "none"],

  [0x70, "SFS.1", first((b, root) => b.write64(root, BigInt(HOLE) | FS_RW)), true, "none"],
  [0x71, "SFS.2", first(), true, "none"],
  [0x71, "SFS.2 last level", first(map1(FS_RW & ~1n)), true, "none"],
  [0x72, "SFS.3 address", first((b, root) => b.write64(root, (1n << 46n) | FS_RW)), true, "none"],
  [0x72, "SFS.3 page size at the top", first((b, root) => b.write64(root, BigInt(HOLE) | 0x80n | FS_RW)), true, "none"],
  [0x73, "SFS.4", scalable(() => firstStage(HOLE)), true, "none"],
  [0x74, "SFS.5 a table beyond the second stage", narrow((b, root1) => b.write64(root1, (1n << 40n) | FS_RW)), true, "none"],
  [0x74, "SFS.5 a page beyond the second stage", narrow((b, root1) => void b.map(root1, IOVA, 1n << 40n, FS_RW, FS_RW)), true, "none"],
  [0x75, "SFS.6", below((b, root1, root2) => b.map(root2, root1, root1, 2n, SS_RW)), true, "none"],
  [0x76, "SFS.7", below((b, root1, root2) => {
    map1(FS_RW)(b, root1);
    identity(b, root2, root1 + 0x2000, 2n);
    b.map(root2, root1, root1, SS_RW, SS_RW);
  }), true, "none"],
  [0x77, "SFS.8", below((b, root1, root2) => {
    map1(FS_RW, 7n)(b, root1);
    identity(b, root2, root1, SS_RO);
  }), true, "none"],
  [0x78, "SSS.1", second((b, root) => b.write64(root, BigInt(HOLE) | SS_RW)), true, "CA"],
  [0x78, "SSS.1 nested", below((b, _root1, root2) => b.write64(root2, BigInt(HOLE) | SS_RW)), true, "CA"],
  [0x79, "SSS.2", second(), true, "none"],
  [0x79, "SSS.2 nothing in common", second(map2(SS_RO, 2n)), true, "none"],
  [0x79, "SSS.2 nested, of a first-stage entry", below(() => undefined), true, "none"],
  [0x79, "SSS.2 nested, of the output", below((b, root1, root2) => {
    map1(FS_RW)(b, root1);
    identity(b, root2, root1);
  }), true, "none"],
  [0x7a, "SSS.3", second((b, root) => b.write64(root, (1n << 50n) | SS_RW)), true, "CA"],
  [0x7b, "SSS.4", scalable(() => secondStage(HOLE)), true, "CA"],
  [0x7b, "SSS.4 nested", scalable((b) => nested(b.page(), HOLE)), true, "CA"],
  [0x80, "SGN.1", first(undefined, { address: 0x8000_0000_0000n }), true, "none"],
  [0x80, "SGN.1 upper half", first(undefined, { address: 0xffff_0000_0000_0000n }), true, "none"],
  [0x80, "SGN.1 five levels", first(undefined, { address: 1n << 56n }, 4n), true, "none"],
  [0x81, "SGN.2", first(map1(0x63n)), true, "none"],
  [0x81, "SGN.2 in a table", first(map1(FS_RW, 0x63n)), true, "none"],
  [0x83, "SGN.4.2", scalable(() => passThrough(), { address: 1n << 46n }), true, "none"],
  [0x84, "SGN.5", second(undefined, { address: 1n << 48n }), true, "none"],
  [0x85, "SGN.6 first stage", first(map1(FS_RO), WRITE), true, undefined],
  [0x85, "SGN.6 second stage", second(map2(SS_RO), WRITE), true, undefined],
  [0x85, "SGN.6 nested", below((b, root1, root2) => {
    map1(FS_RW)(b, root1);
    identity(b, root2, root1);
    b.map(root2, PAGE, PAGE, SS_RO, SS_RW);
  }, WRITE), true, undefined],
  [0x86, "SGN.7", second(map2(2n)), true, undefined],
  [0x87, "SGN.8.1 first stage", first((b, root) => b.map(root, IOVA, 0xfee0_0000, FS_RW, FS_RW)), true, "CA"],
  [0x87, "SGN.8.1 second stage", second((b, root) => b.map(root, IOVA, 0xfeef_f000, SS_RW, SS_RW)), true, "CA"],
];

function meet([reason, , scenario, , , features = FULL]: (typeof ROWS)[number], fpd: bigint, kind?: number): [Bench, number, Request] {
  const b = new Bench(features);
  const request = scenario(b, fpd);
  const { address = IOVA, access = ACCESS_READ, pasid = -1, rid = RID } = request;
  let asked = pasid;
  if (pasid === 64) {
    // A PASID whose entry is PASID 0's.
    const directory = Number(b.read64(Number(b.read64(ROOT_TABLE + 16) & ~0xfffn) + (RID & 0x7f) * 32) & ~0xfffn);
    b.write64(directory + 8, b.read64(directory));
    asked = 64;
  }
  const code = b.translate(rid, address, access, asked, kind ?? request.kind ?? 0);
  expect(faultName(b.translator.reason)).toBe(faultName(reason));
  return [b, code, { ...request, pasid: asked, access, address, rid }];
}

describe("fault conditions of table 30", () => {
  it.each(ROWS.map((row) => [row[0].toString(16), row[1], row] as const))("0x%s %s", (_reason, _name, row) => {
    const [reason, , , qualified, completion] = row;
    const [b, code, request] = meet(row, 0n);
    expect(code).toBe(BLOCKED);
    expect(b.fault).toEqual({
      FI: request.address! & ~0xfffn,
      SID: request.rid,
      FR: reason,
      ...(request.access === ACCESS_WRITE ? {} : { T1: 1 }),
      ...(request.kind === undefined ? {} : { AT: 2 }),
      ...(request.pasid! < 0 ? {} : { PP: 1, PV: request.pasid, ...((request.access! & ACCESS_EXECUTE) !== 0 ? { EXE: 1 } : {}) }),
    });
    // What faults is not held: the next request reads again, and meets the same.
    const again = b.translate(request.rid!, request.address!, request.access, request.pasid, request.kind);
    expect([again, b.translator.reason]).toEqual([BLOCKED, reason]);

    // 7.1.1: FPD suppresses the report of qualified faults.
    const [quiet, quietCode] = meet(row, 2n);
    expect(quietCode).toBe(BLOCKED);
    expect(quiet.fault === undefined).toBe(qualified);

    if (completion !== undefined) {
      const [asks, answer] = meet(row, 0n, KIND_TRANSLATION_REQUEST);
      expect(answer).toBe({ UR: ATS_UNSUPPORTED, CA: ATS_ABORTED, none: TRANSLATED }[completion]);
      if (completion === "none") {
        // 7.1.2: recoverable, told by the completion alone.
        expect([asks.translator.outPermissions, asks.fault]).toEqual([0, undefined]);
      } else {
        expect(asks.fault).toMatchObject({ FR: reason, AT: 1, T1: 1 });
      }
    }
  });
});

describe("faults by privilege and execution", () => {
  /** PASID 5 with a first stage, and PASID 6 with SRE (and WPE). */
  const machine = (features = FULL, more = 1n): [Bench, number] => {
    const b = new Bench(features);
    const directory = b.page();
    const root = b.page();
    b.pasid(directory, 5, ...firstStage(root));
    b.pasid(directory, 6, ...firstStage(root, 1n, more));
    b.scalable(RID, BigInt(directory) | SCE);
    return [b, root];
  };

  it("0x5d: privileged mode without SRE", () => {
    const [b, root] = machine();
    b.map(root, IOVA, PAGE, FS_RW, FS_RW);
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 5)).toBe(BLOCKED);
    expect(b.fault).toEqual({ FI: IOVA, SID: RID, FR: 0x5d, T1: 1, PP: 1, PV: 5, PRIV: 1 });
    // Also with the translation cached.
    expect(b.translate(RID, IOVA, ACCESS_READ, 5)).toBe(TRANSLATED);
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 5)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0x5d);
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 6)).toBe(TRANSLATED);
    // A Translation Request is told that nothing is permitted.
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 5, KIND_TRANSLATION_REQUEST)).toBe(TRANSLATED);
    expect([b.translator.outPermissions, b.fault]).toEqual([0, undefined]);
  });

  it("0x81 and 0x85: supervisor pages, and privileged writes by WPE", () => {
    for (const [more, writes] of [
      [1n, TRANSLATED],
      [0x11n, BLOCKED],
    ] as const) {
      const [b, root] = machine(FULL, more);
      b.map(root, IOVA, PAGE, 0x61n, FS_RW);
      expect(b.translate(RID, IOVA, ACCESS_READ, 6)).toBe(BLOCKED);
      expect(b.translator.reason).toBe(0x81);
      expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 6)).toBe(TRANSLATED);
      expect(b.translate(RID, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED, 6)).toBe(writes);
      expect(b.translator.reason).toBe(writes === TRANSLATED ? 0 : 0x85);
    }
  });

  it("tells apart in the IOTLB entries that differ in WPE alone", () => {
    const b = new Bench();
    const directory = b.page();
    const other = b.page();
    const root = b.page();
    b.map(root, IOVA, PAGE, 0x61n, FS_RW);
    b.pasid(directory, 6, ...firstStage(root, 1n, 1n));
    b.pasid(other, 6, ...firstStage(root, 1n, 0x11n));
    b.scalable(RID, BigInt(directory) | SCE);
    b.scalable(RID + 1, BigInt(other) | SCE);
    expect(b.translate(RID, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED, 6)).toBe(TRANSLATED);
    expect(b.translate(RID + 1, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED, 6)).toBe(BLOCKED);
    expect(b.translate(RID, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED, 6)).toBe(TRANSLATED);
    // One invalidation reaches both.
    b.map(root, IOVA, PAGE + 0x1000n, 0x61n, FS_RW);
    b.translator.invalidatePasidIotlbPages(1, 6, Number(IOVA >> 32n), Number(IOVA & 0xffff_ffffn) | 0, 0);
    for (const rid of [RID, RID + 1]) {
      expect(b.translate(rid, IOVA, ACCESS_READ | ACCESS_PRIVILEGED, 6)).toBe(TRANSLATED);
      expect(b.out).toBe(PAGE + 0x1000n);
    }
  });

  it("0x5c and 0x82: execution, of units that have it", () => {
    const [b, root] = machine();
    b.map(root, IOVA, PAGE, FS_RW, FS_RW);
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_EXECUTE, 5)).toBe(BLOCKED);
    expect(b.fault).toEqual({ FI: IOVA, SID: RID, FR: 0x5c, T1: 1, PP: 1, PV: 5, EXE: 1 });
    // Revisions before 5, with ERS: ERE (bit 129) and NXE (133).
    const [old, oldRoot] = machine({ ...FULL, executeRequests: true }, 0x22n);
    old.map(oldRoot, IOVA, PAGE, FS_RW | (1n << 63n), FS_RW);
    expect(old.translate(RID, IOVA, ACCESS_READ | ACCESS_EXECUTE, 5)).toBe(BLOCKED);
    expect(old.translator.reason).toBe(0x5c);
    expect(old.translate(RID, IOVA, ACCESS_READ | ACCESS_EXECUTE, 6)).toBe(BLOCKED);
    expect(old.translator.reason).toBe(0x82);
    expect(old.translate(RID, IOVA, ACCESS_READ, 6)).toBe(TRANSLATED);
  });

  it("ignores execution and privilege of requests without PASID", () => {
    const b = new Bench();
    const directory = b.page();
    const root = b.page();
    b.map(root, IOVA, PAGE, FS_RW, FS_RW);
    b.pasid(directory, 0, ...firstStage(root));
    b.scalable(RID, BigInt(directory) | SCE);
    expect(b.translate(RID, IOVA, ACCESS_READ | ACCESS_EXECUTE | ACCESS_PRIVILEGED)).toBe(TRANSLATED);
  });
});

describe("accessed and dirty flags", () => {
  it.each([
    [0x90, false, 0n, FULL],
    [0x90, false, 0n, without([48])],
    [0, false, 1n << 23n, FULL],
    [0, true, 0n, without([48])],
  ])("0x%s of a first stage; coherent walks %s, PWSNP 0x%s", (reason, coherentWalks, snoop, features) => {
    const b = new Bench(features, { coherentWalks });
    const directory = b.page();
    const root = b.page();
    const leaf = b.map(root, IOVA, PAGE, 7n, FS_RW);
    const [low, second, pointer] = firstStage(root);
    b.pasid(directory, 0, low, second | snoop, pointer);
    b.scalable(RID, BigInt(directory) | SCE);
    expect(b.translate(RID, IOVA, ACCESS_WRITE)).toBe(reason === 0 ? TRANSLATED : BLOCKED);
    expect(b.translator.reason).toBe(reason);
    expect(b.read64(leaf) & 0x60n).toBe(reason === 0 ? 0x60n : 0n);
    // Where they are set already nothing is in the way.
    b.write64(leaf, PAGE | FS_RW);
    expect(b.translate(RID, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
  });

  it("0x7c of a second stage with SSADE", () => {
    for (const coherentWalks of [false, true]) {
      const b = new Bench(FULL, { coherentWalks });
      const directory = b.page();
      const root = b.page();
      const leaf = b.map(root, IOVA, PAGE, SS_RW, SS_RW | 0x100n);
      b.pasid(directory, 0, ...secondStage(root, 2n, 2n, 0x200n));
      b.scalable(RID, BigInt(directory) | SCE);
      expect(b.translate(RID, IOVA, ACCESS_WRITE)).toBe(coherentWalks ? TRANSLATED : BLOCKED);
      expect(b.translator.reason).toBe(coherentWalks ? 0 : 0x7c);
      expect(b.read64(leaf) & 0x300n).toBe(coherentWalks ? 0x300n : 0n);
    }
  });

  it("sets the dirty flag when a write follows a read of a cached page", () => {
    const b = new Bench();
    const directory = b.page();
    const root = b.page();
    const leaf = b.map(root, IOVA, PAGE, 7n, 7n);
    b.pasid(directory, 0, ...firstStage(root));
    b.scalable(RID, BigInt(directory) | SCE);
    expect(b.translate(RID, IOVA)).toBe(TRANSLATED);
    expect(b.read64(leaf) & 0x60n).toBe(0x20n);
    expect(b.translate(RID, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    expect(b.read64(leaf) & 0x60n).toBe(0x60n);
  });
});

describe("whose fault it is", () => {
  it("says stage, domain, PASID and kind of entry", () => {
    const b = new Bench();
    const directory = b.page();
    const [root1, root2] = [b.page(), b.page()];
    b.map(root2, root1, root1, SS_RW, SS_RW);
    b.pasid(directory, 7, ...nested(root1, root2, 2n, 9n));
    b.scalable(RID, BigInt(directory) | SCE);
    const t = b.translator;
    expect(b.translate(RID, IOVA, ACCESS_READ, 7)).toBe(BLOCKED);
    expect([t.reason, t.faultStage, t.domain, t.entryPasid, t.entryKind]).toEqual([0x71, 1, 9, 7, 3]);
    // The first stage's next table is not the second stage's to read; then its page is not.
    b.write64(root1, 0x5000n | 7n);
    expect(b.translate(RID, 0x1000, ACCESS_READ, 7)).toBe(BLOCKED);
    expect([t.reason, t.faultStage, t.faultOnTables]).toEqual([0x79, 2, true]);
    b.write64(root1, 0n);
    b.map(root1, 0x1000, 0x6000, FS_RW, FS_RW);
    for (let page = root1; page < root1 + 0x1_0000; page += 0x1000) {
      b.map(root2, page, page, SS_RW, SS_RW);
    }
    expect(b.translate(RID, 0x1000, ACCESS_READ, 7)).toBe(BLOCKED);
    expect([t.reason, t.faultStage, t.faultOnTables, t.entryKind]).toEqual([0x79, 2, false, 3]);
    expect(b.translate(RID, IOVA, ACCESS_READ, 8)).toBe(BLOCKED);
    expect([t.reason, t.faultStage, t.domain, t.entryPasid, t.entryKind]).toEqual([0x59, 0, -1, -1, 0]);
  });
});
