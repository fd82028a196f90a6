/**
 * The thread of one vCPU: it sits in KVM_RUN, hands each exit to the models' thread and waits for its answer. It holds
 * nothing of its own: at a pause, an end or a crash of the process there is nothing to give back but descriptors.
 */
import { workerData } from "node:worker_threads";
import { interruptibleIoctl, map, signalEventFd, threadId, unmap, viewOf } from "../linux/index.js";
import { KVM, RUN } from "./uapi.js";
import { DOOR, DOOR_WORDS, REQUEST, STATE, VCPU_WORDS, type VcpuThreadData, WORD } from "./vcpu-state.js";

const EINTR = 4;
const EAGAIN = 11;

function main({ shared, index, fd, runBytes, doorbell, spins }: VcpuThreadData): void {
  const door = new Int32Array(shared, 0, DOOR_WORDS);
  const row = new Int32Array(shared, (DOOR_WORDS + index * VCPU_WORDS) * 4, VCPU_WORDS);
  const mapping = map(fd, runBytes);
  const run = viewOf(mapping);
  const bytes = new Uint8Array(run);
  const words = new Int32Array(run);
  const tell = (state: number): void => {
    Atomics.store(row, WORD.STATE, state);
    Atomics.notify(row, WORD.STATE);
    Atomics.add(door, DOOR.TOLD, 1);
    Atomics.notify(door, DOOR.TOLD);
    // Asked after it was told: who leaves the door looks once more at all.
    if (Atomics.load(door, DOOR.ATTENDED) === 0) {
      signalEventFd(doorbell);
    }
  };
  Atomics.store(row, WORD.THREAD, threadId());
  for (;;) {
    const request = Atomics.load(row, WORD.REQUEST);
    if (request === REQUEST.END) {
      break;
    }
    if (request === REQUEST.PAUSE) {
      tell(STATE.PAUSED);
      Atomics.wait(row, WORD.REQUEST, REQUEST.PAUSE);
      continue;
    }
    Atomics.store(row, WORD.STATE, STATE.RUNNING);
    Atomics.add(row, WORD.RUNS, 1);
    const result = interruptibleIoctl(fd, KVM.RUN, 0);
    if (result === -EINTR || result === -EAGAIN) {
      // First the flag, then what is asked: the other way round a kick in between would be lost.
      bytes[RUN.IMMEDIATE_EXIT] = 0;
      continue;
    }
    Atomics.store(row, WORD.REASON, result < 0 ? result : words[RUN.EXIT_REASON / 4]);
    tell(STATE.EXITED);
    for (let left = spins; left > 0 && Atomics.load(row, WORD.STATE) === STATE.EXITED; left--);
    // Looked at again after each wake: the bell of the answer before may ring only now.
    while (Atomics.load(row, WORD.STATE) === STATE.EXITED) {
      Atomics.wait(row, WORD.STATE, STATE.EXITED);
    }
  }
  // A mapping holds its vCPU, and that the whole VM, when all descriptors are closed.
  unmap(mapping);
  // The last thing done here, without a ring: a process that ends waits for this word, and takes the thread apart in the middle of any call after it.
  Atomics.store(row, WORD.STATE, STATE.ENDED);
  Atomics.notify(row, WORD.STATE);
}

main(workerData as VcpuThreadData);
