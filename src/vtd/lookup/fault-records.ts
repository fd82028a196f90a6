import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../translation/index.js";
import { fillFault } from "../spec/index.js";
import { KIND_TRANSLATION_REQUEST, NO_PASID } from "./answers.js";
import type { VtdFeatures } from "./features.js";

/** Fills the records of requests that were blocked (Intel VT-d 5.10, 11.4.7.6). */
export class FaultRecords {
  private readonly request = {
    source: 0,
    pasid: NO_PASID,
    addressType: 0,
    high: 0,
    low: 0,
    write: false,
    atomic: false,
    execute: false,
    privileged: false,
  };

  /** @param out the record */
  constructor(
    private readonly out: Int32Array,
    private readonly features: VtdFeatures,
  ) {}

  /**
   * @param reason FAULT
   * @param kind KIND_* of the request, its address type
   * @param access ACCESS_* that it asked for
   */
  fill(reason: number, requesterId: number, pasid: number, kind: number, high: number, low: number, access: number): void {
    const { request, features } = this;
    request.source = requesterId;
    request.pasid = pasid;
    request.addressType = kind;
    request.high = high;
    request.low = low;
    request.write = (access & ACCESS_WRITE) !== 0 && kind !== KIND_TRANSLATION_REQUEST;
    request.atomic = request.write && (access & ACCESS_READ) !== 0;
    request.execute = (access & ACCESS_EXECUTE) !== 0;
    request.privileged = (access & ACCESS_PRIVILEGED) !== 0;
    fillFault(this.out, reason, request, features.pasid, features.deviceTlb);
  }
}
