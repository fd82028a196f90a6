/** What the threads of a vCPU and the thread of the device models share: words of a SharedArrayBuffer, a row for each vCPU. */

/** Words of the door, before the rows. */
export const DOOR_WORDS = 8;

/** Indexes in the door: where the models' thread waits for whoever comes next. */
export const DOOR = {
  /** Counts what the vCPUs have told. The models' thread waits on it while it attends. */
  TOLD: 0,
  /** 1: the models' thread waits at the door, or looks at all vCPUs before it leaves, so that no bell is needed. */
  ATTENDED: 1,
} as const;

/** Words of a row. */
export const VCPU_WORDS = 8;

/** Indexes in a row. */
export const WORD = {
  /** STATE. The vCPU's thread waits on it while it is EXITED; the models' thread sets it to RUNNING. */
  STATE: 0,
  /** REQUEST. Set by the models' thread. */
  REQUEST: 1,
  /** The kernel's id of the vCPU's thread, for the kick. */
  THREAD: 2,
  /** With EXITED: EXIT_REASON of kvm_run, or the negative errno of KVM_RUN. */
  REASON: 3,
  /** KVM_RUN calls made. */
  RUNS: 4,
} as const;

export const STATE = { STARTING: 0, RUNNING: 1, EXITED: 2, PAUSED: 3, ENDED: 4 } as const;
export const REQUEST = { NONE: 0, PAUSE: 1, END: 2 } as const;

/** What a vCPU's thread is started with. */
export interface VcpuThreadData {
  readonly shared: SharedArrayBuffer;
  /** Looks at the answer's word before the thread blocks on it. */
  readonly spins: number;
  readonly index: number;
  /** The vCPU's descriptor, and the bytes of its shared pages. */
  readonly fd: number;
  readonly runBytes: number;
  /** An eventfd that wakes the models' thread. */
  readonly doorbell: number;
}

/** Words that the models' thread and the one beside it share, where the vCPU runs in the models' thread. */
export const WATCH = {
  /** 1: the models' thread has been kicked, and its loop is to have its turn. It sets 0 when it enters the guest again. */
  KICKED: 0,
  /** 1: the thread is to end. */
  END: 1,
  /** 1: it has, but for what Node.js does. */
  ENDED: 2,
} as const;
export const WATCH_WORDS = 4;

/** What that thread is started with. */
export interface LoopWatchData {
  readonly shared: SharedArrayBuffer;
  /** The vCPU's descriptor, and the bytes of its shared pages. */
  readonly vcpu: number;
  readonly runBytes: number;
  /** Readable when the loop has something to do, or the thread is to end. */
  readonly descriptors: readonly number[];
  /** The kernel's id of the models' thread. */
  readonly thread: number;
}
