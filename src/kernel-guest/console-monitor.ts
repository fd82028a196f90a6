/**
 * The monitor's end of a console that both share (QEMU's mux): what is typed while it has the keys is echoed and edited
 * here, since the terminal is raw, and given to it by lines. Its words go out at once, whoever has the keys.
 */
import { PassThrough, Writable } from "node:stream";
import type { ByteStream } from "../chardev/index.js";

const BACKSPACE = 0x08;
const DELETE = 0x7f;
const CTRL_U = 0x15;
/** Bytes of a line; QEMU's READLINE_CMD_BUF_SIZE. */
const LINE_LIMIT = 4095;

export class ConsoleMonitor {
  private readonly keys = new PassThrough();
  private line: number[] = [];

  /**
   * @param open begins a monitor on a stream
   * @param write to the terminal
   */
  constructor(
    open: (stream: ByteStream) => void,
    private readonly write: (bytes: Uint8Array) => void,
  ) {
    const writable = new Writable({
      write: (bytes: Buffer, _encoding, done) => {
        write(bytes);
        done();
      },
    });
    open({ readable: this.keys, writable, end: () => {}, close: () => {} });
  }

  /** A key of the terminal's. */
  key(byte: number): void {
    const { line } = this;
    if (byte === 0x0d || byte === 0x0a) {
      this.write(Buffer.from("\r\n"));
      this.keys.write(Buffer.from([...line.splice(0), 0x0a]));
    } else if (byte === BACKSPACE || byte === DELETE) {
      if (line.pop() !== undefined) {
        this.write(Buffer.from("\b \b"));
      }
    } else if (byte === CTRL_U) {
      this.write(Buffer.from("\b \b".repeat(line.splice(0).length)));
    } else if (byte >= 0x20 && line.length < LINE_LIMIT) {
      line.push(byte);
      this.write(Buffer.from([byte]));
    }
  }

  close(): void {
    this.keys.end();
  }
}
