/** In place of a PASID: a request without one. */
export const NO_PASID = -1;

/** Kinds of requests: their address type, as fault records have it. */
export const KIND_UNTRANSLATED = 0;
/** A PCIe ATS Translation Request; its NW flag is ACCESS_WRITE's absence. */
export const KIND_TRANSLATION_REQUEST = 1;
/** A memory request that a device marked Translated. */
export const KIND_TRANSLATED = 2;

/** Answers of `translate`. The address in outHigh and outLow may be used after the ones that are not negative. */
export const TRANSLATED = 0;
/** The address goes on as it came: remapping is disabled, pass-through, a Translated request. */
export const BYPASSED = 1;
/** A write without PASID to the interrupt range: an interrupt request, which is not subject to DMA remapping (3.15). */
export const INTERRUPT = 2;
/** The request is blocked (Unsupported Request). */
export const BLOCKED = -1;
/** A Translation Request is answered Unsupported Request, or Completer Abort (7.1.3). */
export const ATS_UNSUPPORTED = -2;
export const ATS_ABORTED = -3;
