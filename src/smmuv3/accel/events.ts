/**
 * Events of the physical SMMU on their way to the guest: a vEVENTQ read into the guest's event queue
 * (linux/iommufd.h, struct iommufd_vevent_header and iommu_vevent_arm_smmuv3).
 */
import {
  type EventStream,
  type HostError,
  type Iommufd,
  VEVENT_ARM_SMMUV3_BYTES,
  VEVENT_HEADER_BYTES,
  VEVENTQ_FLAG_LOST_EVENTS,
  VeventqType,
} from "../../iommufd/index.js";
import { EventReader, type Graveyard } from "../../nesting/index.js";
import { type Log, traceEvent } from "../../support/index.js";
import type { SmmuForBackend } from "../device/index.js";

const RECORD_BYTES = VEVENT_HEADER_BYTES + VEVENT_ARM_SMMUV3_BYTES;
/**
 * Events that a guest may hold of the kernel's memory by faulting while nobody reads: some 20 KiB for each SMMU, where
 * its own event queue may have 2^19. Beyond that the kernel drops and tells so, and the guest sees an overflow.
 */
const MOST_EVENTS = 256;
/** Sequence numbers run from 0 to INT_MAX and start again (linux/iommufd.h). */
const SEQUENCE_MASK = 0x7fff_ffff;

const traceVevent = traceEvent("smmuv3_accel_vevent", "viommu %s vEVENTQ %u sequence %u type 0x%x sid 0x%x");

export class VeventReader {
  /** Events handed to the guest, and events that were lost on the way. */
  delivered = 0;
  lost = 0;
  private nextSequence = 0;
  private readonly record = new Int32Array(VEVENT_ARM_SMMUV3_BYTES / 4);
  private lostReported = false;
  private readonly reader: EventReader;

  private constructor(
    private readonly smmu: SmmuForBackend,
    private readonly iommufd: Iommufd,
    /** The iommufd's id of the vEVENTQ. */
    readonly id: number,
    stream: EventStream,
    private readonly log: Log,
  ) {
    this.reader = new EventReader(
      stream,
      RECORD_BYTES,
      (bytes) => this.take(bytes),
      (error) => this.readFailed(error),
    );
  }

  /** Makes a vEVENTQ as deep as the guest's event queue, up to MOST_EVENTS. Throws HostError. */
  static open(smmu: SmmuForBackend, iommufd: Iommufd, viommuId: number, log: Log): VeventReader {
    const { id, stream } = iommufd.veventqAlloc({
      viommuId,
      type: VeventqType.ARM_SMMUV3,
      depth: Math.min(2 ** smmu.eventQueueLog2Size, MOST_EVENTS),
    });
    return new VeventReader(smmu, iommufd, id, stream, log);
  }

  private get name(): string {
    return `vEVENTQ(type ${VeventqType.ARM_SMMUV3} id ${this.id})`;
  }

  close(graveyard: Graveyard): void {
    this.reader.close();
    graveyard.destroy(this.iommufd, this.id, "vEVENTQ");
  }

  /** What is lost cannot be told; the guest sees that something is. */
  private readFailed(error: HostError): void {
    this.log.warnLimited("smmuv3.vevent", `${this.name}: read failed (${error.errno}): it is read no more, and faults of the hardware do not reach the guest until it turns its event queue off and on`);
    this.smmu.recordLostEvents();
  }

  private take(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    while (at + VEVENT_HEADER_BYTES <= bytes.length) {
      const flags = view.getUint32(at, true);
      const sequence = view.getUint32(at + 4, true);
      at += VEVENT_HEADER_BYTES;
      const gap = (sequence - this.nextSequence) & SEQUENCE_MASK;
      if ((flags & VEVENTQ_FLAG_LOST_EVENTS) !== 0) {
        // The header carries the number of the last event that found no room.
        this.reportLost(gap + 1);
        this.nextSequence = (sequence + 1) & SEQUENCE_MASK;
        continue;
      }
      if (gap !== 0) {
        this.reportLost(gap);
      }
      this.nextSequence = (sequence + 1) & SEQUENCE_MASK;
      if (at + VEVENT_ARM_SMMUV3_BYTES > bytes.length) {
        this.log.warnLimited("smmuv3.vevent", `${this.name}: short read(${bytes.length}/${at + VEVENT_ARM_SMMUV3_BYTES} bytes)`);
        return;
      }
      for (let word = 0; word < this.record.length; word++) {
        this.record[word] = view.getInt32(at + 4 * word, true);
      }
      at += VEVENT_ARM_SMMUV3_BYTES;
      this.delivered++;
      if (traceVevent.on) {
        traceVevent.emit(this.smmu.id, this.id, sequence, this.record[0] & 0xff, this.record[1] >>> 0);
      }
      this.smmu.recordEvent(this.record);
    }
  }

  private reportLost(count: number): void {
    this.lost += count;
    if (!this.lostReported) {
      this.lostReported = true;
      this.log.warnLimited("smmuv3.vevent-lost", `${this.name}: lost ${count} event(s); the guest sees an overflow of its event queue`);
    }
    this.smmu.recordLostEvents();
  }
}
