/** What a kernel that runs on a board needs of the board's architecture. The rest is the session's. */
import type { CoalescedZone, KvmVm, Vcpu } from "../kvm/index.js";
import type { SerialEnd } from "../machine/index.js";
import type { SerialPort } from "./console.js";

export interface SerialPorts {
  /** In the order of -serial. */
  readonly uarts: ReadonlyArray<SerialPort & { /** Bytes that the guest has sent. */ readonly sent: number }>;
  /** Addresses (x86: ports) of the registers that take what is to be sent. */
  readonly transmitters: readonly number[];
  connect(index: number, end: SerialEnd): void;
}

export interface KernelPlatform {
  readonly serial: SerialPorts;
  /** Registers whose writes may wait for the next exit: the guest looks at another one before it expects something of them. */
  readonly coalesced: readonly CoalescedZone[];
  /** IOMMUs whose registers the processors read as memory. */
  readonly registerPages: number;
  /** A VM without memory and processors. @throws Refusal */
  open(): KvmVm;
  /** The VM as the architecture wants it, before memory and processors. @throws Refusal, SystemError */
  prepare(vm: KvmVm): void;
  /**
   * Processors are there: connects the board's interrupts with the VM's, puts the kernel into memory and the first
   * processor at its entry.
   * @returns disconnects the board, before the VM goes
   * @throws Refusal, SystemError, with the board disconnected
   */
  boot(vm: KvmVm, vcpus: readonly Vcpu[]): () => void;
  /** An access without a width and a register ends as the architecture says. False: it cannot. */
  abort(vm: KvmVm, vcpu: Vcpu): boolean;
}
