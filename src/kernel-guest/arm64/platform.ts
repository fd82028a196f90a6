/** The virt board's part of a kernel that runs on it: GICv3 and ITS of KVM, and its boot by the tables that the board makes for it. */
import { type Arm64Image, readArm64Image } from "../../boot/index.js";
import { arm64MachineType, CAP, type CoalescedZone, enterArm64, initVcpus, injectAbort, IrqRoutes, KvmGic, KvmVm, prepareArm64, stage2WritesBack, type Vcpu } from "../../kvm/index.js";
import type { VirtBoard } from "../../machine/index.js";
import { Refusal } from "../../support/index.js";
import type { KernelFiles } from "../files.js";
import { type BoardInterrupts, BoardRoutes } from "../kernel-routes.js";
import { RegisterPages } from "./register-pages.js";
import { placeKernel } from "./tables.js";
import type { KernelPlatform, SerialPorts } from "../platform.js";

/** Interrupts of each processor, which are no pins of the GIC (Arm IHI 0069, 2.2.1). */
const PRIVATE_LINES = 32;

export class Arm64Platform implements KernelPlatform {
  private readonly image: Arm64Image;
  registerPages = 0;

  /** @throws Refusal where the board or the kernel is none that can run so */
  constructor(
    private readonly board: VirtBoard,
    private readonly files: KernelFiles,
  ) {
    const { gic } = board;
    if (gic === null) {
      throw new Refusal(`gic-version=${board.gicVersion} does not work with a kernel under KVM`, { found: "the interrupt controller of a kernel's vCPUs, which is KVM's GICv3", wouldWork: "gic-version=3" });
    }
    const { cpus } = board.args.smp;
    if (cpus > gic.mostCpus) {
      throw new Refusal(`Number of SMP CPUs requested (${cpus}) exceeds max CPUs supported by machine 'mach-virt' (${gic.mostCpus})`, { found: `-smp ${cpus}, a redistributor for each`, wouldWork: `-smp ${gic.mostCpus}` });
    }
    this.image = readArm64Image(files.kernel, files.kernelName);
    board.crowdedBridges.forEach((line) => board.log.warn(line));
  }

  get serial(): SerialPorts {
    return this.board.platform;
  }

  /** The PL011s' data registers, whose flags are read before more is sent than they hold. */
  get coalesced(): readonly CoalescedZone[] {
    return this.serial.transmitters.map((address) => ({ address, bytes: 4, isPort: false }));
  }

  open(): KvmVm {
    return KvmVm.open((extension) => arm64MachineType(this.board.addressBits, extension(CAP.ARM_VM_IPA_SIZE)));
  }

  prepare(vm: KvmVm): void {
    prepareArm64(vm);
  }

  /** The other processors are off until the kernel switches them on (PSCI's CPU_ON, which KVM answers). */
  boot(vm: KvmVm, vcpus: readonly Vcpu[]): () => void {
    const { board } = this;
    initVcpus(vm, vcpus);
    const places = board.gic!;
    const gic = new KvmGic(vm, places, places.lines);
    const routes = new IrqRoutes(vm, places.lines - PRIVATE_LINES);
    let pages: RegisterPages | null = null;
    const disconnect = (): void => {
      pages?.close();
      board.router.disconnect();
      routes.close();
      board.interrupts.taker = null;
      gic.close();
    };
    try {
      pages = new RegisterPages(vm, () => stage2WritesBack(vcpus[0].fd), board.iommus, board.log);
      this.registerPages = pages.count;
      board.interrupts.taker = {
        message: ({ address, data, deviceId }) => void vm.signal({ address: BigInt(address), data, deviceId }),
        line: (intid, high) => gic.setLine(intid, high),
      };
      board.router.connect(new BoardRoutes(routes, arm64Interrupts(board, vm.extension(CAP.IRQFD_RESAMPLE) > 0), board.log));
      enterArm64(vcpus[0].fd, { instruction: this.load(), deviceTree: board.map.ram.base });
    } catch (error) {
      disconnect();
      throw error;
    }
    return disconnect;
  }

  /** Puts tables, kernel and ramdisk into memory; returns the kernel's first instruction. */
  private load(): number {
    const { board, files, image } = this;
    const bytes = files.ramdisk?.length ?? 0;
    const place = placeKernel(board, image, bytes, files.commandLine);
    board.writeFirmware();
    const put = (what: string, address: number, content: Uint8Array): void => {
      if (board.memory.writeBytes(address, content) !== 0) {
        throw new Refusal(`there is no memory for ${what}`, { found: `${content.length} bytes at 0x${address.toString(16)}`, wouldWork: "a larger -m" });
      }
    };
    put("the kernel", place.instruction, image.payload);
    if (place.ramdisk !== null) {
      put("the initial ramdisk", place.ramdisk.base, files.ramdisk!);
    }
    return place.instruction;
  }

  abort(vm: KvmVm, vcpu: Vcpu): boolean {
    return injectAbort(vm, vcpu.fd);
  }
}

/** Messages to the ITS, which knows functions by their requester ids; lines of the root complex are pins of the GIC. */
export function arm64Interrupts(board: Pick<VirtBoard, "gic" | "msiDoorbell" | "spiOfLine">, resamples: boolean): BoardInterrupts {
  const hasIts = board.gic !== null && board.gic.its !== null;
  return {
    message: ({ address, data, requesterId }) => (hasIts && address === board.msiDoorbell ? { address: BigInt(address), data, deviceId: requesterId } : null),
    pin: (line) => (resamples ? board.spiOfLine(line) : null),
  };
}
