/**
 * Writes that do not leave the guest: KVM keeps those to a zone in a ring, in their order, and whoever answers the next
 * exit of any vCPU does them before it (Linux Documentation/virt/kvm/api.rst, 4.21 KVM_REGISTER_COALESCED_MMIO). For
 * registers whose write has no effect that the guest sees before it looks at another one.
 */
import { ioctl } from "../linux/index.js";
import { CAP, COALESCED_RING, COALESCED_ZONE, KVM } from "./uapi.js";
import type { Vcpu } from "./vcpu.js";
import type { KvmVm } from "./vm.js";

/** A range of addresses, or of I/O ports (x86). */
export interface CoalescedZone {
  readonly address: number;
  readonly bytes: number;
  readonly isPort: boolean;
}

/** Does a write: `size` bytes, 1, 2, 4 or 8. */
export type CoalescedTaker = (isPort: boolean, address: number, size: number, value: bigint) => void;

const PAGE = 4096;

export class CoalescedWrites {
  private readonly view: DataView;

  private constructor(run: DataView, page: number) {
    this.view = new DataView(run.buffer, run.byteOffset + page * PAGE, PAGE);
  }

  /** Null: this kernel has none for any of the zones. @throws SystemError */
  static open(vm: KvmVm, vcpus: readonly Vcpu[], zones: readonly CoalescedZone[]): CoalescedWrites | null {
    const page = vm.extension(CAP.COALESCED_MMIO);
    const ports = page > 0 && vm.extension(CAP.COALESCED_PIO) > 0;
    const taken = zones.filter(({ isPort }) => (isPort ? ports : page > 0));
    for (const { address, bytes, isPort } of taken) {
      const zone = Buffer.alloc(COALESCED_ZONE.BYTES);
      zone.writeBigUInt64LE(BigInt(address), COALESCED_ZONE.ADDRESS);
      zone.writeUInt32LE(bytes, COALESCED_ZONE.SIZE);
      zone.writeUInt32LE(isPort ? 1 : 0, COALESCED_ZONE.PIO);
      ioctl(vm.fd, "KVM_REGISTER_COALESCED_MMIO", KVM.REGISTER_COALESCED_MMIO, zone);
    }
    return taken.length === 0 ? null : new CoalescedWrites(vcpus[0].run, page);
  }

  /** Does what is in the ring. What comes meanwhile is done too, to a bound. */
  drain(take: CoalescedTaker): void {
    const { view } = this;
    const { FIRST, LAST, ENTRIES, ENTRY } = COALESCED_RING;
    const most = Math.floor((PAGE - ENTRIES) / ENTRY.BYTES);
    let first = view.getUint32(FIRST, true);
    for (let n = 0; n < most && first < most && first !== view.getUint32(LAST, true); n++) {
      const at = ENTRIES + first * ENTRY.BYTES;
      const address = Number(view.getBigUint64(at + ENTRY.ADDRESS, true));
      const size = view.getUint32(at + ENTRY.LENGTH, true);
      const isPort = view.getUint32(at + ENTRY.PIO, true) !== 0;
      const value = BigInt.asUintN(8 * size, view.getBigUint64(at + ENTRY.DATA, true));
      first = (first + 1) % most;
      // Given back before it is done: what it does may look here.
      view.setUint32(FIRST, first, true);
      take(isPort, address, size, value);
    }
  }
}
