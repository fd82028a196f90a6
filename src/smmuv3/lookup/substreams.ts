import { STE_S1DSS_BYPASS, STE_S1DSS_SSID0 } from "../spec/index.js";
import type { SteView } from "./ste-view.js";

/** Answers of `selectCd` that are no index. */
/** Stage 1 does not translate the transaction. */
export const SELECT_BYPASS = -1;
/** C_BAD_SUBSTREAMID. */
export const SELECT_BAD_SUBSTREAM = -2;
/** F_STREAM_DISABLED. */
export const SELECT_DISABLED = -3;

/**
 * Which CD a transaction uses (Arm IHI 0070, 5.2 S1CDMax and S1DSS; 7.3.7, 7.3.9).
 *
 * @param ste of a stream that translates or bypasses
 * @param ssid SubstreamID, or -1 without one
 * @returns the CD's index, or SELECT_*
 */
export function selectCd(ste: SteView, ssid: number): number {
  const translates = (ste.kind & 1) !== 0;
  if (!translates || ste.cdBits === 0) {
    return ssid >= 0 ? SELECT_BAD_SUBSTREAM : translates ? 0 : SELECT_BYPASS;
  }
  if (ssid < 0) {
    switch (ste.defaultSubstream) {
      case STE_S1DSS_BYPASS:
        return SELECT_BYPASS;
      case STE_S1DSS_SSID0:
        return 0;
      default:
        return SELECT_DISABLED;
    }
  }
  if (ssid >= 2 ** ste.cdBits) {
    return SELECT_BAD_SUBSTREAM;
  }
  // CD 0 is then for transactions without a SubstreamID only.
  return ssid === 0 && ste.defaultSubstream === STE_S1DSS_SSID0 ? SELECT_DISABLED : ssid;
}
