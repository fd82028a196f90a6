import { describe, expect, it } from "vitest";
import { AddressField, type Field } from "../../../src/support/index.js";
import {
  CAP,
  CCMD,
  CONTEXT,
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_RESERVED,
  DESCRIPTOR_TYPE,
  descriptorType,
  DEVICE_TLB_DESC,
  ECAP,
  FAULT,
  FRCD,
  GCMD,
  INTERRUPT_ENTRY_DESC,
  IOTLB_DESC,
  IOTLB_REG,
  IQA,
  IQERCD,
  IRTA,
  IRTE,
  IVA,
  PASID_CACHE_DESC,
  PASID_DEVICE_TLB_DESC,
  PASID_DIRECTORY,
  PASID_ENTRY,
  PASID_IOTLB_DESC,
  REG,
  ROOT,
  RTADDR,
  SM_CONTEXT,
  SM_ROOT,
  WAIT_DESC,
} from "../../../src/vtd/spec/index.js";

/** The field's bits in its 64-bit words, as masks: what headers publish. */
function masks(f: Field | AddressField): string {
  const out: bigint[] = [0n, 0n, 0n, 0n];
  if (f instanceof AddressField) {
    out[f.word >> 1] = (BigInt(f.highMask >>> 0) << 32n) | BigInt(f.lowMask >>> 0);
  } else {
    out[f.word >> 1] = BigInt(f.inPlace >>> 0) << (32n * BigInt(f.word & 1));
  }
  const word = out.findIndex((one) => one !== 0n);
  return `${word}:${out[word].toString(16)}`;
}

function agree(layout: Record<string, Field | AddressField>, published: Record<string, string>): void {
  for (const [name, expected] of Object.entries(published)) {
    expect(`${name} ${masks(layout[name])}`).toBe(`${name} ${expected}`);
  }
}

