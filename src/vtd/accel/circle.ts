import { PASID_TABLE_ENTRIES } from "../spec/index.js";

/**
 * Work over all PASIDs of a function that can be interrupted after each. Who wants it done anew joins what is under way:
 * it goes on where it is, beyond the last PASID with the first, until all have been met since. So what a guest wants
 * again and again comes to its end all the same.
 */
export class PasidCircle {
  /** The next PASID. */
  at = 0;
  private left = 0;
  private end = 0;

  /** All PASIDs below `end` are to be met from now on. */
  start(end: number): void {
    this.end = end;
    this.left = end;
    if (this.at >= end) {
      this.at = 0;
    }
  }

  get working(): boolean {
    return this.left > 0;
  }

  /** Passes the PASID at hand. */
  pass(): void {
    this.left--;
    if (++this.at >= this.end) {
      this.at = 0;
    }
  }

  /** Passes it and what is left of the 64 that it is among. */
  passTable(): void {
    const next = Math.min(this.end, (this.at | (PASID_TABLE_ENTRIES - 1)) + 1);
    this.left = Math.max(0, this.left - (next - this.at));
    this.at = next === this.end ? 0 : next;
  }

  cancel(): void {
    this.left = 0;
  }
}
