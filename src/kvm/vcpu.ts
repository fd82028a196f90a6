/** A vCPU, and what those are like who run a machine's: in threads of their own, or the one in the models' thread. */
import { readFileSync } from "node:fs";
import { closeFd, ioctl, map, type Mapping, unmap, viewOf } from "../linux/index.js";
import { KVM } from "./uapi.js";
import type { KvmVm } from "./vm.js";

/** A vCPU as those see it who set it up and answer its exits. */
export interface Vcpu {
  readonly index: number;
  readonly fd: number;
  /** Its struct kvm_run and what follows it. */
  readonly run: DataView;
}

/** Answers an exit: reads it in `vcpu.run` and writes its result there. False: the vCPU is to wait, the machine ends or resets. */
export type ExitHandler = (vcpu: Vcpu, reason: number) => boolean;

/** The vCPUs of a machine; their exits are answered in the models' thread. */
export interface VcpuGroup {
  readonly all: readonly Vcpu[];
  /** KVM_RUN calls so far. */
  readonly runs: number;
  /** Processor time of their threads, in milliseconds. */
  readonly processorMs: number;
  /** A thread has ended that nobody asked to: its error. */
  onFailure: ((error: Error) => void) | null;
  /** Lets them run. A process that ends, for whatever reason, first gets threads out of the kernel: it would hang else. */
  start(): void;
  /** All vCPUs leave the guest and stay out of it; completes when they have. What they have exited for is answered before. */
  pause(): Promise<void>;
  /**
   * All vCPUs leave the guest, and this thread waits until they have: for what changes the machine below them in the
   * middle of something else. What one has exited for is left unanswered. @returns false where one did not in time
   */
  hold(): boolean;
  resume(): void;
  /** Ends the threads and closes the vCPUs. Safe to call twice. */
  close(): Promise<void>;
}

/** @throws SystemError, nothing left */
export function makeVcpu(vm: KvmVm, index: number, runBytes: number): Vcpu & { readonly mapping: Mapping } {
  const fd = ioctl(vm.fd, "KVM_CREATE_VCPU", KVM.CREATE_VCPU, index);
  try {
    const mapping = map(fd, runBytes);
    return { index, fd, mapping, run: new DataView(viewOf(mapping)) };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

export function releaseVcpu({ mapping, fd }: { readonly mapping: Mapping; readonly fd: number }): void {
  unmap(mapping);
  closeFd(fd);
}

/** Time that a thread of this process has had, as its scheduler counts (proc(5), /proc/pid/task/tid/schedstat): nanoseconds first. */
export function processorMs(thread: number): number {
  try {
    return Number(readFileSync(`/proc/self/task/${thread}/schedstat`, "latin1").split(" ")[0]) / 1e6;
  } catch {
    return 0;
  }
}
