/** The vSMMU's commands on their way to the host (linux/iommufd.h, struct iommu_viommu_arm_smmuv3_invalidate). */
import { InvalidateDataType, type InvalidateResult } from "../../iommufd/index.js";
import { InvalidationBatch } from "../../nesting/index.js";
import { traceEvent } from "../../support/index.js";
import { CMD, CMD_WORDS, isCfgiOrTlbi, OP } from "../spec/index.js";

/** Commands that one host call takes at the most: 64 KiB of commands, a size that any kernel allocates. */
export const BATCH_CAPACITY = 4096;

const traceBatch = traceEvent("smmuv3_accel_issue_batch", "%s commands %u handled %u errno %s");

export class CommandBatch extends InvalidationBatch {
  /** `smmuId`: the user's id of the SMMU, for traces. */
  constructor(private readonly smmuId: string) {
    super(InvalidateDataType.ARM_SMMUV3, CMD_WORDS, BATCH_CAPACITY);
  }

  add(word0: number, word1: number, word2: number, word3: number): void {
    const at = this.take();
    this.words[at] = word0;
    this.words[at + 1] = word1;
    this.words[at + 2] = word2;
    this.words[at + 3] = word3;
  }

  /** Opcode of the command at a place in what was sent last, as long as none has timed out. */
  opcodeAt(index: number): number {
    return this.words[index * CMD_WORDS] & CMD.OPCODE.mask;
  }

  /** The host's SMMU has erratum T264-SMMU-3 (`losesInvalidations`). */
  repeats = false;

  /** TLBI and CFGI, never ATC_INV (Linux's IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI). */
  protected override wantsRepeating(index: number): boolean {
    return this.repeats && isCfgiOrTlbi(this.opcodeAt(index));
  }

  /** An ATC_INV waits for an endpoint (Arm IHI 0070, 4.5.1). */
  protected override mayTimeOut(index: number): boolean {
    return this.opcodeAt(index) === OP.ATC_INV;
  }

  protected override called(count: number, { errno, handled }: InvalidateResult): void {
    if (traceBatch.on) {
      traceBatch.emit(this.smmuId, count, handled, errno ?? "0");
    }
  }
}