describe("VT-d layouts against published headers", () => {
  // Masks of VirtualBox's iommu-intel.h (VTD_BF_n_*_MASK), as quadword:mask.
  it("places the fields of the tables", () => {
    agree(ROOT, { P: "0:1", CTP: "0:fffffffffffff000" });
    agree(SM_ROOT, { LP: "0:1", LCTP: "0:fffffffffffff000", UP: "1:1", UCTP: "1:fffffffffffff000" });
    agree(CONTEXT, { P: "0:1", FPD: "0:2", TT: "0:c", SSPTPTR: "0:fffffffffffff000", AW: "1:7", IGNORED: "1:78", DID: "1:ffff00" });
    agree(SM_CONTEXT, { P: "0:1", FPD: "0:2", DTE: "0:4", PASIDE: "0:8", PRE: "0:10", PDTS: "0:e00", PASIDDIRPTR: "0:fffffffffffff000", RID_PASID: "1:fffff", RID_PRIV: "1:100000" });
    agree(PASID_DIRECTORY, { P: "0:1", FPD: "0:2", SMPTBLPTR: "0:fffffffffffff000" });
    agree(PASID_ENTRY, {
      P: "0:1", FPD: "0:2", AW: "0:1c", SSEE: "0:20", PGTT: "0:1c0", SSADE: "0:200", SSPTPTR: "0:fffffffffffff000",
      DID: "1:ffff", PWSNP: "1:800000", PGSNP: "1:1000000", CD: "1:2000000", EMTE: "1:4000000", EMT: "1:38000000", PWT: "1:40000000", PCD: "1:80000000", PAT: "1:ffffffff00000000",
      SRE: "2:1", ERE: "2:2", FSPM: "2:c", WPE: "2:10", NXE: "2:20", SMEP: "2:40", EAFE: "2:80", FSPTPTR: "2:fffffffffffff000",
    });
  });

  it("places the fields of fault records and interrupt remapping entries", () => {
    agree(FRCD, { FI: "0:fffffffffffff000", SID: "1:ffff", PRIV: "1:20000000", EXE: "1:40000000", PP: "1:80000000", FR: "1:ff00000000", PV: "1:fffff0000000000", AT: "1:3000000000000000", T1: "1:4000000000000000", F: "1:8000000000000000" });
    agree(IRTE, { P: "0:1", FPD: "0:2", DM: "0:4", RH: "0:8", TM: "0:10", DLM: "0:e0", AVAIL: "0:f00", IM: "0:8000", V: "0:ff0000", DST: "0:ffffffff00000000", SID: "1:ffff", SQ: "1:30000", SVT: "1:c0000" });
  });

  it("places the capabilities", () => {
    agree(CAP, {
      ND: "0:7", AFL: "0:8", RWBF: "0:10", PLMR: "0:20", PHMR: "0:40", CM: "0:80", SAGAW: "0:1f00", MGAW: "0:3f0000", ZLR: "0:400000", FRO_LOW: "0:ff000000", FRO_HIGH: "0:300000000",
      SSLPS: "0:3c00000000", PSI: "0:8000000000", NFR: "0:ff0000000000", MAMV: "0:3f000000000000", DWD: "0:40000000000000", DRD: "0:80000000000000", FS1GP: "0:100000000000000",
      PI: "0:800000000000000", FS5LP: "0:1000000000000000", ESIRTPS: "0:4000000000000000", ESRTPS: "0:8000000000000000",
    });
    agree(ECAP, {
      C: "0:1", QI: "0:2", DT: "0:4", IR: "0:8", EIM: "0:10", PT: "0:40", SC: "0:80", IRO: "0:3ff00", MHMV: "0:f00000", MTS: "0:2000000", NEST: "0:4000000", PRS: "0:20000000", ERS: "0:40000000", SRS: "0:80000000",
      NWFS: "0:200000000", EAFS: "0:400000000", PSS: "0:f800000000", PASID: "0:10000000000", DIT: "0:20000000000", PDS: "0:40000000000", SMTS: "0:80000000000", VCS: "0:100000000000", SSADS: "0:200000000000",
      SSTS: "0:400000000000", FSTS: "0:800000000000", SMPWCS: "0:1000000000000", RPS: "0:2000000000000", ADMS: "0:10000000000000", RPRIVS: "0:20000000000000",
    });
  });

  it("places the fields of registers", () => {
    agree(GCMD, { CFI: "0:800000", SIRTP: "0:1000000", IRE: "0:2000000", QIE: "0:4000000", WBF: "0:8000000", EAFL: "0:10000000", SFL: "0:20000000", SRTP: "0:40000000", TE: "0:80000000" });
    agree(RTADDR, { TTM: "0:c00", RTA: "0:fffffffffffff000" });
    agree(CCMD, { DID: "0:ffff", SID: "0:ffff0000", FM: "0:300000000", CAIG: "0:1800000000000000", CIRG: "0:6000000000000000", ICC: "0:8000000000000000" });
    // Linux drivers/iommu/intel/iommu.h: DMA_TLB_*, DMAR_IQER_REG_*.
    agree(IOTLB_REG, { IVT: "0:8000000000000000", IIRG: "0:3000000000000000", IAIG: "0:600000000000000", DR: "0:2000000000000", DW: "0:1000000000000", DID: "0:ffff00000000" });
    agree(IVA, { AM: "0:3f", IH: "0:40" });
    agree(IQERCD, { IQEI: "0:f", ITESID: "0:ffff00000000", ICESID: "0:ffff000000000000" });
    // QEMU hw/i386/intel_iommu_internal.h: VTD_IQA_*, VTD_IRTA_*.
    agree(IQA, { QS: "0:7", DW: "0:800" });
    agree(IRTA, { S: "0:f", EIME: "0:800" });
    expect([REG.GSTS, REG.RTADDR, REG.CCMD, REG.FSTS, REG.FEUADDR, REG.IQH, REG.IQT, REG.IQA, REG.ICS, REG.IECTL, REG.IQERCD, REG.IRTA, REG.PQH, REG.PRS, REG.PEUADDR]).toEqual([
      0x1c, 0x20, 0x28, 0x34, 0x44, 0x80, 0x88, 0x90, 0x9c, 0xa0, 0xb0, 0xb8, 0xc0, 0xdc, 0xec,
    ]);
  });

  // Linux drivers/iommu/intel/iommu.h: QI_*, and QEMU's VTD_INV_DESC_*.
  it("places the fields of descriptors", () => {
    agree(CONTEXT_CACHE_DESC, { G: "0:30", DID: "0:ffff0000", SID: "0:ffff00000000", FM: "0:3000000000000" });
    agree(IOTLB_DESC, { G: "0:30", DW: "0:40", DR: "0:80", DID: "0:ffff0000", AM: "1:3f", IH: "1:40", ADDR: "1:fffffffffffff000" });
    agree(DEVICE_TLB_DESC, { PFSID_LOW: "0:f000", MIP: "0:1f0000", SID: "0:ffff00000000", PFSID_HIGH: "0:fff0000000000000", S: "1:1", ADDR: "1:fffffffffffff000" });
    agree(PASID_IOTLB_DESC, { G: "0:30", DID: "0:ffff0000", PASID: "0:fffff00000000", AM: "1:3f", IH: "1:40" });
    agree(PASID_CACHE_DESC, { G: "0:30", DID: "0:ffff0000", PASID: "0:fffff00000000" });
    agree(PASID_DEVICE_TLB_DESC, { MIP: "0:1f0", PFSID_LOW: "0:f000", SID: "0:ffff0000", PASID: "0:fffff00000000", PFSID_HIGH: "0:fff0000000000000", G: "1:1", S: "1:800" });
    agree(INTERRUPT_ENTRY_DESC, { G: "0:10", IM: "0:f8000000", IIDX: "0:ffff00000000" });
    agree(WAIT_DESC, { IF: "0:10", SW: "0:20", FN: "0:40", PD: "0:80", DATA: "0:ffffffff00000000", ADDR: "1:fffffffffffffffc" });
    expect(descriptorType(0x205)).toBe(0x15);
  });

  it("reserves what QEMU's masks reserve", () => {
    const words = (type: number): string => DESCRIPTOR_RESERVED[type].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ");
    const quads = (low: bigint, high: bigint): string =>
      [low & 0xffff_ffffn, low >> 32n, high & 0xffff_ffffn, high >> 32n].map((word) => word.toString(16).padStart(8, "0")).join(" ");
    const all = 0xffff_ffff_ffff_ffffn;
    expect(words(DESCRIPTOR_TYPE.CONTEXT_CACHE)).toBe(quads(0xfffc_0000_0000_f1c0n, all));
    expect(words(DESCRIPTOR_TYPE.IOTLB)).toBe(quads(0xffff_ffff_0000_f100n, 0xf80n));
    expect(words(DESCRIPTOR_TYPE.PASID_IOTLB)).toBe(quads(0xfff0_0000_0000_f1c0n, 0xf80n));
    expect(words(DESCRIPTOR_TYPE.PASID_CACHE)).toBe(quads(0xfff0_0000_0000_f1c0n, all));
    expect(words(DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE)).toBe(quads(0xffff_0000_07ff_f1e0n, all));
    // QEMU takes the PFSID's bits for reserved, and PD as well; the wait descriptor has 31:12 and 11:9 reserved.
    expect(words(DESCRIPTOR_TYPE.DEVICE_TLB)).toBe(quads(0x000f_0000_ffe0_01f0n, 0xffen));
    expect(words(DESCRIPTOR_TYPE.WAIT)).toBe(quads(0xffff_f100n, 3n));
  });

  // Order and gaps of dma_remap_sm_fault_reasons in Linux drivers/iommu/intel/dmar.c, which starts at 0x30,
  // and what table 30 of revision 5.10 has besides: 0x33, 0x7d, 0x89, 0x91.
  it("numbers the fault reasons", () => {
    expect(Object.values(FAULT).filter((reason) => reason >= 0x30)).toEqual([
      0x33, 0x7d, 0x89, 0x91, 0x32, 0x30, 0x31, 0x38, 0x39, 0x3a, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x50, 0x51, 0x52, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d,
      0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x7b, 0x7c, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x90,
    ].sort((a, b) => a - b));
  });
});
