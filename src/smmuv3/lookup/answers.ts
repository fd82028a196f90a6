/** Kinds of incoming transactions. */
export const KIND_TRANSACTION = 0;
/** A PCIe ATS Translation Request: what is asked for is the permissions in `access`; NW is ACCESS_WRITE's absence. */
export const KIND_ATS_REQUEST = 1;
/** A memory access that a device marked Translated. */
export const KIND_ATS_TRANSLATED = 2;

/** Answers of `translate`. The address in outHigh and outLow may be used after the first two. */
export const TRANSLATED = 0;
/** The address goes on as it came. */
export const BYPASSED = 1;
/** The transaction ends with an abort. */
export const ABORTED = -1;
/** The transaction ends well: a read gives zero, a write is ignored (CD.A = 0; 3.12.1). */
export const READ_AS_ZERO = -2;
/** A Translation Request is answered Unsupported Request, or Completer Abort (3.9.1.2). */
export const ATS_UNSUPPORTED = -3;
export const ATS_ABORTED = -4;
