/**
 * Events of the physical SMMU on their way to the guest: a vEVENTQ read into the guest's event queue
 * (linux/iommufd.h, struct iommufd_vevent_header and iommu_vevent_arm_smmuv3).
 */
import {
  type EventStream,
  HostError,
  type Iommufd,
  VEVENT_ARM_SMMUV3_BYTES,
  VEVENT_HEADER_BYTES,
  VEVENTQ_FLAG_LOST_EVENTS,
  VeventqType,
} from "../../iommufd/index.js";
import type { Graveyard } from "../../nesting/index.js";
import { type Log, traceEvent } from "../../support/index.js";
import type { SmmuForBackend } from "../device/backend.js";

const RECORD_BYTES = VEVENT_HEADER_BYTES + VEVENT_ARM_SMMUV3_BYTES;
/** Records taken in one read. */
const RECORDS_A_READ = 64;
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

  private constructor(
    private readonly smmu: SmmuForBackend,
    private readonly iommufd: Iommufd,
    private readonly id: number,
    private readonly stream: EventStream,
    private readonly log: Log,
  ) {}

  /** Makes a vEVENTQ of the depth of the guest's event queue. Throws HostError. */
  static open(smmu: SmmuForBackend, iommufd: Iommufd, viommuId: number, log: Log): VeventReader {
    const { id, stream } = iommufd.veventqAlloc({
      viommuId,
      type: VeventqType.ARM_SMMUV3,
      depth: 2 ** smmu.eventQueueLog2Size,
    });
    const reader = new VeventReader(smmu, iommufd, id, stream, log);
    stream.onReadable(() => reader.drain());
    return reader;
  }

  /** Reads all that is there; bounded by the depth of the queue. */
  drain(): void {
    for (let records = 0; records <= 2 ** this.smmu.eventQueueLog2Size; records += RECORDS_A_READ) {
      const bytes = this.readRecords();
      if (bytes === null) {
        return;
      }
      this.take(bytes);
    }
  }

  private readRecords(): Uint8Array | null {
    try {
      return this.stream.read(RECORDS_A_READ * RECORD_BYTES);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.log.warnLimited("smmuv3.vevent", `${this.name}: read failed (${error.errno}); faults of the hardware may not reach the guest`);
      return null;
    }
  }

  private get name(): string {
    return `vEVENTQ(type ${VeventqType.ARM_SMMUV3} id ${this.id})`;
  }

  close(graveyard: Graveyard): void {
    this.stream.onReadable(null);
    this.stream.close();
    graveyard.destroy(this.iommufd, this.id, "vEVENTQ");
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
