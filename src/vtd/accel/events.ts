/**
 * First-stage faults of the physical VT-d on their way to the guest's fault recording registers. Linux has no
 * way to deliver them; a host that has one tells by `Host.vtdFaults`.
 */
import { type EventStream, HostError, type IommufdDevice } from "../../iommufd/index.js";
import { get, type Log, put } from "../../support/index.js";
import { FAULT_RECORD_BYTES, FAULT_RECORD_WORDS, FRCD } from "../spec/index.js";

const RECORDS_A_READ = 64;
/** Records taken at once, at the most; more come with the next fault. */
const MOST_AT_ONCE = 1024;

/** What is done with a record: its PASID (-1: none) tells which entry it is about. */
export interface FaultReceiver {
  /** The guest's source id of the function; null: it has none now. */
  readonly sourceId: number | null;
  isReported(pasid: number): boolean;
  recordFault(record: Int32Array): void;
  faultsLost(): void;
}

export class HostFaults {
  /** Records handed to the guest. */
  delivered = 0;
  private readonly record = new Int32Array(FAULT_RECORD_WORDS);

  private constructor(
    private readonly stream: EventStream,
    private readonly receiver: FaultReceiver,
    private readonly name: string,
    private readonly log: Log,
  ) {}

  /** Null where the host delivers no faults. Throws HostError. */
  static open(device: IommufdDevice, receiver: FaultReceiver, log: Log): HostFaults | null {
    const stream = device.openVtdFaults();
    if (stream === null) {
      return null;
    }
    const faults = new HostFaults(stream, receiver, device.name, log);
    stream.onReadable(() => faults.drain());
    return faults;
  }

  close(): void {
    this.stream.onReadable(null);
    this.stream.close();
  }

  drain(): void {
    for (let taken = 0; taken < MOST_AT_ONCE; taken += RECORDS_A_READ) {
      const bytes = this.readRecords();
      if (bytes === null) {
        return;
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at + FAULT_RECORD_BYTES <= bytes.length; at += FAULT_RECORD_BYTES) {
        for (let word = 0; word < FAULT_RECORD_WORDS; word++) {
          this.record[word] = view.getInt32(at + 4 * word, true);
        }
        this.take(this.record);
      }
    }
  }

  private take(record: Int32Array): void {
    const { receiver } = this;
    if (get(record, FRCD.F) === 0) {
      receiver.faultsLost();
      return;
    }
    const pasid = get(record, FRCD.PP) === 0 ? -1 : get(record, FRCD.PV);
    const { sourceId } = receiver;
    if (sourceId === null || !receiver.isReported(pasid)) {
      return;
    }
    // The hardware names the host's function.
    put(record, FRCD.SID, sourceId);
    this.delivered++;
    receiver.recordFault(record);
  }

  private readRecords(): Uint8Array | null {
    try {
      return this.stream.read(RECORDS_A_READ * FAULT_RECORD_BYTES);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.log.warnLimited("vtd.host-faults", `${this.name}: ${error.message}; faults of the hardware may not reach the guest`);
      return null;
    }
  }
}
