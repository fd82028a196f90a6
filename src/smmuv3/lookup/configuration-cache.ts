import { BoundedCache } from "../../translation/index.js";
import type { CdView } from "./cd-view.js";
import { SteView } from "./ste-view.js";

/** A stream's configuration as it was when it was fetched: the STE and the CDs reached through it. */
export class CachedStream {
  readonly ste = new SteView();
  /** CDs by index into the CD table; the one of index 0 apart, since most streams have no other. */
  cd0: CdView | undefined = undefined;
  others: Map<number, CdView> | undefined = undefined;

  cd(index: number): CdView | undefined {
    return index === 0 ? this.cd0 : this.others?.get(index);
  }
}

/**
 * The configuration caches (Arm IHI 0070, 3.21.3), by StreamID: entries stay as they are, stale or not, until a
 * command invalidates them or others need the room. An STE's going takes its CDs along (4.3.1).
 */
export class ConfigurationCache extends BoundedCache<CachedStream> {
  private cds = 0;

  /**
   * @param streamLimit STEs to hold
   * @param cdLimit CDs to hold, over all streams; one more drops all of them
   */
  constructor(
    streamLimit: number,
    private readonly cdLimit: number,
  ) {
    super(streamLimit);
  }

  get cdCount(): number {
    return this.cds;
  }

  holdCd(stream: CachedStream, index: number, cd: CdView): void {
    if (this.cds >= this.cdLimit) {
      for (const other of this.values()) {
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

  dropCd(sid: number, index: number): void {
    const stream = this.find(sid);
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
    const stream = this.find(sid);
    if (stream !== undefined) {
      this.gone(stream);
    }
  }

  /** Its CDs are held no more. */
  protected override gone(stream: CachedStream): void {
    this.cds -= (stream.cd0 === undefined ? 0 : 1) + (stream.others?.size ?? 0);
    stream.cd0 = undefined;
    stream.others = undefined;
  }
}
