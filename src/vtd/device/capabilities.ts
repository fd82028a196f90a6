import { deposit, type Field } from "../../support/index.js";
import { CAP, ECAP } from "../spec/index.js";

/** What an intel-iommu offers, with every `auto` decided: the properties of QEMU 11.1's device. */
export interface VtdProperties {
  /** scalable-mode: root, context and PASID tables of scalable mode. */
  readonly scalableMode: boolean;
  /** fsts: first-stage translation in scalable mode, in the place of second-stage translation. */
  readonly fsts: boolean;
  /** fs1gp: 1-GiB pages of the first stage. */
  readonly fs1gp: boolean;
  /** pasid-bits: 0 (no PASIDs but that of requests without one) to 20. */
  readonly pasidBits: number;
  /** aw-bits: width of DMA addresses in bits. */
  readonly awBits: 39 | 48;
  /** caching-mode: entries that are not present may be cached, so the guest invalidates after every change. */
  readonly cachingMode: boolean;
  /** device-iotlb: ATS and device-TLB invalidations. */
  readonly deviceIotlb: boolean;
  /** dma-translation: off leaves interrupt remapping alone. */
  readonly dmaTranslation: boolean;
  /** snoop-control. */
  readonly snoopControl: boolean;
  /** svm: page requests and what goes with them. */
  readonly svm: boolean;
  /** intremap: interrupt remapping. */
  readonly intremap: boolean;
  /** eim: 32-bit APIC ids in remapped interrupts. */
  readonly eim: boolean;
  /** stale-tm: the transient-mapping bit of second-stage entries is not checked as reserved. */
  readonly staleTm: boolean;
  /** x-require-nesting: no shadowing of guest tables for passed-through functions. */
  readonly requireNesting: boolean;
}

/** What no property at all comes to. */
export const DEFAULT_VTD_PROPERTIES: VtdProperties = {
  scalableMode: false,
  fsts: false,
  fs1gp: true,
  pasidBits: 0,
  awBits: 48,
  cachingMode: false,
  deviceIotlb: false,
  dmaTranslation: true,
  snoopControl: false,
  svm: false,
  intremap: true,
  eim: false,
  staleTm: false,
  requireNesting: false,
};

/** VER: 1.0 (Intel VT-d, 11.4.1). */
export const VERSION = 0x10;

/** Fault recording registers begin here, in bytes (CAP.FRO), and there is one of them (CAP.NFR), as in QEMU. */
const FAULT_RECORDS_OFFSET = 0x220;
/** IVA's offset in bytes (ECAP.IRO). */
const IOTLB_OFFSET = 0xf0;
/** 2^(4 + 2 * 6) = 65,536 domains. */
const DOMAINS = 6;
/** Page-selective invalidations of up to 2^18 pages: the span of a 1-GiB page. */
const LARGEST_ADDRESS_MASK = 18;
const LEVELS_3 = 1 << 1;
const LEVELS_4 = 1 << 2;
const LARGE_PAGES_2M_1G = 3;

const pair = (): Int32Array => new Int32Array(2);
const set = (words: Int32Array, f: Field, value: number | boolean): void => {
  words[f.word] = deposit(words[f.word], f, Number(value));
};

/** CAP as low and high word: the values that QEMU 11.1 shows for the same properties. */
export function capabilityRegister(properties: VtdProperties): Int32Array {
  const cap = pair();
  set(cap, CAP.ND, DOMAINS);
  set(cap, CAP.CM, properties.cachingMode);
  // Without DMA translation no width is offered, and so no translation either.
  set(cap, CAP.SAGAW, properties.dmaTranslation ? LEVELS_3 | (properties.awBits >= 48 ? LEVELS_4 : 0) : 0);
  set(cap, CAP.MGAW, properties.awBits - 1);
  set(cap, CAP.FRO_LOW, FAULT_RECORDS_OFFSET / 16);
  set(cap, CAP.SSLPS, LARGE_PAGES_2M_1G);
  set(cap, CAP.PSI, 1);
  set(cap, CAP.NFR, 0);
  set(cap, CAP.MAMV, LARGEST_ADDRESS_MASK);
  set(cap, CAP.DWD, 1);
  set(cap, CAP.DRD, 1);
  set(cap, CAP.FS1GP, properties.fsts && properties.fs1gp);
  set(cap, CAP.ESRTPS, 1);
  return cap;
}

/** ECAP as low and high word: the values that QEMU 11.1 shows for the same properties. */
export function extendedCapabilityRegister(properties: VtdProperties): Int32Array {
  const { scalableMode, fsts, pasidBits, svm, intremap } = properties;
  const ecap = pair();
  set(ecap, ECAP.QI, 1);
  set(ecap, ECAP.DT, properties.deviceIotlb);
  set(ecap, ECAP.IR, intremap);
  set(ecap, ECAP.EIM, intremap && properties.eim);
  set(ecap, ECAP.PT, 1);
  set(ecap, ECAP.SC, properties.snoopControl);
  set(ecap, ECAP.IRO, IOTLB_OFFSET / 16);
  set(ecap, ECAP.MHMV, intremap ? 0xf : 0);
  if (scalableMode) {
    set(ecap, ECAP.SMTS, 1);
    // The two stages exclude each other: what the guest can use is what the host can nest, or what is walked in software.
    set(ecap, ECAP.SRS, !fsts);
    set(ecap, ECAP.SSTS, !fsts);
    set(ecap, ECAP.FSTS, fsts);
    set(ecap, ECAP.PASID, pasidBits > 0);
    set(ecap, ECAP.PSS, pasidBits > 0 ? pasidBits - 1 : 0);
  }
  set(ecap, ECAP.PRS, svm);
  set(ecap, ECAP.NWFS, svm);
  set(ecap, ECAP.PDS, svm);
  return ecap;
}
