/** NVM commands (6). */
import type { Disk } from "../block/index.js";
import type { Command, Outcome } from "./command.js";
import { CHUNK_BYTES, type Engine } from "./engine.js";
import type { Features } from "./features.js";
import type { Statistics } from "./log-pages.js";
import type { Namespace } from "./namespace.js";
import type { PrpCursor } from "./prp.js";
import { ALL_NAMESPACES, IO, MOST_NAMESPACES, STATUS } from "./spec.js";

/** FUA, bit 30 of CDW12; DEAC, bit 25. */
const FORCE_UNIT_ACCESS = 1 << 30;
const DEALLOCATE = 1 << 25;
/** AD, bit 2 of CDW11 of Dataset Management. */
const ATTRIBUTE_DEALLOCATE = 1 << 2;
const RANGE_BYTES = 16;
/** Blocks of a Write Zeroes or a deallocation go to the disk by pieces of this many bytes. */
const ZERO_BYTES = 0x40_0000;
/** Zeros cost less than data. */
const ZERO_COST = 16;
/** What a range of a deallocation costs, in bytes moved. */
const RANGE_COST = 0x4_0000;

export interface IoParts {
  readonly namespaces: ReadonlyMap<number, Namespace>;
  readonly features: Features;
  readonly statistics: Statistics;
  /** Largest transfer in bytes; 0: no limit. */
  readonly mostBytes: number;
  engine(): Engine;
}

/** Bytes of a namespace that a command is about. */
interface Extent {
  readonly disk: Disk;
  readonly position: number;
  readonly length: number;
}

const OPCODES: ReadonlySet<number> = new Set(Object.values(IO));

export class IoCommands {
  constructor(private readonly parts: IoParts) {}

  execute(command: Command): Outcome {
    const { opcode } = command;
    if (!OPCODES.has(opcode)) {
      return STATUS.INVALID_OPCODE;
    }
    const id = command.namespaceId;
    if (opcode === IO.FLUSH && id === ALL_NAMESPACES) {
      return this.flush(command, [...this.parts.namespaces.values()]);
    }
    if (id === 0 || (id > MOST_NAMESPACES && id !== ALL_NAMESPACES)) {
      return STATUS.INVALID_NAMESPACE;
    }
    // One that is not active, or all of them, which these commands do not take (4.2).
    const namespace = this.parts.namespaces.get(id);
    if (namespace === undefined) {
      return STATUS.INVALID_FIELD;
    }
    switch (opcode) {
      case IO.FLUSH:
        return this.flush(command, [namespace]);
      case IO.READ:
      case IO.COMPARE:
        return this.read(command, namespace);
      case IO.WRITE:
        return this.write(command, namespace);
      case IO.WRITE_ZEROES:
        return this.writeZeroes(command, namespace);
      default:
        return this.manage(command, namespace);
    }
  }

  /** The bytes that SLBA and NLB name, or a status. */
  private extent(command: Command, namespace: Namespace, limited: boolean): Extent | number {
    const { firstBlock, blocks } = command;
    const length = blocks * namespace.blockBytes;
    if (limited && this.parts.mostBytes > 0 && length > this.parts.mostBytes) {
      return STATUS.INVALID_FIELD;
    }
    if (firstBlock + blocks > namespace.blocks) {
      return STATUS.LBA_OUT_OF_RANGE;
    }
    return { disk: namespace.disk, position: firstBlock * namespace.blockBytes, length };
  }

  /** Read (6.9), and Compare (6.6), whose data come from the host. */
  private read(command: Command, namespace: Namespace): Outcome {
    const extent = this.extent(command, namespace, true);
    if (typeof extent === "number") {
      return extent;
    }
    const engine = this.parts.engine();
    const { statistics } = this.parts;
    const compare = command.opcode === IO.COMPARE;
    const cursor = engine.cursor(command, extent.length);
    const found = new Uint8Array(Math.min(extent.length, CHUNK_BYTES));
    const given = compare ? new Uint8Array(found.length) : found;
    statistics.reads++;
    this.chunks(command, extent, (position, length, next) => {
      const part = found.subarray(0, length);
      engine.disk(
        (done) => extent.disk.read(position, part, done),
        (error) => {
          if (error !== null) {
            statistics.mediaErrors++;
            engine.complete(command, STATUS.UNRECOVERED_READ);
            return;
          }
          engine.moved(length);
          const data = given.subarray(0, length);
          const status = cursor.transfer(data, !compare);
          statistics.bytesRead += length;
          next(status !== STATUS.SUCCESS || !compare || Buffer.compare(data, part) === 0 ? status : STATUS.COMPARE_FAILURE);
        },
      );
    });
    return null;
  }

