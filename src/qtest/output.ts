/** Answers on their way to the peer: gathered in one buffer, handed on in batches. */
import { BYTE_DIGITS, putWord } from "./numbers.js";

const CAPACITY = 64 * 1024;
const SMALL = 4096;
const OK_LINE = Buffer.from("OK\n", "latin1");
/** `OK 0x`, 16 digits, a line feed. */
const VALUE_LINE_BYTES = 22;
const VALUE_START = Buffer.from("OK 0x", "latin1");
const NEWLINE = 0x0a;

export class Output {
  private buffer = Buffer.allocUnsafe(CAPACITY);
  private used = 0;

  constructor(private readonly send: (bytes: Buffer) => void) {}

  ok(): void {
    this.reserve(OK_LINE.length);
    const { buffer, used } = this;
    buffer[used] = OK_LINE[0];
    buffer[used + 1] = OK_LINE[1];
    buffer[used + 2] = NEWLINE;
    this.used = used + 3;
  }

  /** `OK 0x%016x`. */
  value(high: number, low: number): void {
    this.reserve(VALUE_LINE_BYTES);
    const { buffer, used } = this;
    for (let i = 0; i < 5; i++) {
      buffer[used + i] = VALUE_START[i];
    }
    putWord(buffer, used + 5, high);
    putWord(buffer, used + 13, low);
    buffer[used + 21] = NEWLINE;
    this.used = used + VALUE_LINE_BYTES;
  }

  /** ASCII text as it is. */
  text(text: string): void {
    this.reserve(text.length);
    if (text.length > this.buffer.length) {
      this.send(Buffer.from(text, "latin1"));
    } else {
      this.used += this.buffer.write(text, this.used, "latin1");
    }
  }

  /** Two hexadecimal digits for each byte, in memory's order. */
  hex(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.reserve(2);
      const digits = BYTE_DIGITS[byte];
      this.buffer[this.used++] = digits >> 8;
      this.buffer[this.used++] = digits & 0xff;
    }
  }

  flush(): void {
    if (this.used > 0) {
      const full = this.buffer.subarray(0, this.used);
      this.used = 0;
      // The receiver keeps what it is given: a short answer is copied, a long one keeps the buffer.
      if (full.length < SMALL) {
        this.send(Buffer.from(full));
      } else {
        this.buffer = Buffer.allocUnsafe(CAPACITY);
        this.send(full);
      }
    }
  }

  private reserve(bytes: number): void {
    if (this.used + bytes > this.buffer.length) {
      this.flush();
    }
  }
}
