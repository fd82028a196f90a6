/**
 * Invalidations on their way to the host: collected in order, sent in one call (HWPT_INVALIDATE on the
 * vIOMMU, linux/iommufd.h, struct iommu_viommu_arm_smmuv3_invalidate).
 */
import { INVALIDATE_ARM_SMMUV3_BYTES, InvalidateDataType, type InvalidateResult } from "../iommufd/index.js";
import { traceEvent } from "../support/index.js";
import type { ViommuObjects } from "./accel-objects.js";
import { CMD, CMD_WORDS } from "./spec/index.js";

/** Commands that one host call takes at the most: 64 KiB of commands, a size that any kernel allocates. */
export const BATCH_CAPACITY = 4096;

const traceBatch = traceEvent("smmuv3_accel_issue_batch", "%s commands %u handled %u errno %s");

export class InvalidationBatch {
  /** Commands that are collected. */
  pending = 0;
  /** Collected commands that the host has done, and host calls. */
  forwarded = 0;
  calls = 0;
  private readonly words = new Int32Array(BATCH_CAPACITY * CMD_WORDS);
  private readonly bytes = new Uint8Array(this.words.buffer);

  /** `smmuId`: the user's id of the SMMU, for traces. */
  constructor(private readonly smmuId: string) {}

  add(word0: number, word1: number, word2: number, word3: number): void {
    const at = this.pending * CMD_WORDS;
    this.words[at] = word0;
    this.words[at + 1] = word1;
    this.words[at + 2] = word2;
    this.words[at + 3] = word3;
    this.pending++;
  }

  clear(): void {
    this.pending = 0;
  }

  /** Opcode of the command at a place in what was sent last. */
  opcodeAt(index: number): number {
    return this.words[index * CMD_WORDS] & CMD.OPCODE.mask;
  }

  /** Sends what is collected and empties the batch, whatever comes of it. */
  send(objects: ViommuObjects): InvalidateResult {
    const count = this.pending;
    this.pending = 0;
    const result = this.call(objects, this.bytes.subarray(0, count * INVALIDATE_ARM_SMMUV3_BYTES), count);
    this.forwarded += result.handled;
    return result;
  }

  /** Sends one command of this side's own. */
  sendOne(objects: ViommuObjects, command: Int32Array): InvalidateResult {
    return this.call(objects, new Uint8Array(command.buffer, command.byteOffset, command.byteLength), 1);
  }

  private call(objects: ViommuObjects, data: Uint8Array, count: number): InvalidateResult {
    const result = objects.iommufd.hwptInvalidate({
      hwptId: objects.viommuId,
      dataType: InvalidateDataType.ARM_SMMUV3,
      entryLength: INVALIDATE_ARM_SMMUV3_BYTES,
      entryCount: count,
      data,
    });
    this.calls++;
    if (traceBatch.on) {
      traceBatch.emit(this.smmuId, count, result.handled, result.errno ?? "0");
    }
    return result;
  }
}
