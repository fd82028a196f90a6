/** Exits of vCPUs, answered by the machine's models: memory-mapped registers, I/O ports, the end of an interrupt. */
import { type CoalescedTaker, EXIT, EXIT_IO_OUT, INTERNAL_ERROR, RUN, SYSTEM_EVENT, type Vcpu } from "../kvm/index.js";
import type { Log } from "../support/index.js";
import { hex } from "../support/index.js";

/** What exits meet of a machine. Values are of `size` bytes. */
export interface ExitTarget {
  readMemory(address: number, size: number): bigint;
  writeMemory(address: number, size: number, value: bigint): void;
  readPort(port: number, size: number): number;
  writePort(port: number, size: number, value: number): void;
  /** The guest has finished with a vector that is level-triggered. */
  endOfInterrupt(vector: number): void;
}

/** Why vCPUs stop for good. */
export type VcpuEnd = { readonly kind: "reset" | "power-off" | "failed"; readonly reason: string };

export interface ExitHooks {
  /** What answers at an address, or a port, for the account. */
  nameOf(address: number, isPort: boolean): string;
  /** Called once where the vCPU cannot go on. */
  onEnd(end: VcpuEnd): void;
  /** The access that the vCPU has exited for, which tells no register, ends in an abort. False: it cannot. */
  abort(vcpu: Vcpu): boolean;
}

/** Names of exits for the account, by KVM's number. */
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(EXIT).map(([name, number]) => [number, name]));

export class Exits {
  /** By KVM's name: "MMIO", "IO" and so on. */
  readonly byKind = new Map<string, number>();
  private readonly places = new Map<string, number>();
  /** Writes done that were no exits. */
  keptWrites = 0;
  private deliveryErrors = 0;

  constructor(
    private readonly target: ExitTarget,
    private readonly hooks: ExitHooks,
    private readonly log: Log,
  ) {}

  /** Exits by what answered them, most first. */
  get byDevice(): Array<readonly [string, number]> {
    return [...this.places].sort((a, b) => b[1] - a[1]);
  }

  /** For Vcpus: answers one. False: the vCPU is not to go on. */
  answer(vcpu: Vcpu, reason: number): boolean {
    const name = NAMES.get(reason) ?? `exit ${reason}`;
    this.byKind.set(name, (this.byKind.get(name) ?? 0) + 1);
    if (reason < 0) {
      return this.end({ kind: "failed", reason: `KVM_RUN of vCPU ${vcpu.index} gives errno ${-reason}` });
    }
    const { run } = vcpu;
    switch (reason) {
      case EXIT.MMIO:
        this.memory(run);
        return true;
      case EXIT.IO:
        this.port(run);
        return true;
      case EXIT.IOAPIC_EOI:
        this.target.endOfInterrupt(run.getUint8(RUN.EOI_VECTOR));
        return true;
      case EXIT.HLT:
      case EXIT.INTR:
        return true;
      case EXIT.SHUTDOWN:
        // A triple fault is a reset on a PC (SDM 3A, 6.15, interrupt 8).
        return this.end({ kind: "reset", reason: `triple fault of vCPU ${vcpu.index}` });
      case EXIT.SYSTEM_EVENT:
        return this.systemEvent(vcpu);
      case EXIT.ARM_NISV:
        return this.withoutSyndrome(vcpu);
      case EXIT.INTERNAL_ERROR:
        return this.internalError(vcpu);
      case EXIT.FAIL_ENTRY:
        return this.end({ kind: "failed", reason: `the hardware does not enter the guest on vCPU ${vcpu.index}: reason ${hex(run.getBigUint64(RUN.FAIL_ENTRY_REASON, true))}` });
      default:
        return this.end({ kind: "failed", reason: `vCPU ${vcpu.index} has left the guest by ${name}, which nothing here answers` });
    }
  }

  /** Does a write that KVM has kept for the next exit. */
  readonly coalesced: CoalescedTaker = (isPort, address, size, value) => {
    this.keptWrites++;
    if (isPort) {
      this.target.writePort(address, size, Number(value));
    } else {
      this.target.writeMemory(address, size, value);
    }
  };

