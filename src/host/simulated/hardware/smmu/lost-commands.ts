/**
 * NVIDIA's erratum T264-SMMU-3: a TLBI or CFGI may be lost beside other traffic, and is not where it is issued again
 * after its CMD_SYNC. The simulated silicon loses each first one.
 */

/** Commands that are remembered; the oldest are forgotten, and have to be issued twice anew. */
const MOST = 65536;

export class LostCommands {
  /** Commands that a CMD_SYNC has followed, by their words, and how often they came. */
  private readonly done = new Map<string, number>();
  private readonly open: string[] = [];

  /** Whether the command (four words) has been issued, and synchronized, before. If so that is used up. */
  isSecond(words: Int32Array): boolean {
    const key = words.join();
    const times = this.done.get(key) ?? 0;
    if (times === 0) {
      this.open.push(key);
      return false;
    }
    if (times === 1) {
      this.done.delete(key);
    } else {
      this.done.set(key, times - 1);
    }
    return true;
  }

  /** A CMD_SYNC is done. */
  synchronized(): void {
    for (const key of this.open.splice(0)) {
      this.done.set(key, (this.done.get(key) ?? 0) + 1);
    }
    for (const key of this.done.keys()) {
      if (this.done.size <= MOST) {
        break;
      }
      this.done.delete(key);
    }
  }
}
