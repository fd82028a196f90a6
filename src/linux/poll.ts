/**
 * Descriptors in the event loop of the main thread, by libuv's own poll handles: no thread, no copy. A callback's
 * exception would vanish in libuv, so it is kept and thrown from the loop's next turn.
 */
import { AsyncResource } from "node:async_hooks";
import { foreign, native } from "./native.js";
import { SystemError } from "./errors.js";

/** UV_POLL in uv_handle_type, UV_READABLE (libuv's uv.h; both stable since 1.0). */
const UV_POLL = 8;
const UV_READABLE = 1;

/** A descriptor that is watched; it keeps the process alive until `close`. */
export interface Watch {
  /** Stops watching. To be called before the descriptor is closed. Safe to call twice. */
  close(): void;
}

/** Calls back whenever `fd` is readable, until closed. In the main thread only. @throws SystemError */
export function watchReadable(fd: number, onReadable: () => void): Watch {
  const { koffi } = native();
  // The C library's memory, not a buffer's: libuv looks at its handles once more when the process ends, after all buffers are gone.
  const handle = foreign("void *calloc(size_t count, size_t bytes)")(1, foreign("size_t uv_handle_size(int type)")(UV_POLL));
  const loop = foreign("void *uv_default_loop()")();
  check("uv_poll_init", foreign("int uv_poll_init(void *loop, void *handle, int fd)")(loop, handle, fd));
  // A native callback has no context of its own: it gets that of whoever watches, as Node.js' own handles do.
  const inContext = AsyncResource.bind(onReadable);
  const callback = koffi.register(() => {
    try {
      inContext();
    } catch (error) {
      setImmediate(() => {
        throw error;
      });
    }
  }, koffi.pointer(pollCallback(koffi)));
  check("uv_poll_start", foreign("int uv_poll_start(void *handle, int events, void *callback)")(handle, UV_READABLE, callback));
  let open = true;
  return {
    close: () => {
      if (!open) {
        return;
      }
      open = false;
      foreign("int uv_poll_stop(void *handle)")(handle);
      const closed = koffi.register(() => {
        foreign("void free(void *memory)")(handle);
        setImmediate(() => {
          koffi.unregister(callback);
          koffi.unregister(closed);
        });
      }, koffi.pointer(closeCallback(koffi)));
      foreign("void uv_close(void *handle, void *callback)")(handle, closed);
    },
  };
}

function check(call: string, result: number): void {
  if (result < 0) {
    throw new SystemError(call, -result);
  }
}

type Koffi = ReturnType<typeof native>["koffi"];
type Prototype = ReturnType<Koffi["proto"]>;
let prototypes: { poll: Prototype; close: Prototype } | null = null;

function both(koffi: Koffi): { poll: Prototype; close: Prototype } {
  prototypes ??= { poll: koffi.proto("void viommu_poll(void *handle, int status, int events)"), close: koffi.proto("void viommu_closed(void *handle)") };
  return prototypes;
}

const pollCallback = (koffi: Koffi): Prototype => both(koffi).poll;
const closeCallback = (koffi: Koffi): Prototype => both(koffi).close;