  /** PSCI's SYSTEM_OFF, SYSTEM_RESET (Arm DEN 0022F, 5.9 and 5.10). */
  private systemEvent({ index, run }: Vcpu): boolean {
    const type = run.getUint32(RUN.SYSTEM_EVENT_TYPE, true);
    switch (type) {
      case SYSTEM_EVENT.SHUTDOWN:
        return this.end({ kind: "power-off", reason: `vCPU ${index} has switched the machine off` });
      case SYSTEM_EVENT.RESET:
        return this.end({ kind: "reset", reason: `vCPU ${index} has reset the machine` });
      default:
        return this.end({ kind: "failed", reason: type === SYSTEM_EVENT.CRASH ? `vCPU ${index} has told that its guest has crashed` : `vCPU ${index} has told a system event ${type}, which nothing here answers` });
    }
  }

  /**
   * A load or store of several registers, or one that writes its address back: the hardware tells neither width nor
   * register (Arm DDI 0487, ISS encoding for a Data Abort, ISV), so that a device cannot answer. It is aborted.
   */
  private withoutSyndrome(vcpu: Vcpu): boolean {
    const address = vcpu.run.getBigUint64(RUN.ARM_NISV.FAULT_ADDRESS, true);
    this.count(Number(address), false);
    this.log.guestError("kvm.syndrome", () => `vCPU ${vcpu.index}: an access to ${hex(address)} by an instruction that tells no register, which no device can answer; it is aborted`);
    return this.hooks.abort(vcpu) || this.end({ kind: "failed", reason: `vCPU ${vcpu.index} has accessed ${hex(address)} by an instruction that tells no register, and this KVM cannot abort it` });
  }

  private end(end: VcpuEnd): boolean {
    this.hooks.onEnd(end);
    return false;
  }

  private count(address: number, isPort: boolean): void {
    const name = this.hooks.nameOf(address, isPort);
    this.places.set(name, (this.places.get(name) ?? 0) + 1);
  }

  private memory(run: DataView): void {
    const address = Number(run.getBigUint64(RUN.MMIO.ADDRESS, true));
    const size = run.getUint32(RUN.MMIO.LENGTH, true);
    this.count(address, false);
    if (size !== 1 && size !== 2 && size !== 4 && size !== 8) {
      this.log.guestError("kvm.width", () => `an access of ${size} bytes to ${hex(BigInt(address))}, which no register takes`);
      run.setBigUint64(RUN.MMIO.DATA, 2n ** 64n - 1n, true);
      return;
    }
    if (run.getUint8(RUN.MMIO.IS_WRITE) === 0) {
      run.setBigUint64(RUN.MMIO.DATA, this.target.readMemory(address, size), true);
    } else {
      this.target.writeMemory(address, size, BigInt.asUintN(8 * size, run.getBigUint64(RUN.MMIO.DATA, true)));
    }
  }

  /** `count` values lie one after the other behind the page of kvm_run (a string instruction). */
  private port(run: DataView): void {
    const { IO } = RUN;
    const out = run.getUint8(IO.DIRECTION) === EXIT_IO_OUT;
    const size = run.getUint8(IO.SIZE);
    const port = run.getUint16(IO.PORT, true);
    const count = run.getUint32(IO.COUNT, true);
    let at = Number(run.getBigUint64(IO.DATA_OFFSET, true));
    this.count(port, true);
    for (let n = 0; n < count; n++, at += size) {
      if (out) {
        this.target.writePort(port, size, size === 1 ? run.getUint8(at) : size === 2 ? run.getUint16(at, true) : run.getUint32(at, true));
      } else {
        const value = this.target.readPort(port, size);
        if (size === 1) {
          run.setUint8(at, value);
        } else if (size === 2) {
          run.setUint16(at, value, true);
        } else {
          run.setUint32(at, value, true);
        }
      }
    }
  }

  private internalError({ index, run }: Vcpu): boolean {
    const { INTERNAL } = RUN;
    const kind = run.getUint32(INTERNAL.SUBERROR, true);
    const words = Array.from({ length: Math.min(run.getUint32(INTERNAL.NDATA, true), 16) }, (_, n) => run.getBigUint64(INTERNAL.DATA + 8 * n, true));
    if (kind === INTERNAL_ERROR.DELIVERY_EV && this.deliveryErrors++ < 1000) {
      // An access right after an exception of the guest, under an SVM that is emulated: entered again, it exits as it should.
      return true;
    }
    const what = kind === INTERNAL_ERROR.EMULATION ? "an instruction that KVM cannot emulate" : `KVM's internal error ${kind}`;
    return this.end({
      kind: "failed",
      reason: `vCPU ${index} met ${what} (${words.map((word) => word.toString(16)).join(" ")})${kind === INTERNAL_ERROR.EMULATION ? "; a KVM that runs without the processor's virtualization (kvm_pvm) emulates too little for a kernel that does not know it" : ""}`,
    });
  }
}
