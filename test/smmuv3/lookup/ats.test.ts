import { beforeEach, describe, expect, it } from "vitest";
import {
  ABORTED,
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BYPASSED,
  KIND_ATS_REQUEST,
  KIND_ATS_TRANSLATED,
  TRANSLATED,
} from "../../../src/smmuv3/lookup/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench, CDTAB, cdFields, RAM_BASE, S1_RO, S1_RW, S2_RO, S2_RW, stage2Fields, withIdr } from "./bench.js";

const SID = 6;
const IOVA = 0x1234_5000n;
const HOLE = 0x9000_0000;
const RW = ACCESS_READ | ACCESS_WRITE;
let b: Bench;
let root: number;
let root2: number;

const request = (access = RW, address: number | bigint = IOVA, ssid = -1, sid = SID): number =>
  b.translate(sid, address, access, ssid, KIND_ATS_REQUEST);
const translated = (access = ACCESS_READ, address: number | bigint = IOVA, sid = SID): number =>
  b.translate(sid, address, access, -1, KIND_ATS_TRANSLATED);

beforeEach(() => {
  b = new Bench();
  root = b.page();
  root2 = b.page();
  b.cd(CDTAB, cdFields(root));
  b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1 });
});

/** The stream nested, with stage 2 mapping CDs and tables onto themselves. */
function nested(eats: number, more: object = {}): void {
  b.ste(SID, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, EATS: eats, ...stage2Fields(root2), ...more });
  b.map(root2, CDTAB, CDTAB, S2_RW);
  for (let at = root; at < root + 0x10_0000; at += 0x1000) {
    b.map(root2, at, at, S2_RW);
  }
}

