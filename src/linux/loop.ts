/**
 * The event loop's turns, for one who blocks the main thread in a system call of its own in the place where libuv would
 * block: by libuv's own handles (uv.h: uv_check_t, uv_idle_t), whose numbers are stable since 1.0.
 */
import { foreign, native } from "./native.js";
import { SystemError } from "./errors.js";

/** uv_handle_type. */
const UV_CHECK = 2;
const UV_IDLE = 6;
/** struct uv_metrics_s: loop_count, events, events_waiting and 13 reserved words of 64 bits; libuv 1.45, Node.js 20.3. */
const METRICS_BYTES = 128;
const METRICS_EVENTS = 8;

const loop = (): object => foreign("void *uv_default_loop()")();

/** A descriptor that is readable when one of those that the loop watches is (epoll(7)). */
export function loopDescriptor(): number {
  return foreign("int uv_backend_fd(const void *loop)")(loop());
}

/**
 * Calls back in each turn of the main thread's loop, right after it has looked at descriptors and before what
 * setImmediate has left, and keeps the loop turning while it is on. In the main thread only.
 */
export class LoopTurns {
  private readonly loop = loop();
  private readonly check: object;
  private readonly idle: object;
  private readonly nothing: object;
  private readonly callback: bigint;
  private readonly metrics = Buffer.alloc(METRICS_BYTES);
  private readonly idleStart = foreign("int uv_idle_start(void *handle, void *callback)");
  private readonly idleStop = foreign("int uv_idle_stop(void *handle)");
  private readonly backendTimeout = foreign("int uv_backend_timeout(const void *loop)");
  private readonly metricsInfo = foreign("int uv_metrics_info(void *loop, void *metrics)");
  private events = -1;
  private on = false;
  private open = true;

  /** @param onTurn what it throws is thrown from the loop's next turn: it would vanish in libuv */
  constructor(onTurn: () => void) {
    const { koffi } = native();
    const allocate = (type: number): object => foreign("void *calloc(size_t count, size_t bytes)")(1, foreign("size_t uv_handle_size(int type)")(type));
    this.check = allocate(UV_CHECK);
    this.idle = allocate(UV_IDLE);
    made("uv_check_init", foreign("int uv_check_init(void *loop, void *handle)")(this.loop, this.check));
    made("uv_idle_init", foreign("int uv_idle_init(void *loop, void *handle)")(this.loop, this.idle));
    // An idle handle needs a callback: a function of the C library without effect.
    this.nothing = foreign("void *dlsym(void *handle, const char *name)")(null, "abs");
    this.callback = koffi.register(() => {
      try {
        onTurn();
      } catch (error) {
        setImmediate(() => {
          throw error;
        });
      }
    }, koffi.pointer((turnPrototype ??= koffi.proto("void viommu_turn(void *handle)"))));
  }

  start(): void {
    if (!this.on && this.open) {
      this.on = true;
      made("uv_check_start", foreign("int uv_check_start(void *handle, void *callback)")(this.check, this.callback));
      this.idleStart(this.idle, this.nothing);
    }
  }

  stop(): void {
    if (this.on) {
      this.on = false;
      this.idleStop(this.idle);
      foreign("int uv_check_stop(void *handle)")(this.check);
    }
  }

  /**
   * In the callback: milliseconds until the loop has something to do by itself (a timer), 0: it has already, or what it
   * is to watch may not be watched yet; -1: nothing but descriptors can give it something to do.
   */
  untilWork(): number {
    this.metricsInfo(this.loop, this.metrics);
    const events = this.metrics.readUInt32LE(METRICS_EVENTS);
    const quiet = events === this.events;
    this.events = events;
    // A loop with an idle handle never blocks, so that it would say 0.
    this.idleStop(this.idle);
    const timeout = this.backendTimeout(this.loop);
    if (this.on) {
      this.idleStart(this.idle, this.nothing);
    }
    // What was called back in this turn may have begun to watch more, which libuv tells the kernel in its next one.
    return quiet ? timeout : 0;
  }

  /** Safe to call twice. */
  close(): void {
    if (!this.open) {
      return;
    }
    this.stop();
    this.open = false;
    const { koffi } = native();
    const release = foreign("void free(void *memory)");
    let left = 2;
    const closed = koffi.register((handle: object) => {
      release(handle);
      if (--left === 0) {
        setImmediate(() => {
          koffi.unregister(this.callback);
          koffi.unregister(closed);
        });
      }
    }, koffi.pointer((turnPrototype ??= koffi.proto("void viommu_turn(void *handle)"))));
    const close = foreign("void uv_close(void *handle, void *callback)");
    close(this.check, closed);
    close(this.idle, closed);
  }
}

let turnPrototype: ReturnType<ReturnType<typeof native>["koffi"]["proto"]> | null = null;

function made(call: string, result: number): void {
  if (result < 0) {
    throw new SystemError(call, -result);
  }
}

const TFD_NONBLOCK = 0o4000;
const TFD_CLOEXEC = 0o2000000;
const CLOCK_MONOTONIC = 1;
/** struct itimerspec: interval, then value; seconds and nanoseconds of 64 bits each. */
const TIMER_BYTES = 32;

/** A timerfd(2): its descriptor is readable once a time has passed. */
export class TimerDescriptor {
  readonly fd: number;
  private readonly value = Buffer.alloc(TIMER_BYTES);

  /** @throws SystemError */
  constructor() {
    this.fd = foreign("int timerfd_create(int clock, int flags)")(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (this.fd < 0) {
      throw new SystemError("timerfd_create", native().koffi.errno());
    }
  }

  /** Readable `ms` from now on, and not before; 0: never. */
  set(ms: number): void {
    this.value.writeBigUInt64LE(BigInt(Math.floor(ms / 1000)), 16);
    this.value.writeBigUInt64LE(BigInt(Math.round((ms % 1000) * 1e6)), 24);
    foreign("int timerfd_settime(int fd, int flags, const void *value, void *old)")(this.fd, 0, this.value, null);
  }
}

const POLLIN = 1;

/** Blocks this thread until one of the descriptors is readable (poll(2)); a signal ends it too. */
export function waitReadable(descriptors: readonly number[]): void {
  const list = Buffer.alloc(8 * descriptors.length);
  descriptors.forEach((fd, n) => {
    list.writeInt32LE(fd, 8 * n);
    list.writeInt16LE(POLLIN, 8 * n + 4);
  });
  foreign("int poll(void *descriptors, unsigned long count, int timeout)")(list, descriptors.length, -1);
}
