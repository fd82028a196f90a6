/** The q35 board's part of a kernel that runs on it: the VM as a PC wants it, and its boot. */
import { type BzImage, loadX86Linux, readBzImage, readVmlinux, type Vmlinux } from "../../boot/index.js";
import { CAP, type CoalescedZone, enterKernel, GDT, IrqRoutes, KvmVm, prepareX86, setFeatures, type Vcpu, X2APIC_API } from "../../kvm/index.js";
import { CONFIG_ADDRESS, type Q35Board } from "../../machine/index.js";
import { Refusal } from "../../support/index.js";
import type { KernelFiles } from "../files.js";
import { type BoardInterrupts, BoardRoutes } from "../kernel-routes.js";
import type { KernelPlatform, SerialPorts } from "../platform.js";

/** Pins of the IOAPIC, whose routes the kernel keeps for the ends of level-triggered interrupts. */
const IOAPIC_PINS = 24;
/** Below the local APICs and above the IOAPIC and the IOMMU: nothing of the board is there. */
const PLACES = { tss: 0xfeff_d000, identityMap: 0xfeff_c000 } as const;

export class X86Platform implements KernelPlatform {
  private readonly kernel: BzImage | Vmlinux;

  /** @throws Refusal where the kernel's file is none that can be entered */
  constructor(
    private readonly board: Q35Board,
    private readonly files: KernelFiles,
  ) {
    this.kernel = readVmlinux(files.kernel, files.kernelName) ?? readBzImage(files.kernel, files.kernelName);
  }

  get serial(): SerialPorts {
    return this.board.serial;
  }

  /**
   * The address of an access to configuration space, which follows; transmitters, whose status is read before more is
   * sent than they hold. Among the address's bytes is the reset register (0xcf9), which then waits for the timer at most.
   */
  /** What a guest of VT-d reads while it works is written to its memory. */
  readonly registerPages = 0;

  get coalesced(): readonly CoalescedZone[] {
    return [{ address: CONFIG_ADDRESS, bytes: 4, isPort: true }, ...this.serial.transmitters.map((address) => ({ address, bytes: 1, isPort: true }))];
  }

  open(): KvmVm {
    return KvmVm.open();
  }

  /** Local APICs in the kernel, the IOAPIC here. */
  prepare(vm: KvmVm): void {
    if (vm.extension(CAP.SPLIT_IRQCHIP) === 0) {
      throw new Refusal("kvm: a split interrupt controller is not supported", { found: "a kernel without KVM_CAP_SPLIT_IRQCHIP", wouldWork: "Linux 4.5 or newer" });
    }
    vm.enable(CAP.SPLIT_IRQCHIP, IOAPIC_PINS);
    vm.enable(CAP.X2APIC_API, X2APIC_API.USE_32BIT_IDS | X2APIC_API.DISABLE_BROADCAST_QUIRK);
    prepareX86(vm, PLACES);
  }

  /** The other processors wait for their start in the kernel. */
  boot(vm: KvmVm, vcpus: readonly Vcpu[]): () => void {
    const disconnect = this.connect(vm);
    try {
      const { board, files } = this;
      const { acpiRoot, memoryMap } = board.firmware;
      const entry = loadX86Linux(
        { kernel: this.kernel, ramdisk: files.ramdisk, commandLine: files.commandLine, memoryMap: memoryMap ?? [], acpiRoot, descriptors: GDT },
        (address, bytes) => board.memory.writeBytes(address, bytes) === 0,
      );
      vcpus.forEach(({ fd, index }) => setFeatures(vm, fd, index, vcpus.length));
      enterKernel(vcpus[0].fd, entry);
    } catch (error) {
      disconnect();
      throw error;
    }
    return disconnect;
  }

  private connect(vm: KvmVm): () => void {
    const { board } = this;
    board.interrupts.sink = (message) => {
      vm.signal({ address: BigInt(message.address), data: message.data });
    };
    // EXIT.IOAPIC_EOI comes for vectors of the routes that KVM knows.
    const routes = new IrqRoutes(vm, IOAPIC_PINS);
    board.ioapic.onEntry = () => routes.setPins(board.levelRoutes().map((route) => (route === null ? null : { address: BigInt(route.address), data: route.data })));
    board.router.connect(new BoardRoutes(routes, x86Interrupts(board), board.log));
    return () => {
      board.router.disconnect();
      routes.close();
      board.interrupts.sink = null;
      board.ioapic.onEntry = () => {};
    };
  }

  /** KVM's emulator always knows an access on x86. */
  abort(): boolean {
    return false;
  }
}

/** Messages of functions as the IOMMU remaps them. The IOAPIC is this process's: KVM resamples pins of its own only (kvm_arch_irqfd_allowed). */
export function x86Interrupts(board: Pick<Q35Board, "messageTarget">): BoardInterrupts {
  return {
    message: ({ address, data, requesterId }) => {
      const target = board.messageTarget(requesterId, { address, data });
      return target === null ? null : routable(BigInt(target.address), target.data);
    },
    pin: () => null,
  };
}

/** A message that a route can hold: one to local APICs, whose reserved bits are zero (kvm_msi_route_invalid refuses the whole table else). */
function routable(address: bigint, data: number): { address: bigint; data: number } | null {
  return (address & 0xff_fff0_0000n) === 0xfee0_0000n ? { address, data } : null;
}
