import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_WRITE, type PageWalker, WALK_EXTERNAL_ABORT } from "../../translation/index.js";
import { CLASS_CD, CLASS_IN, CLASS_TT, EVENT, fillBadAtsRequest, fillFault, fillFetchAddress, fillIpa } from "../spec/index.js";

/** The event of a WALK_* code, by its negative. */
const EVENT_OF_WALK = [0, EVENT.F_TRANSLATION, EVENT.F_ACCESS, EVENT.F_PERMISSION, EVENT.F_ADDR_SIZE, EVENT.F_WALK_EABT];

/** Fills the records of the faults that translations end with (Arm IHI 0070, 7.3.12 to 7.3.16). */
export class FaultRecords {
  private readonly shown = { rnw: true, ind: false, pnu: false };

  /**
   * @param out the record
   * @param walker whose fault* and fetch* fields tell of the walk at hand
   */
  constructor(
    private readonly out: Int32Array,
    private readonly walker: PageWalker,
  ) {}

  /**
   * A walk's fault.
   *
   * @param code WALK_*, not WALK_OK
   * @param access ACCESS_* after the STE's overrides
   * @param onCd stage 2 faulted on the address of a CD or L1CD
   */
  walk(code: number, sid: number, ssid: number, high: number, low: number, access: number, onCd: boolean): void {
    const { out, walker } = this;
    const stage2 = walker.faultStage === 2;
    const aborted = code === WALK_EXTERNAL_ABORT;
    // 7.3.12: of an external abort CLASS is TT also for stage 1's own descriptors.
    const onTables = aborted ? !stage2 || walker.faultOnTableWalk !== 0 : stage2 && walker.faultOnTableWalk !== 0;
    const faultClass = onCd ? CLASS_CD : onTables ? CLASS_TT : CLASS_IN;
    fillFault(out, EVENT_OF_WALK[-code], sid, ssid, high, low, this.show(access), stage2, faultClass);
    if (aborted) {
      fillFetchAddress(out, walker.fetchHigh, walker.fetchLow);
    } else if (stage2) {
      fillIpa(out, walker.faultHigh, walker.faultLow);
    }
  }

  /** An input address beyond the IAS where stage 1 is bypassed. */
  inputSize(sid: number, ssid: number, high: number, low: number, access: number): void {
    fillFault(this.out, EVENT.F_ADDR_SIZE, sid, ssid, high, low, this.show(access), false, CLASS_IN);
  }

  /** A Translation Request that is refused, by its ACCESS_* as they came in (7.3.6): reads are always asked for. */
  atsRequest(sid: number, ssid: number, high: number, low: number, incoming: number): void {
    fillBadAtsRequest(this.out, sid, ssid, high, low, {
      read: true,
      write: (incoming & ACCESS_WRITE) !== 0,
      execute: (incoming & ACCESS_EXECUTE) !== 0,
      privileged: (incoming & ACCESS_PRIVILEGED) !== 0,
      span: 1,
    });
  }

  private show(access: number): { rnw: boolean; ind: boolean; pnu: boolean } {
    const { shown } = this;
    shown.rnw = (access & ACCESS_WRITE) === 0;
    shown.ind = (access & ACCESS_EXECUTE) !== 0;
    shown.pnu = (access & ACCESS_PRIVILEGED) !== 0;
    return shown;
  }
}
