/** What the command queue traces, by QEMU's names of the events. */
import { toBigInt, type TraceEvent } from "../../support/index.js";
import {
  traceRangeInval,
  traceTlbAll,
  traceTlbAsidVmid,
  traceTlbVmid,
  traceTlbVmidStage1,
  traceTlbiNh,
  traceTlbiNhAsid,
  traceTlbiNsnh,
  traceTlbiS12Vmid,
} from "./trace.js";
import { CMD, get, OP } from "../spec/index.js";

/** Indexes and wrap flags of a queue of `entries` commands. */
export function tracePositions(event: TraceEvent, prod: number, cons: number, entries: number): void {
  const wrap = (index: number): number => ((index & entries) !== 0 ? 1 : 0);
  event.emit(prod & (entries - 1), cons & (entries - 1), wrap(prod), wrap(cons));
}

/** An invalidation of translations, as four words; `stage2`: the SMMU has one, and VMIDs. */
export function traceTlbi(command: Int32Array, stage2: boolean): void {
  const opcode = command[0] & CMD.OPCODE.mask;
  const vmid = stage2 ? get(command, CMD.VMID) : -1;
  switch (opcode) {
    case OP.TLBI_NH_ALL:
      if (stage2) {
        if (traceTlbiNh.on) {
          traceTlbiNh.emit(vmid);
        }
        if (traceTlbVmidStage1.on) {
          traceTlbVmidStage1.emit(vmid);
        }
      } else {
        if (traceTlbiNsnh.on) {
          traceTlbiNsnh.emit();
        }
        if (traceTlbAll.on) {
          traceTlbAll.emit();
        }
      }
      break;
    case OP.TLBI_NSNH_ALL:
      if (traceTlbiNsnh.on) {
        traceTlbiNsnh.emit();
      }
      if (traceTlbAll.on) {
        traceTlbAll.emit();
      }
      break;
    case OP.TLBI_NH_ASID:
      if (traceTlbiNhAsid.on) {
        traceTlbiNhAsid.emit(get(command, CMD.ASID));
      }
      if (traceTlbAsidVmid.on) {
        traceTlbAsidVmid.emit(get(command, CMD.ASID), vmid);
      }
      break;
    case OP.TLBI_S12_VMALL:
      if (traceTlbiS12Vmid.on) {
        traceTlbiS12Vmid.emit(vmid);
      }
      if (traceTlbVmid.on) {
        traceTlbVmid.emit(vmid);
      }
      break;
    case OP.TLBI_NH_VA:
    case OP.TLBI_NH_VAA:
    case OP.TLBI_S2_IPA:
      if (traceRangeInval.on) {
        const granule = get(command, CMD.TG);
        traceRangeInval.emit(
          vmid,
          opcode === OP.TLBI_NH_VA ? get(command, CMD.ASID) : -1,
          toBigInt(command[3], command[2] & CMD.ADDRESS.lowMask),
          granule,
          granule === 0 ? 1 : (get(command, CMD.NUM) + 1) * 2 ** get(command, CMD.SCALE),
          get(command, CMD.TTL),
          get(command, CMD.LEAF),
          opcode === OP.TLBI_S2_IPA ? 2 : 1,
        );
      }
      break;
  }
}
