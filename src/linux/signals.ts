/**
 * Kicking a thread out of a system call by a signal (pthread_kill's way). The handler is a function of the C library
 * without effect, abs(3): no JavaScript runs in a signal's context, and the call that it interrupts gives EINTR.
 */
import { foreign, native } from "./native.js";
import { SystemError } from "./errors.js";

/** A real-time signal that neither glibc (32, 33) nor Node.js uses. */
const KICK_SIGNAL = 40;
/** glibc's struct sigaction of x86-64 and arm64: handler at 0, mask of 128 bytes, flags, restorer. */
const SIGACTION_BYTES = 152;

let installed = false;

/** Makes the kick's signal harmless for the whole process. To be called before the first `kick`. @throws SystemError */
export function installKick(): void {
  if (installed) {
    return;
  }
  const { koffi } = native();
  const symbol = foreign("void *dlsym(void *handle, const char *name)")(null, "abs");
  const action = Buffer.alloc(SIGACTION_BYTES);
  action.writeBigUInt64LE(BigInt(koffi.address(symbol)), 0);
  const result = foreign("int sigaction(int signal, const void *action, void *old)")(KICK_SIGNAL, action, null);
  if (result < 0) {
    throw new SystemError("sigaction", koffi.errno());
  }
  installed = true;
}

/** Sends the signal to a thread of this process (`threadId` in it); a thread that is gone is none. */
export function kick(thread: number): void {
  foreign("int tgkill(int group, int thread, int signal)")(process.pid, thread, KICK_SIGNAL);
}
