/** The vSMMU's commands on their way to the host (linux/iommufd.h, struct iommu_viommu_arm_smmuv3_invalidate). */
import { InvalidateDataType, type InvalidateResult } from "../../iommufd/index.js";
import { InvalidationBatch } from "../../nesting/index.js";
import { traceEvent } from "../../support/index.js";
import type { ViommuObjects } from "./objects.js";
import { CMD, CMD_WORDS } from "../spec/index.js";

/** Commands that one host call takes at the most: 64 KiB of commands, a size that any kernel allocates. */
export const BATCH_CAPACITY = 4096;

const traceBatch = traceEvent("smmuv3_accel_issue_batch", "%s commands %u handled %u errno %s");

export class CommandBatch extends InvalidationBatch {
  /** Collected commands that the host has done, and host calls. */
  forwarded = 0;
  calls = 0;

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

  /** Opcode of the command at a place in what was sent last. */
  opcodeAt(index: number): number {
    return this.words[index * CMD_WORDS] & CMD.OPCODE.mask;
  }

  /** Sends what is collected and empties the batch, whatever comes of it. */
  send(objects: ViommuObjects): InvalidateResult {
    const count = this.pending;
    const result = this.counted(this.sendTo(objects.iommufd, objects.viommuId), count);
    this.forwarded += result.handled;
    return result;
  }

  /** Sends one command of this side's own. */
  sendOne(objects: ViommuObjects, command: Int32Array): InvalidateResult {
    return this.counted(this.call(objects.iommufd, objects.viommuId, command, 1), 1);
  }

  private counted(result: InvalidateResult, count: number): InvalidateResult {
    this.calls++;
    if (traceBatch.on) {
      traceBatch.emit(this.smmuId, count, result.handled, result.errno ?? "0");
    }
    return result;
  }
}
