/** What the invalidation queue traces, by QEMU's names of the events. */
import { toBigInt } from "../../support/index.js";
import { DESCRIPTOR_TYPE } from "../spec/index.js";
import { traceInvDesc } from "./trace.js";

/** QEMU's names of the types in `vtd_inv_desc`. */
const TRACED_NAMES: Readonly<Record<number, string>> = {
  [DESCRIPTOR_TYPE.CONTEXT_CACHE]: "context-cache",
  [DESCRIPTOR_TYPE.IOTLB]: "iotlb",
  [DESCRIPTOR_TYPE.DEVICE_TLB]: "device",
  [DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE]: "iec",
  [DESCRIPTOR_TYPE.WAIT]: "wait",
  [DESCRIPTOR_TYPE.PASID_IOTLB]: "p-iotlb",
  [DESCRIPTOR_TYPE.PASID_CACHE]: "pasid-cache",
  [DESCRIPTOR_TYPE.PASID_DEVICE_TLB]: "device-piotlb",
  [DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE]: "page group response",
};

/** A descriptor of one of the types, by its first four words. */
export function traceDescriptor(type: number, d: Int32Array): void {
  const name = TRACED_NAMES[type];
  if (name !== undefined) {
    traceInvDesc.emit(name, toBigInt(d[3], d[2]), toBigInt(d[1], d[0]));
  }
}
