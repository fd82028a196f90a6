/** Registers of a VT-d unit by name: where they are, where the specification says what they are, and their fields (Intel VT-d 11.4). */
import { CAP, CCMD, ECAP, EVENT_CONTROL, FAULT_RECORD_BYTES, FRCD, FSTS, GCMD, ICS, IOTLB_REG, IOTLB_REG_OFFSET, IQA, IQERCD, IRTA, IVA, REG, RTADDR } from "../../vtd/spec/index.js";
import { address, bits, type Field, field, type Layout } from "../../support/index.js";
import type { RegisterLayout } from "./register-layout.js";

const section = (number: string): string => `Intel VT-d ${number}`;

/** GSTS has what GCMD commands, at the same places, by other names (11.4.4.2). */
const GSTS = { CFIS: GCMD.CFI, IRTPS: GCMD.SIRTP, IRES: GCMD.IRE, QIES: GCMD.QIE, WBFS: GCMD.WBF, AFLS: GCMD.EAFL, FLS: GCMD.SFL, RTPS: GCMD.SRTP, TES: GCMD.TE };
const MESSAGE_DATA = { IMD: bits(0, 16) };
const MESSAGE_ADDRESS = { MA: bits(2, 30) };
const MESSAGE_UPPER = { MUA: bits(0, 32) };
const QUEUE_POINTER = { Q: bits(4, 15) };
const PAGE_QUEUE_POINTER = { PQ: bits(5, 14) };
/** FRO and its like: CAP has them in two pieces. */
const SPLIT_CAP: Layout = CAP;

const FIXED: readonly RegisterLayout[] = [
  { name: "VER", offset: REG.VER, bits: 32, section: section("11.4.1"), layout: { MIN: bits(0, 4), MAX: bits(4, 4) } },
  { name: "CAP", offset: REG.CAP, bits: 64, section: section("11.4.2"), layout: SPLIT_CAP },
  { name: "ECAP", offset: REG.ECAP, bits: 64, section: section("11.4.3"), layout: ECAP },
  { name: "GCMD", offset: REG.GCMD, bits: 32, section: section("11.4.4.1"), layout: GCMD },
  { name: "GSTS", offset: REG.GSTS, bits: 32, section: section("11.4.4.2"), layout: GSTS },
  { name: "RTADDR", offset: REG.RTADDR, bits: 64, section: section("11.4.5"), layout: RTADDR },
  { name: "CCMD", offset: REG.CCMD, bits: 64, section: section("11.4.6.1"), layout: CCMD },
  { name: "FSTS", offset: REG.FSTS, bits: 32, section: section("11.4.7.1"), layout: FSTS },
  { name: "FECTL", offset: REG.FECTL, bits: 32, section: section("11.4.7.2"), layout: EVENT_CONTROL },
  { name: "FEDATA", offset: REG.FEDATA, bits: 32, section: section("11.4.7.3"), layout: MESSAGE_DATA },
  { name: "FEADDR", offset: REG.FEADDR, bits: 32, section: section("11.4.7.4"), layout: MESSAGE_ADDRESS },
  { name: "FEUADDR", offset: REG.FEUADDR, bits: 32, section: section("11.4.7.5"), layout: MESSAGE_UPPER },
  { name: "IQH", offset: REG.IQH, bits: 64, section: section("11.4.8.1"), layout: QUEUE_POINTER },
  { name: "IQT", offset: REG.IQT, bits: 64, section: section("11.4.8.2"), layout: QUEUE_POINTER },
  { name: "IQA", offset: REG.IQA, bits: 64, section: section("11.4.8.3"), layout: IQA },
  { name: "ICS", offset: REG.ICS, bits: 32, section: section("11.4.8.4"), layout: ICS },
  { name: "IECTL", offset: REG.IECTL, bits: 32, section: section("11.4.8.5"), layout: EVENT_CONTROL },
  { name: "IEDATA", offset: REG.IEDATA, bits: 32, section: section("11.4.8.6"), layout: MESSAGE_DATA },
  { name: "IEADDR", offset: REG.IEADDR, bits: 32, section: section("11.4.8.7"), layout: MESSAGE_ADDRESS },
  { name: "IEUADDR", offset: REG.IEUADDR, bits: 32, section: section("11.4.8.8"), layout: MESSAGE_UPPER },
  { name: "IQERCD", offset: REG.IQERCD, bits: 64, section: section("11.4.8.9"), layout: IQERCD },
  { name: "IRTA", offset: REG.IRTA, bits: 64, section: section("11.4.9.1"), layout: IRTA, needs: ECAP.IR },
  { name: "PQH", offset: REG.PQH, bits: 64, section: section("11.4.11.1"), layout: PAGE_QUEUE_POINTER, needs: ECAP.PRS },
  { name: "PQT", offset: REG.PQT, bits: 64, section: section("11.4.11.2"), layout: PAGE_QUEUE_POINTER, needs: ECAP.PRS },
  { name: "PQA", offset: REG.PQA, bits: 64, section: section("11.4.11.3"), layout: { PQS: bits(0, 3), PQA: address(0, 12, 63) }, needs: ECAP.PRS },
  { name: "PRS", offset: REG.PRS, bits: 32, section: section("11.4.11.4"), layout: { PPR: bits(0), PRO: bits(1) }, needs: ECAP.PRS },
  { name: "PECTL", offset: REG.PECTL, bits: 32, section: section("11.4.11.5"), layout: EVENT_CONTROL, needs: ECAP.PRS },
  { name: "PEDATA", offset: REG.PEDATA, bits: 32, section: section("11.4.11.6"), layout: MESSAGE_DATA, needs: ECAP.PRS },
  { name: "PEADDR", offset: REG.PEADDR, bits: 32, section: section("11.4.11.7"), layout: MESSAGE_ADDRESS, needs: ECAP.PRS },
  { name: "PEUADDR", offset: REG.PEUADDR, bits: 32, section: section("11.4.11.8"), layout: MESSAGE_UPPER, needs: ECAP.PRS },
];

/** Of the second half of a fault recording register: fields of its words 2 and 3. */
const FRCD_HIGH = Object.fromEntries(
  Object.entries(FRCD).flatMap(([name, one]) => ("shift" in one ? [[name, field(one.word - 2, one.shift, one.width)] as [string, Field]] : [])),
);

/** In the order of their offsets, which CAP and ECAP decide of those of invalidation and of fault records. Fault record n is FRCDn and, of its upper half, FRCDn_HIGH. */
export function vtdRegisters(cap: bigint, ecap: bigint): RegisterLayout[] {
  const at = (value: bigint, shift: number, width: number): number => Number((value >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
  const iva = at(ecap, 8, 10) * 16;
  const records = at(cap, 24, 10) * 16;
  const count = at(cap, 40, 8) + 1;
  return [
    ...FIXED,
    { name: "IVA", offset: iva, bits: 64 as const, section: section("11.4.6.2.1"), layout: IVA },
    { name: "IOTLB", offset: iva + IOTLB_REG_OFFSET, bits: 64 as const, section: section("11.4.6.2.2"), layout: IOTLB_REG },
    ...Array.from({ length: count }, (_unused, n): RegisterLayout[] => [
      { name: `FRCD${n}`, offset: records + n * FAULT_RECORD_BYTES, bits: 64, section: section("11.4.7.6"), layout: { FI: FRCD.FI } },
      { name: `FRCD${n}_HIGH`, offset: records + n * FAULT_RECORD_BYTES + 8, bits: 64, section: section("11.4.7.6"), layout: FRCD_HIGH },
    ]).flat(),
  ].sort((a, b) => a.offset - b.offset);
}
