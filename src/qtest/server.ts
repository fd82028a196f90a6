/**
 * The server of QEMU's qtest protocol: lines in, lines out. Lines are found in the bytes as they come;
 * register-sized accesses, of which clients send most, are done without making a string. Answers go out
 * together when the bytes at hand are used up.
 */
import type { Readable, Writable } from "node:stream";
import { Commands, DATA_LIMIT } from "./commands.js";
import type { QtestLog } from "./log.js";
import { parseFast } from "./numbers.js";
import { Output } from "./output.js";
import type { QtestTarget } from "./target.js";

const NEWLINE = 0x0a;
const SPACE = 0x20;
/** A line of the longest `write`, and room. */
export const LINE_LIMIT = 2 * DATA_LIMIT + 4096;
const ADDRESS_LIMIT = 2 ** 52;

/** A peer's two directions. */
export interface QtestPeer {
  readonly readable: Readable;
  readonly writable: Writable;
  close(): void;
}

/** What a session has done. */
export interface QtestCounters {
  commands: number;
  /** Answers that began with FAIL or ERR. */
  refused: number;
  peers: number;
}

export class QtestServer {
  readonly counters: QtestCounters = { commands: 0, refused: 0, peers: 0 };
  private readonly output = new Output((bytes) => this.send(bytes));
  private readonly commands: Commands;
  private peer: QtestPeer | null = null;
  /** Bytes of a line whose end has not come. */
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private busy = false;

  constructor(
    private readonly target: QtestTarget,
    private readonly log: QtestLog | null = null,
  ) {
    this.commands = new Commands(target, this.output, () => this.unasked());
  }

  /** Serves a peer until it goes. One at a time. */
  serve(peer: QtestPeer): void {
    this.peer = peer;
    this.counters.peers++;
    this.pending = [];
    this.pendingBytes = 0;
    this.commands.opened();
    this.log?.opened();
    const { readable, writable } = peer;
    readable.on("data", (bytes: Buffer) => {
      if (this.peer === peer) {
        this.receive(bytes);
      }
    });
    // Answers that the peer does not take hold its commands back.
    writable.on("drain", () => readable.resume());
    readable.once("end", () => {
      writable.end();
    });
    readable.once("close", () => {
      if (this.peer === peer) {
        this.peer = null;
        this.log?.closed();
      }
    });
    writable.on("error", () => peer.close());
    readable.resume();
  }

  /** Takes bytes as they come; whole lines are done at once. */
  receive(bytes: Buffer): void {
    let start = 0;
    this.busy = true;
    if (this.pending.length > 0) {
      const end = bytes.indexOf(NEWLINE);
      if (end < 0) {
        this.keep(bytes);
        this.busy = false;
        this.output.flush();
        return;
      }
      const line = Buffer.concat([...this.pending, bytes.subarray(0, end)]);
      this.pending = [];
      this.pendingBytes = 0;
      this.execute(line, 0, line.length);
      start = end + 1;
    }
    for (let end = bytes.indexOf(NEWLINE, start); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      this.execute(bytes, start, end);
      start = end + 1;
    }
    if (start < bytes.length) {
      this.keep(bytes.subarray(start));
    }
    this.busy = false;
    this.output.flush();
  }

  private keep(bytes: Buffer): void {
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    if (this.pendingBytes > LINE_LIMIT) {
      this.output.text(`ERR a line of more than ${LINE_LIMIT} bytes\n`);
      this.output.flush();
      this.pending = [];
      this.pendingBytes = 0;
      this.counters.refused++;
      this.peer?.close();
    }
  }

  private execute(bytes: Buffer, start: number, end: number): void {
    this.counters.commands++;
    if (this.log !== null) {
      this.log.received(bytes.toString("latin1", start, end));
    }
    if (!this.access(bytes, start, end) && !this.commands.run(bytes.toString("latin1", start, end).split(" "))) {
      this.counters.refused++;
    }
    if (this.log !== null) {
      this.output.flush();
    }
  }

  /** `readX ADDR` and `writeX ADDR VALUE` in their usual spelling. @returns false where it is not that */
  private access(bytes: Buffer, start: number, end: number): boolean {
    // "read" or "write", one of b, w, l, q, a space.
    const first = bytes[start];
    if (first === 0x72 && bytes[start + 1] === 0x65 && bytes[start + 2] === 0x61 && bytes[start + 3] === 0x64 && bytes[start + 5] === SPACE) {
      const size = sizeOf(bytes[start + 4]);
      const address = size === 0 ? -1 : parseFast(bytes, start + 6, end);
      if (address < 0) {
        return false;
      }
      const value = address < ADDRESS_LIMIT ? this.target.memory.readWord(address, size) : 0n;
      if (size === 8) {
        this.output.value(Number(value >> 32n), Number(value & 0xffff_ffffn));
      } else {
        this.output.value(0, Number(value));
      }
      return true;
    }
    if (first !== 0x77 || bytes[start + 1] !== 0x72 || bytes[start + 2] !== 0x69 || bytes[start + 3] !== 0x74 || bytes[start + 4] !== 0x65 || bytes[start + 6] !== SPACE) {
      return false;
    }
    const size = sizeOf(bytes[start + 5]);
    const space = bytes.indexOf(SPACE, start + 7);
    if (size === 0 || space < 0 || space >= end) {
      return false;
    }
    const address = parseFast(bytes, start + 7, space);
    const value = parseFast(bytes, space + 1, end);
    if (address < 0 || value < 0) {
      return false;
    }
    if (address < ADDRESS_LIMIT) {
      this.target.memory.writeWord(address, size, BigInt.asUintN(8 * size, BigInt(value)));
    }
    this.output.ok();
    return true;
  }

  /** An interrupt line changed. While a command runs its answer takes the line along. */
  private unasked(): void {
    if (!this.busy || this.log !== null) {
      this.output.flush();
    }
  }

  private send(bytes: Buffer): void {
    this.log?.sent(bytes.toString("latin1"));
    const { peer } = this;
    if (peer !== null && peer.writable.writable && !peer.writable.write(bytes)) {
      peer.readable.pause();
    }
  }
}

function sizeOf(letter: number): 0 | 1 | 2 | 4 | 8 {
  switch (letter) {
    case 0x62:
      return 1;
    case 0x77:
      return 2;
    case 0x6c:
      return 4;
    case 0x71:
      return 8;
    default:
      return 0;
  }
}
