/** Events of the hardware on their way from a descriptor of the host to this side, in bounded portions. */
import { type EventStream, HostError } from "../iommufd/index.js";

/** Records taken in one read, and reads made at once. */
const RECORDS_A_READ = 64;
const READS_AT_ONCE = 4;

export class EventReader {
  private closed = false;
  /** A read was refused for good. */
  private stopped = false;

  /**
   * @param recordBytes bytes of the largest record
   * @param take gets what one read gave: whole records
   * @param failed a read was refused for good, and none is made before `resume`: what comes until then is lost
   */
  constructor(
    private readonly stream: EventStream,
    private readonly recordBytes: number,
    private readonly take: (bytes: Uint8Array) => void,
    private readonly failed: (error: HostError) => void,
  ) {
    this.listen();
  }

  private listen(): void {
    this.stream.onReadable(() => this.drain());
  }

  /** Reads again where a refusal has ended it: the guest begins anew. */
  resume(): void {
    if (this.stopped && !this.closed) {
      this.stopped = false;
      this.listen();
    }
  }

  /**
   * Takes what is there, a bounded part of it: the stream tells again as long as there is more. What is taken may have
   * the guest's own registers written, by an interrupt message, and the reader closed.
   */
  drain(): void {
    for (let reads = 0; reads < READS_AT_ONCE && !this.closed && !this.stopped; reads++) {
      const bytes = this.read();
      if (bytes === null) {
        return;
      }
      this.take(bytes);
    }
  }

  private read(): Uint8Array | null {
    try {
      return this.stream.read(RECORDS_A_READ * this.recordBytes);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      // Only these pass by themselves. Anything else would be asked for again at every wake, and the descriptor stays readable.
      if (error.errno !== "EAGAIN" && error.errno !== "EINTR") {
        this.stopped = true;
        this.stream.onReadable(null);
        this.failed(error);
      }
      return null;
    }
  }

  close(): void {
    this.closed = true;
    this.stream.onReadable(null);
    this.stream.close();
  }
}
