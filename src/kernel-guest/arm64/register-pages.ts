/**
 * Registers of the SMMUs that a guest's processors read as memory: slots that can be read and not written (Linux
 * Documentation/virt/kvm/api.rst, KVM_MEM_READONLY), so that reads cost no exit and writes are exits as ever.
 *
 * A guest maps registers as Device memory, and reads past the caches what this process has written into them, unless
 * stage 2 makes it cacheable: FEAT_S2FWB (Arm DDI 0487, D8.6.6). KVM says by KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED that the
 * processors have it (Linux kvm_supports_cacheable_pfnmap: S2FWB and CTR_EL0.DIC).
 */
import { CAP, type KvmVm } from "../../kvm/index.js";
import { sharedMemory, SystemError } from "../../linux/index.js";
import type { VirtBoard } from "../../machine/index.js";
import { type Log, Refusal } from "../../support/index.js";

/** Bytes of a page of registers; an SMMU has two, the second of which reads as the first. */
const PAGE = 0x1_0000;

const WORDS = "its registers cannot be read as memory";
const INSTEAD = "x-register-pages=auto, which does without";

type Smmu = Pick<VirtBoard["iommus"][number], "id" | "base" | "registerPages" | "device">;

export class RegisterPages {
  private readonly undo: Array<() => void> = [];
  /** SMMUs whose registers are read so. */
  count = 0;

  /**
   * @param writesBack whether the processors have FEAT_S2FWB; asked where it counts
   * @throws Refusal where they are asked for and cannot be, with nothing left
   */
  constructor(vm: Pick<KvmVm, "extension" | "addSlot" | "removeSlot">, writesBack: () => boolean, smmus: readonly Smmu[], log: Log) {
    const asked = smmus.filter(({ registerPages }) => registerPages !== false);
    const missing = asked.length === 0 ? null : missingOf(vm, writesBack);
    try {
      for (const smmu of asked) {
        if (missing === null) {
          this.add(vm, smmu, log);
        } else if (smmu.registerPages === true) {
          throw new Refusal(`arm-smmuv3 '${smmu.id}': ${WORDS}`, { rule: "register-pages", found: `x-register-pages=on, and ${missing}`, wouldWork: INSTEAD });
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private add(vm: Pick<KvmVm, "addSlot" | "removeSlot">, smmu: Smmu, log: Log): void {
    const undo: Array<() => void> = [];
    try {
      const memory = sharedMemory(`${smmu.id} registers`, PAGE);
      undo.unshift(memory.release);
      smmu.device.registers.show(new Int32Array(memory.window(0, PAGE)));
      undo.unshift(() => smmu.device.registers.show(null));
      for (const page of [0, PAGE]) {
        const slot = vm.addSlot({ guestAddress: smmu.base + page, bytes: PAGE, userAddress: memory.address!, readOnly: true });
        undo.unshift(() => vm.removeSlot(slot));
      }
      this.undo.unshift(...undo);
      this.count++;
    } catch (error) {
      undo.forEach((one) => one());
      if (!(error instanceof SystemError)) {
        throw error;
      }
      if (smmu.registerPages === true) {
        throw new Refusal(`arm-smmuv3 '${smmu.id}': ${WORDS}`, { rule: "register-pages", found: error.message, wouldWork: INSTEAD });
      }
      log.warn(`${smmu.id}: ${WORDS}, each read of them exits: ${error.message}`);
    }
  }

  /** Reads of them are exits again. Before the machine of KVM is closed. */
  close(): void {
    this.count = 0;
    this.undo.splice(0).forEach((undo) => undo());
  }
}

/** What keeps registers from being read as memory; null: nothing. */
function missingOf(vm: Pick<KvmVm, "extension">, writesBack: () => boolean): string | null {
  if (vm.extension(CAP.READONLY_MEM) <= 0) {
    return "KVM has no slots that can only be read (KVM_CAP_READONLY_MEM)";
  }
  return writesBack() ? null : "the processors have no FEAT_S2FWB (ID_AA64MMFR2_EL1.FWB is 0): a guest would read past the caches";
}
