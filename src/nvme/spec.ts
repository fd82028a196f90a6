/** Numbers of the NVM Express Base Specification, revision 1.4; sections in the comments are its. */

/** Controller registers (3.1), byte offsets. */
export const REGISTER = {
  CAP: 0x00,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  AQA: 0x24,
  ASQ: 0x28,
  ACQ: 0x30,
  /** Doorbells: of queue y the submission tail at 2y, the completion head at 2y + 1, four bytes each (CAP.DSTRD 0). */
  DOORBELLS: 0x1000,
} as const;

/** VS (3.1.2). */
export const VERSION_1_4 = 0x0001_0400;

/** CC (3.1.5). */
export const CC_ENABLE = 1;
export const CC = {
  css: (cc: number): number => (cc >>> 4) & 7,
  mps: (cc: number): number => (cc >>> 7) & 0xf,
  ams: (cc: number): number => (cc >>> 11) & 7,
  shn: (cc: number): number => (cc >>> 14) & 3,
  iosqes: (cc: number): number => (cc >>> 16) & 0xf,
  iocqes: (cc: number): number => (cc >>> 20) & 0xf,
} as const;
/** Bits that software can write. */
export const CC_WRITABLE = 0x00ff_fff1;

/** CSTS (3.1.6). */
export const CSTS_READY = 1 << 0;
export const CSTS_FATAL = 1 << 1;
export const CSTS_SHUTDOWN = 3 << 2;
export const CSTS_SHUTDOWN_BUSY = 1 << 2;
export const CSTS_SHUTDOWN_DONE = 2 << 2;

/** Entry sizes (4.2, 4.6), as powers of two. */
export const SQ_ENTRY_BITS = 6;
export const CQ_ENTRY_BITS = 4;
export const SQ_ENTRY_BYTES = 1 << SQ_ENTRY_BITS;
export const CQ_ENTRY_BYTES = 1 << CQ_ENTRY_BITS;

/** Admin commands (5). */
export const ADMIN = {
  DELETE_SQ: 0x00,
  CREATE_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_CQ: 0x04,
  CREATE_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT_REQUEST: 0x0c,
} as const;

/** NVM commands (6). */
export const IO = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  COMPARE: 0x05,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
} as const;

const GENERIC = 0;
const SPECIFIC = 1;
const MEDIA = 2;
const status = (type: number, code: number, noRetry = true): number => (type << 8) | code | (noRetry ? 0x4000 : 0);

/** More information is in the error information log (4.6.1). */
export const STATUS_MORE = 0x2000;

/** Status field of completions without its phase tag (4.6.1): code in bits 7:0, type in bits 10:8, more in 13, do not retry in 14. */
export const STATUS = {
  SUCCESS: 0,
  INVALID_OPCODE: status(GENERIC, 0x01),
  INVALID_FIELD: status(GENERIC, 0x02),
  /** A later try may find the memory mapped. */
  DATA_TRANSFER_ERROR: status(GENERIC, 0x04, false),
  ABORT_REQUESTED: status(GENERIC, 0x07, false),
  INVALID_NAMESPACE: status(GENERIC, 0x0b),
  COMMAND_SEQUENCE_ERROR: status(GENERIC, 0x0c),
  PRP_OFFSET_INVALID: status(GENERIC, 0x13),
  WRITE_PROTECTED: status(GENERIC, 0x20),
  LBA_OUT_OF_RANGE: status(GENERIC, 0x80),
  COMPLETION_QUEUE_INVALID: status(SPECIFIC, 0x00),
  INVALID_QUEUE_ID: status(SPECIFIC, 0x01),
  INVALID_QUEUE_SIZE: status(SPECIFIC, 0x02),
  ASYNC_EVENT_LIMIT: status(SPECIFIC, 0x05),
  INVALID_INTERRUPT_VECTOR: status(SPECIFIC, 0x08),
  INVALID_LOG_PAGE: status(SPECIFIC, 0x09),
  INVALID_QUEUE_DELETION: status(SPECIFIC, 0x0c),
  FEATURE_NOT_SAVEABLE: status(SPECIFIC, 0x0d),
  FEATURE_NOT_NAMESPACE: status(SPECIFIC, 0x0f),
  WRITE_FAULT: status(MEDIA, 0x80, false),
  UNRECOVERED_READ: status(MEDIA, 0x81, false),
  COMPARE_FAILURE: status(MEDIA, 0x85),
} as const;

/** The value of NSID that means all namespaces (6.1). */
export const ALL_NAMESPACES = 0xffff_ffff;

/** NN: namespace ids that there can be. */
export const MOST_NAMESPACES = 256;

/** Features (5.21.1). */
export const FEATURE = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  TEMPERATURE_THRESHOLD: 0x04,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  INTERRUPT_COALESCING: 0x08,
  INTERRUPT_VECTOR: 0x09,
  WRITE_ATOMICITY: 0x0a,
  ASYNC_EVENTS: 0x0b,
} as const;

/** Log pages (5.14.1). */
export const LOG = { ERROR: 0x01, SMART: 0x02, FIRMWARE: 0x03, CHANGED_NAMESPACES: 0x04, EFFECTS: 0x05 } as const;

/** Asynchronous events (5.2.1): type, and information of errors and of SMART. */
export const EVENT_ERROR = 0;
export const EVENT_SMART = 1;
export const ERROR_INVALID_DOORBELL = 0;
export const ERROR_INVALID_DOORBELL_VALUE = 1;
export const SMART_TEMPERATURE = 1;

/** SMART critical warning: temperature (5.14.1.2). */
export const WARNING_TEMPERATURE = 1 << 1;
