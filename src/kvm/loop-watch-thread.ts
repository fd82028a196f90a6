/**
 * The thread beside a vCPU that runs in the models' thread: it gets that one out of KVM_RUN when its event loop has
 * something to do. Then it waits until the loop has had its turn.
 */
import { parentPort, workerData } from "node:worker_threads";
import { kick, map, unmap, viewOf, waitReadable } from "../linux/index.js";
import { RUN } from "./uapi.js";
import { type LoopWatchData, WATCH } from "./vcpu-state.js";

function main({ shared, vcpu, runBytes, descriptors, thread }: LoopWatchData): void {
  const row = new Int32Array(shared);
  const mapping = map(vcpu, runBytes);
  const bytes = new Uint8Array(viewOf(mapping));
  // From now on the guest can be left.
  parentPort!.postMessage("ready");
  while (Atomics.load(row, WATCH.END) === 0) {
    waitReadable(descriptors);
    // First that it has kicked: who enters after the kick meets the flag, and who has seen the flag clears it first.
    Atomics.store(row, WATCH.KICKED, 1);
    bytes[RUN.IMMEDIATE_EXIT] = 1;
    kick(thread);
    while (Atomics.load(row, WATCH.KICKED) === 1 && Atomics.load(row, WATCH.END) === 0) {
      Atomics.wait(row, WATCH.KICKED, 1);
    }
  }
  unmap(mapping);
  Atomics.store(row, WATCH.ENDED, 1);
  Atomics.notify(row, WATCH.ENDED);
}

main(workerData as LoopWatchData);
