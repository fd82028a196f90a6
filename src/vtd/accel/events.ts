/**
 * Faults of the physical VT-d on their way to the guest's fault recording registers. Linux has no
 * way to deliver them; a host that has one tells by `Host.vtdFaults`.
 */
import type { EventStream, IommufdDevice } from "../../iommufd/index.js";
import { EventReader } from "../../nesting/index.js";
import { get, type Log, put, toNumber } from "../../support/index.js";
import { FAULT_RECORD_BYTES, FAULT_RECORD_WORDS, FRCD } from "../spec/index.js";

/** What is done with a record. */
export interface FaultReceiver {
  /** The guest's source id of the function; null: it has none now. */
  readonly sourceId: number | null;
  /** The reason that the guest is told for the hardware's, of a request with a PASID (-1: none); 0: it is not told. */
  reasonOf(pasid: number, reason: number, write: boolean, address: number): number;
  recordFault(record: Int32Array): void;
  faultsLost(): void;
}

export class HostFaults {
  /** Records handed to the guest. */
  delivered = 0;
  private readonly record = new Int32Array(FAULT_RECORD_WORDS);
  private readonly reader: EventReader;

  private constructor(
    stream: EventStream,
    private readonly receiver: FaultReceiver,
    name: string,
    log: Log,
  ) {
    this.reader = new EventReader(
      stream,
      FAULT_RECORD_BYTES,
      (bytes) => this.takeAll(bytes),
      (error) => {
        log.warnLimited("vtd.host-faults", `${name}: ${error.message}: it is read no more, and faults of the hardware do not reach the guest until it is reset`);
        receiver.faultsLost();
      },
    );
  }

  /** Null where the host delivers no faults. Throws HostError. */
  static open(device: IommufdDevice, receiver: FaultReceiver, log: Log): HostFaults | null {
    const stream = device.openVtdFaults();
    if (stream === null) {
      return null;
    }
    return new HostFaults(stream, receiver, device.name, log);
  }

  /** The unit is reset: what the host has refused may go well. */
  resume(): void {
    this.reader.resume();
  }

  close(): void {
    this.reader.close();
  }

  private takeAll(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at + FAULT_RECORD_BYTES <= bytes.length; at += FAULT_RECORD_BYTES) {
      for (let word = 0; word < FAULT_RECORD_WORDS; word++) {
        this.record[word] = view.getInt32(at + 4 * word, true);
      }
      this.take(this.record);
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
    const reason = receiver.reasonOf(pasid, get(record, FRCD.FR), get(record, FRCD.T1) === 0, toNumber(record[1], record[0] & ~0xfff));
    if (sourceId === null || reason === 0) {
      return;
    }
    put(record, FRCD.FR, reason);
    // The hardware names the host's function.
    put(record, FRCD.SID, sourceId);
    this.delivered++;
    receiver.recordFault(record);
  }
}
