/** The q35 board's part of a kernel that runs on it: the VM as a PC wants it, and its boot. */
import { loadX86Linux, readBzImage, type X86LinuxEntry } from "../boot/index.js";
import { CAP, enterKernel, GDT, type KvmVm, prepareX86, setFeatures, type Vcpu, X2APIC_API } from "../kvm/index.js";
import type { MemoryMapEntry } from "../port/index.js";
import { Refusal } from "../support/index.js";
import type { KernelFiles } from "./files.js";

/** Pins of the IOAPIC, whose routes the kernel keeps for the ends of level-triggered interrupts. */
const IOAPIC_PINS = 24;
/** Below the local APICs and above the IOAPIC and the IOMMU: nothing of the board is there. */
const PLACES = { tss: 0xfeff_d000, identityMap: 0xfeff_c000 } as const;

/** Local APICs in the kernel, the IOAPIC here; before the first vCPU is made. @throws Refusal, SystemError */
export function prepareVm(vm: KvmVm): void {
  if (vm.extension(CAP.SPLIT_IRQCHIP) === 0) {
    throw new Refusal("kvm: a split interrupt controller is not supported", { found: "a kernel without KVM_CAP_SPLIT_IRQCHIP", wouldWork: "Linux 4.5 or newer" });
  }
  vm.enable(CAP.SPLIT_IRQCHIP, IOAPIC_PINS);
  vm.enable(CAP.X2APIC_API, X2APIC_API.USE_32BIT_IDS | X2APIC_API.DISABLE_BROADCAST_QUIRK);
  prepareX86(vm, PLACES);
}

/** Puts the kernel into memory and the first processor at its entry; the others wait for theirs in the kernel. */
export function bootX86(
  vm: KvmVm,
  vcpus: readonly Vcpu[],
  files: KernelFiles,
  machine: { readonly memoryMap: readonly MemoryMapEntry[]; readonly acpiRoot: number | null; write(address: number, bytes: Uint8Array): boolean },
): X86LinuxEntry {
  const entry = loadX86Linux(
    {
      kernel: readBzImage(files.kernel, files.kernelName),
      ramdisk: files.ramdisk,
      commandLine: files.commandLine,
      memoryMap: machine.memoryMap,
      acpiRoot: machine.acpiRoot,
      descriptors: GDT,
    },
    (address, bytes) => machine.write(address, bytes),
  );
  vcpus.forEach(({ fd, index }) => setFeatures(vm, fd, index, vcpus.length));
  enterKernel(vcpus[0].fd, entry);
  return entry;
}