describe("ATS Translation Requests", () => {
  it("are answered UR with F_BAD_ATS_TREQ where ATS is off", () => {
    b.translator.enabled = false;
    expect(request(RW, IOVA + 0x123n)).toBe(ATS_UNSUPPORTED);
    // R and W asked for, one STU, InputAddr[63:12].
    expect(b.eventWords).toEqual(["00000005", "00000006", "c0000001", "00000000", "12345000", "00000000", "00000000", "00000000"]);
    b.translator.enabled = true;
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 0 });
    expect(request(ACCESS_READ | ACCESS_EXECUTE | ACCESS_PRIVILEGED, IOVA, 3)).toBe(ATS_UNSUPPORTED);
    expect(b.eventWords!.slice(0, 4)).toEqual(["00003805", "00000006", "b0000001", "00000000"]);
    // Without a PASID there is no execution and no privilege to ask for (13.7).
    expect(request(ACCESS_READ | ACCESS_EXECUTE | ACCESS_PRIVILEGED)).toBe(ATS_UNSUPPORTED);
    expect(b.eventWords![2]).toBe("80000001");
    b.ste(1, { V: 1, CONFIG: 4, EATS: 1 });
    expect(request(RW, IOVA, -1, 1)).toBe(ATS_UNSUPPORTED);
    expect(b.event).toMatchObject({ name: "F_BAD_ATS_TREQ", SID: 1 });
  });

  it("are answered UR silently where the stream aborts", () => {
    b.ste(SID, { V: 1, CONFIG: 0 });
    expect(request()).toBe(ATS_UNSUPPORTED);
    expect(b.event).toBeUndefined();
  });

  it("raise nothing on an SMMU without ATS", () => {
    b = new Bench(withIdr(0, 0x400));
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1 });
    expect(request()).toBe(ATS_UNSUPPORTED);
    expect(b.event).toBeUndefined();
  });

  it("are answered CA for configuration errors, recorded only with REC_CFG_ATS", () => {
    const rows: Array<[string, () => void, number]> = [
      ["C_BAD_STREAMID", () => {}, 0x1000],
      ["C_BAD_STE", () => b.ste(1, { V: 0 }), 1],
      ["C_BAD_SUBSTREAMID", () => b.ste(2, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, S1CDMAX: 1 }), 2],
      ["F_STREAM_DISABLED", () => b.ste(3, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, S1CDMAX: 1 }), 3],
      ["F_CD_FETCH", () => b.ste(4, { V: 1, CONFIG: 5, S1CONTEXTPTR: HOLE, EATS: 1 }), 4],
      ["C_BAD_CD", () => b.ste(5, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB + 64, EATS: 1 }), 5],
      [
        "F_WALK_EABT",
        () => {
          b.cd(CDTAB + 128, cdFields(HOLE));
          b.ste(7, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB + 128, EATS: 1 });
        },
        7,
      ],
    ];
    b.translator.recordInvalidSid = true;
    for (const [name, prepare, sid] of rows) {
      prepare();
      b.translator.recordAtsErrors = false;
      const ssid = name === "C_BAD_SUBSTREAMID" ? 4 : -1;
      expect([name, request(RW, IOVA, ssid, sid), b.event]).toEqual([name, ATS_ABORTED, undefined]);
      b.translator.recordAtsErrors = true;
      expect(request(RW, IOVA, ssid, sid)).toBe(ATS_ABORTED);
      expect(b.event).toMatchObject({ name });
    }
    b.translator.recordInvalidSid = false;
    request(RW, IOVA, -1, 0x1000);
    expect(b.event).toBeUndefined();
  });

  it("are answered with no permission for translation faults of either stage, without a record", () => {
    const denied = (): void => {
      expect(request()).toBe(TRANSLATED);
      expect([b.translator.outPermissions, b.translator.outPageBits, b.event]).toEqual([0, 12, undefined]);
    };
    denied();
    b.map(root, IOVA, RAM_BASE, S1_RW & ~0x400n);
    denied();
    b.map(root, IOVA, RAM_BASE, S1_RW);
    nested(1);
    b.translator.reset();
    denied();
    // Stage 2 does not even map the CD.
    b.ste(SID, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, EATS: 1, ...stage2Fields(b.page()) });
    b.translator.reset();
    denied();
    expect(request(RW, -1n)).toBe(TRANSLATED);
    expect(b.translator.outPermissions).toBe(0);
  });

  it("are granted what the tables permit of what was asked", () => {
    const granted = (attributes: bigint, access: number, ssid = -1): number => {
      b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, S1CDMAX: 1, S1DSS: 2 });
      b.cd(CDTAB + 64, cdFields(root, { ASID: 2 }));
      b.map(root, IOVA, RAM_BASE, attributes);
      b.translator.reset();
      expect(request(access, IOVA + 8n, ssid)).toBe(TRANSLATED);
      expect(b.out).toBe(BigInt(RAM_BASE + 8));
      return b.translator.outPermissions;
    };
    const privilegedOnly = S1_RW & ~0x40n;
    expect(granted(S1_RW, RW)).toBe(RW);
    expect(granted(S1_RW, ACCESS_READ)).toBe(ACCESS_READ);
    expect(granted(S1_RO, RW)).toBe(ACCESS_READ);
    expect(granted(privilegedOnly, RW)).toBe(0);
    expect(granted(privilegedOnly, RW | ACCESS_PRIVILEGED, 1)).toBe(RW);
    expect(granted(S1_RO, RW | ACCESS_EXECUTE, 1)).toBe(ACCESS_READ | ACCESS_EXECUTE);
    expect(granted(S1_RO | (1n << 54n), RW | ACCESS_EXECUTE, 1)).toBe(ACCESS_READ);
    expect(granted(S1_RO, RW, 1)).toBe(ACCESS_READ);
    // Execute-only: no access for ATS.
    expect(granted(S1_RO & ~0x40n, RW | ACCESS_EXECUTE, 1)).toBe(0);
  });

  it("follow PRIVCFG and INSTCFG", () => {
    b.map(root, IOVA, RAM_BASE, S1_RO & ~0x40n);
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, PRIVCFG: 3 });
    expect(request()).toBe(TRANSLATED);
    expect(b.translator.outPermissions).toBe(ACCESS_READ);
    // Execute-only for EL0, all reads are instruction fetches.
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, INSTCFG: 3 });
    b.translator.invalidateSte(SID);
    expect(request()).toBe(TRANSLATED);
    expect(b.translator.outPermissions).toBe(ACCESS_READ);
  });

  it("are answered through both stages with full ATS", () => {
    b.map(root, IOVA, 0x7000_0000, S1_RW);
    nested(1);
    b.map(root2, 0x7000_0000, RAM_BASE + 0x9000, S2_RO);
    expect(request()).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x9000));
    expect(b.translator.outPermissions).toBe(ACCESS_READ);
  });

  it("are answered with the IPA by split-stage ATS, with both stages' permissions", () => {
    b.map(root, IOVA, 0x7000_0000, S1_RW);
    nested(2);
    b.map(root2, 0x7000_0000, RAM_BASE + 0x9000, S2_RO);
    // Without ATSCHK split-stage is as if off.
    expect(request()).toBe(ATS_UNSUPPORTED);
    expect(b.event?.name).toBe("F_BAD_ATS_TREQ");
    b.translator.atsCheck = true;
    expect(request(RW, IOVA + 0x20n)).toBe(TRANSLATED);
    expect(b.out).toBe(0x7000_0020n);
    expect(b.translator.outPermissions).toBe(ACCESS_READ);
    // S1DSS skips stage 1: identity, stage 2's permissions.
    b.ste(SID, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, EATS: 2, S1CDMAX: 1, S1DSS: 1, ...stage2Fields(root2) });
    b.translator.invalidateSte(SID);
    expect(request(RW, 0x7000_0040)).toBe(TRANSLATED);
    expect(b.out).toBe(0x7000_0040n);
    expect(b.translator.outPermissions).toBe(ACCESS_READ);
  });

  it("are answered by identity where S1DSS skips the only stage", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1, S1CDMAX: 1, S1DSS: 1 });
    expect(request(RW, 0x5000_0000)).toBe(BYPASSED);
    expect(b.out).toBe(0x5000_0000n);
    expect(b.translator.outPermissions).toBe(RW);
  });
});