  /** Write (6.15). */
  private write(command: Command, namespace: Namespace): Outcome {
    const extent = this.extent(command, namespace, true);
    if (typeof extent === "number") {
      return extent;
    }
    if (extent.disk.readOnly) {
      return STATUS.WRITE_PROTECTED;
    }
    const engine = this.parts.engine();
    const { statistics } = this.parts;
    const cursor: PrpCursor = engine.cursor(command, extent.length);
    const buffer = new Uint8Array(Math.min(extent.length, CHUNK_BYTES));
    statistics.writes++;
    this.chunks(
      command,
      extent,
      (position, length, next) => {
        const part = buffer.subarray(0, length);
        engine.moved(length);
        const status = cursor.transfer(part, false);
        if (status !== STATUS.SUCCESS) {
          engine.complete(command, status);
          return;
        }
        this.change(command, (done) => extent.disk.write(position, part, done), () => {
          statistics.bytesWritten += length;
          next(STATUS.SUCCESS);
        });
      },
      () => this.settle(command, extent.disk),
    );
    return null;
  }

  /** Write Zeroes (6.16): not limited by MDTS. */
  private writeZeroes(command: Command, namespace: Namespace): Outcome {
    const extent = this.extent(command, namespace, false);
    if (typeof extent === "number") {
      return extent;
    }
    if (extent.disk.readOnly) {
      return STATUS.WRITE_PROTECTED;
    }
    const engine = this.parts.engine();
    const deallocate = (command.dword(12) & DEALLOCATE) !== 0;
    this.chunks(
      command,
      extent,
      (position, length, next) => {
        engine.moved(length / ZERO_COST);
        this.change(command, (done) => extent.disk.writeZeroes(position, length, deallocate, done), () => next(STATUS.SUCCESS));
      },
      () => this.settle(command, extent.disk),
      ZERO_BYTES,
    );
    return null;
  }

  /** Dataset Management (6.7): attributes are hints, of which deallocation is heeded. */
  private manage(command: Command, namespace: Namespace): Outcome {
    const engine = this.parts.engine();
    const count = (command.dword(10) & 0xff) + 1;
    const bytes = new Uint8Array(count * RANGE_BYTES);
    const status = engine.transfer(command, bytes, false);
    if (status !== STATUS.SUCCESS || (command.dword(11) & ATTRIBUTE_DEALLOCATE) === 0) {
      return status;
    }
    if (namespace.disk.readOnly) {
      return STATUS.WRITE_PROTECTED;
    }
    const view = new DataView(bytes.buffer);
    const ranges = Array.from({ length: count }, (_unused, at) => ({
      blocks: view.getUint32(at * RANGE_BYTES + 4, true),
      first: view.getUint32(at * RANGE_BYTES + 12, true) * 0x1_0000_0000 + view.getUint32(at * RANGE_BYTES + 8, true),
    })).filter(({ blocks }) => blocks > 0);
    if (ranges.some(({ first, blocks }) => first + blocks > namespace.blocks)) {
      return STATUS.LBA_OUT_OF_RANGE;
    }
    const { blockBytes, disk } = namespace;
    const next = (at: number): void => {
      if (at === ranges.length) {
        engine.complete(command, STATUS.SUCCESS);
        return;
      }
      const { first, blocks } = ranges[at];
      engine.moved(RANGE_COST);
      this.change(command, (done) => disk.deallocate(first * blockBytes, blocks * blockBytes, done), () => next(at + 1));
    };
    next(0);
    return null;
  }

  /** Flush (6.8). */
  private flush(command: Command, namespaces: readonly Namespace[]): Outcome {
    const next = (at: number): void => {
      if (at === namespaces.length) {
        this.parts.engine().complete(command, STATUS.SUCCESS);
      } else {
        this.change(command, (done) => namespaces[at].disk.flush(done), () => next(at + 1));
      }
    };
    next(0);
    return null;
  }

  /** Calls `part` for piece after piece; `last` or success when all are done, and the status of the first that fails. */
  private chunks(
    command: Command,
    extent: Extent,
    part: (position: number, length: number, next: (status: number) => void) => void,
    last: (() => void) | null = null,
    most = CHUNK_BYTES,
  ): void {
    const engine = this.parts.engine();
    const from = (at: number): void => {
      const length = Math.min(most, extent.length - at);
      part(extent.position + at, length, (status) => {
        if (status === STATUS.SUCCESS && at + length < extent.length) {
          from(at + length);
        } else if (status === STATUS.SUCCESS && last !== null) {
          last();
        } else {
          engine.complete(command, status);
        }
      });
    };
    from(0);
  }

  /** Asks the disk for a change; what fails is a write fault. */
  private change(command: Command, ask: (done: (error: Error | null) => void) => void, then: () => void): void {
    const engine = this.parts.engine();
    engine.disk(ask, (error) => {
      if (error === null) {
        then();
      } else {
        this.parts.statistics.mediaErrors++;
        engine.complete(command, STATUS.WRITE_FAULT);
      }
    });
  }

  /** A write ends when it survives where FUA is set or the write cache is off (5.21.1.6). */
  private settle(command: Command, disk: Disk): void {
    const through = (command.dword(12) & FORCE_UNIT_ACCESS) !== 0 || !this.parts.features.writeCacheEnabled;
    if (through && disk.volatileCache) {
      this.change(command, (done) => disk.flush(done), () => this.parts.engine().complete(command, STATUS.SUCCESS));
    } else {
      this.parts.engine().complete(command, STATUS.SUCCESS);
    }
  }
}
