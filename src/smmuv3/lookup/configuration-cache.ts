import type { CdView } from "./cd-view.js";
import { SteView } from "./ste-view.js";

/** A stream's configuration as it was when it was fetched: the STE and the CDs reached through it. */
export class CachedStream {
  readonly ste = new SteView();
  /** CDs by index into the CD table; the one of index 0 apart, since most streams have no other. */
  cd0: CdView | undefined = undefined;
  others: Map<number, CdView> | undefined = undefined;

  constructor(readonly sid: number) {}

  cd(index: number): CdView | undefined {
    return index === 0 ? this.cd0 : this.others?.get(index);
  }
}

/**
 * The configuration caches (Arm IHI 0070, 3.21.3): entries stay as they are, stale or not, until a command
 * invalidates them or others need the room. An STE's going takes its CDs along (4.3.1).
 */
export class ConfigurationCache {
  private readonly streams = new Map<number, CachedStream>();
  private cds = 0;
  /** The stream found last. */
  private last: CachedStream | undefined = undefined;

  /**
   * @param streamLimit STEs to hold
   * @param cdLimit CDs to hold, over all streams; one more drops all of them
   */
  constructor(
    private readonly streamLimit: number,
    private readonly cdLimit: number,
  ) {}

  get size(): number {
    return this.streams.size;
  }

  get cdCount(): number {
    return this.cds;
  }

  find(sid: number): CachedStream | undefined {
    const last = this.last;
    if (last !== undefined && last.sid === sid) {
      return last;
    }
    const found = this.streams.get(sid);
    if (found !== undefined) {
      this.last = found;
    }
    return found;
  }

  /** Holds a stream; the one held longest goes where there is no room. */
  hold(stream: CachedStream): void {
    if (this.streams.size >= this.streamLimit) {
      for (const sid of this.streams.keys()) {
        this.dropStream(sid);
        break;
      }
    }
    this.streams.set(stream.sid, stream);
    this.last = stream;
  }

  holdCd(stream: CachedStream, index: number, cd: CdView): void {
    if (this.cds >= this.cdLimit) {
      for (const other of this.streams.values()) {
        other.cd0 = undefined;
        other.others = undefined;
      }
      this.cds = 0;
    }
    if (index === 0) {
      stream.cd0 = cd;
    } else {
      stream.others ??= new Map();
      stream.others.set(index, cd);
    }
    this.cds++;
  }

  dropAll(): void {
    this.streams.clear();
    this.cds = 0;
    this.last = undefined;
  }

  dropStream(sid: number): void {
    const stream = this.streams.get(sid);
    if (stream !== undefined) {
      this.dropCds(stream);
      this.streams.delete(sid);
      if (this.last === stream) {
        this.last = undefined;
      }
    }
  }

  /** CMD_CFGI_STE_RANGE: the 2^(range + 1) StreamIDs around `sid` that differ in the low bits only (4.3.2). */
  dropRange(sid: number, range: number): void {
    if (range >= 31) {
      this.dropAll();
      return;
    }
    const block = sid >>> 0 >>> (range + 1);
    for (const held of this.streams.keys()) {
      if (held >>> (range + 1) === block) {
        this.dropStream(held);
      }
    }
  }

  dropCd(sid: number, index: number): void {
    const stream = this.streams.get(sid);
    if (stream === undefined || stream.cd(index) === undefined) {
      return;
    }
    this.cds--;
    if (index === 0) {
      stream.cd0 = undefined;
    } else {
      stream.others!.delete(index);
    }
  }

  dropCdsOf(sid: number): void {
    const stream = this.streams.get(sid);
    if (stream !== undefined) {
      this.dropCds(stream);
    }
  }

  private dropCds(stream: CachedStream): void {
    this.cds -= (stream.cd0 === undefined ? 0 : 1) + (stream.others?.size ?? 0);
    stream.cd0 = undefined;
    stream.others = undefined;
  }
}