describe("ATS Translated transactions", () => {
  it("pass unchecked without ATSCHK, whatever the stream table says", () => {
    b.ste(SID, { V: 0 });
    expect(translated()).toBe(BYPASSED);
    expect(b.out).toBe(IOVA);
    expect(translated(ACCESS_READ, IOVA, 0xffff_ffff)).toBe(BYPASSED);
  });

  it("abort with F_TRANSL_FORBIDDEN while the SMMU is disabled", () => {
    b.translator.enabled = false;
    expect(translated(ACCESS_READ, IOVA + 4n)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00000007", "00000006", "00000000", "00000008", "12345004", "00000000", "00000000", "00000000"]);
    expect(translated(ACCESS_WRITE)).toBe(ABORTED);
    expect(b.eventWords![3]).toBe("00000000");
  });

  it("with ATSCHK abort with F_TRANSL_FORBIDDEN where the stream has no ATS, or bypasses", () => {
    b.translator.atsCheck = true;
    expect(translated()).toBe(BYPASSED);
    b.ste(1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 0 });
    b.ste(2, { V: 1, CONFIG: 4, EATS: 1 });
    for (const sid of [1, 2]) {
      expect(translated(ACCESS_READ, IOVA, sid)).toBe(ABORTED);
      expect(b.event).toEqual({ name: "F_TRANSL_FORBIDDEN", SID: sid, RNW: 1, INPUT_ADDR: IOVA });
    }
  });

  it("with ATSCHK abort silently on configuration errors, recorded with REC_CFG_ATS whatever RECINVSID says", () => {
    b.translator.atsCheck = true;
    b.ste(1, { V: 0 });
    b.ste(2, { V: 1, CONFIG: 0 });
    for (const sid of [1, 2, 0x1000]) {
      expect(translated(ACCESS_READ, IOVA, sid)).toBe(ABORTED);
      expect(b.event).toBeUndefined();
    }
    b.translator.recordAtsErrors = true;
    translated(ACCESS_READ, IOVA, 1);
    expect(b.event).toEqual({ name: "C_BAD_STE", SID: 1 });
    translated(ACCESS_READ, IOVA, 0x1000);
    expect(b.event).toEqual({ name: "C_BAD_STREAMID", SID: 0x1000 });
    translated(ACCESS_READ, IOVA, 2);
    expect(b.event).toBeUndefined();
  });

  it("go through stage 2 with split-stage ATS", () => {
    b.translator.atsCheck = true;
    nested(2);
    b.map(root2, 0x7000_0000, RAM_BASE + 0x9000, S2_RO);
    expect(translated(ACCESS_READ, 0x7000_0004)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x9004));
    expect(translated(ACCESS_WRITE, 0x7000_0004)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_PERMISSION", S2: 1, CLASS: 2, INPUT_ADDR: 0x7000_0004n, IPA: 0x7000_0000n });
  });
});
