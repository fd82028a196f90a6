import { type Field, put } from "../../../../support/index.js";
import { CAP, ECAP } from "../../../../vtd/spec/index.js";
import type { VtdDescription } from "../../file/index.js";

/** Domain ids of 16 bits: CAP.ND = 6. */
const DOMAINS_16_BITS = 6;
/** Fault recording registers at 0x220, eight of them; IOTLB registers at 0x500. */
const FAULT_OFFSET = 0x22;
const FAULT_RECORDS = 8;
const IOTLB_OFFSET = 0x50;
/** Page-selective invalidations of up to 2^18 pages: enough for 1 GiB. */
const MOST_MASK = 18;
const WIDTH_BITS = { 39: 1, 48: 2, 57: 3 } as const;

/**
 * CAP and ECAP of a described unit (Intel VT-d 11.4.2, 11.4.3). What the simulated hardware
 * does not do is never shown: page requests, posted interrupts, advanced fault logging, protected memory,
 * write-buffer flushing, caching mode, enhanced and virtual commands, abort-DMA mode.
 */
export function capabilityRegisters(vtd: VtdDescription): { cap: bigint; ecap: bigint } {
  const cap = new Int32Array(2);
  const ecap = new Int32Array(2);
  const mgaw = vtd.mgaw ?? Math.max(...vtd.sagaw);
  put(cap, CAP.ND, DOMAINS_16_BITS);
  put(cap, CAP.SAGAW, vtd.sagaw.reduce((bits, width) => bits | (1 << WIDTH_BITS[width]), 0));
  put(cap, CAP.MGAW, mgaw - 1);
  put(cap, CAP.ZLR, 1);
  put(cap, CAP.FRO_LOW, FAULT_OFFSET);
  put(cap, CAP.SSLPS, (vtd.secondStagePages.includes("2M") ? 1 : 0) | (vtd.secondStagePages.includes("1G") ? 2 : 0));
  put(cap, CAP.PSI, 1);
  put(cap, CAP.NFR, FAULT_RECORDS - 1);
  put(cap, CAP.MAMV, MOST_MASK);
  const flags: Array<[Int32Array, Field, boolean]> = [
    [cap, CAP.DWD, true],
    [cap, CAP.DRD, true],
    [cap, CAP.FS1GP, vtd.firstStage1g],
    [cap, CAP.FS5LP, vtd.firstStage5Level],
    [cap, CAP.ESIRTPS, true],
    [cap, CAP.ESRTPS, true],
    [ecap, ECAP.C, vtd.coherentWalks],
    [ecap, ECAP.QI, true],
    [ecap, ECAP.DT, vtd.deviceTlb],
    [ecap, ECAP.IR, true],
    [ecap, ECAP.EIM, true],
    [ecap, ECAP.PT, true],
    [ecap, ECAP.SC, vtd.snoopControl],
    [ecap, ECAP.NEST, vtd.nesting],
    [ecap, ECAP.SRS, vtd.supervisor],
    [ecap, ECAP.NWFS, vtd.deviceTlb],
    [ecap, ECAP.EAFS, vtd.extendedAccess],
    [ecap, ECAP.PASID, vtd.pasidBits > 0],
    [ecap, ECAP.SMTS, vtd.scalableMode],
    [ecap, ECAP.SSADS, vtd.dirtyTracking],
    [ecap, ECAP.SSTS, vtd.secondStage],
    [ecap, ECAP.FSTS, vtd.firstStage],
    [ecap, ECAP.SMPWCS, vtd.scalableCoherentWalks],
  ];
  for (const [register, field, on] of flags) {
    put(register, field, on ? 1 : 0);
  }
  put(ecap, ECAP.IRO, IOTLB_OFFSET);
  put(ecap, ECAP.MHMV, 0xf);
  if (vtd.pasidBits > 0) {
    put(ecap, ECAP.PSS, vtd.pasidBits - 1);
  }
  return { cap: new BigUint64Array(cap.buffer)[0], ecap: new BigUint64Array(ecap.buffer)[0] };
}
