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
/** Bytes of answers that wait for the peer at the most, those of one command besides. */
const UNREAD_LIMIT = 4 * 2 ** 20;
const ADDRESS_LIMIT = 2 ** 52;

/** A peer's two directions. */
export interface QtestPeer {
  readonly readable: Readable;
  readonly writable: Writable;
  /** No more is written. */
  end(): void;
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
  /** Bytes that have come and are not done: where the first one's rest begins. */
  private input: Buffer[] = [];
  private at = 0;
  /** Bytes of a line whose end has not come. */
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private ended = false;
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
    this.input = [];
    this.at = 0;
    this.pending = [];
    this.pendingBytes = 0;
    this.ended = false;
    this.commands.opened();
    this.log?.opened();
    const { readable, writable } = peer;
    const mine = (): boolean => this.peer === peer;
    readable.on("data", (bytes: Buffer) => {
      if (mine()) {
        this.receive(bytes);
      }
    });
    writable.on("drain", () => {
      if (mine()) {
        readable.resume();
        this.process();
      }
    });
    readable.once("end", () => {
      if (mine()) {
        this.ended = true;
        this.process();
      }
    });
    readable.once("close", () => {
      if (mine() && !this.ended) {
        this.finish(peer);
      }
    });
    writable.on("error", () => peer.close());
    readable.resume();
  }

  /** Takes bytes as they come; whole lines are done at once, unless the peer does not take their answers. */
  receive(bytes: Buffer): void {
    this.input.push(bytes);
    this.process();
  }

  private process(): void {
    if (this.busy) {
      return;
    }
    this.busy = true;
    while (this.input.length > 0 && !this.held) {
      const [chunk] = this.input;
      const end = chunk.indexOf(NEWLINE, this.at);
      const start = this.at;
      if (end < 0) {
        this.keep(chunk.subarray(start));
        this.input.shift();
        this.at = 0;
        continue;
      }
      this.at = end + 1;
      if (this.pending.length === 0) {
        this.execute(chunk, start, end);
      } else {
        const line = Buffer.concat([...this.pending, chunk.subarray(start, end)]);
        this.pending = [];
        this.pendingBytes = 0;
        this.execute(line, 0, line.length);
      }
    }
    this.busy = false;
    this.output.flush();
    if (this.ended && this.input.length === 0 && this.peer !== null) {
      this.finish(this.peer);
    }
  }

  private finish(peer: QtestPeer): void {
    this.peer = null;
    this.log?.closed();
    peer.end();
  }

  /** The peer has asked for so much without reading it that its next commands wait. */
  private get held(): boolean {
    return this.peer !== null && this.peer.writable.writableLength > UNREAD_LIMIT;
  }

  private keep(bytes: Buffer): void {
    if (bytes.length === 0) {
      return;
    }
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
