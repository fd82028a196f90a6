import { describe, expect, it } from "vitest";
import { FAULT, faultName, fillFault } from "../../../src/vtd/spec/index.js";

const request = {
  source: 0x1234,
  pasid: -1,
  addressType: 0,
  high: 0x12345678,
  low: 0x9abcdeff | 0,
  write: false,
  execute: false,
  privileged: false,
};
const hex = (words: Int32Array): string[] => Array.from(words, (word) => (word >>> 0).toString(16).padStart(8, "0"));

describe("a fault record", () => {
  it("has the places of 11.4.7.6", () => {
    const out = new Int32Array(4).fill(-1);
    // F is bit 127, T1 126 (1: read), AT 125:124, PV 123:104, FR 103:96, PP 95, EXE 94, PRIV 93, T2 92, SID 79:64, FI 63:12.
    fillFault(out, FAULT.READ, request, true, true);
    expect(hex(out)).toEqual(["9abcd000", "12345678", "00001234", "c0000006"]);
    fillFault(out, FAULT.SM_WRITE, { ...request, write: true, pasid: 0xfedcb, addressType: 1, privileged: true, execute: true }, true, true);
    expect(hex(out)).toEqual(["9abcd000", "12345678", "a0001234", "9fedcb85"]);
    fillFault(out, FAULT.SM_EXECUTE, { ...request, pasid: 5, addressType: 2, execute: true }, true, true);
    expect(hex(out)).toEqual(["9abcd000", "12345678", "c0001234", "e0000582"]);
  });

  it("tells AtomicOps", () => {
    const out = new Int32Array(4);
    fillFault(out, FAULT.SM_READ, { ...request, write: true, atomic: true }, true, true);
    expect(hex(out).slice(2)).toEqual(["10001234", "c0000086"]);
  });

  it("leaves out what the unit has not", () => {
    const out = new Int32Array(4);
    fillFault(out, FAULT.SM_FS_NOT_PRESENT, { ...request, pasid: 5, addressType: 1, execute: true, privileged: true }, false, false);
    expect(hex(out)).toEqual(["9abcd000", "12345678", "00001234", "c0000071"]);
  });

  it("names reasons", () => {
    expect(faultName(0x33)).toBe("SM_ABORT_DMA");
    expect(faultName(0xff)).toBe("FAULT_0xff");
  });
});
