/** What registers tell once the passed-through functions have followed: a guest takes it for done. */
import { REG } from "../spec/index.js";
import type { VtdBackend } from "./backend.js";

export class Completions {
  /** By the register's offset. */
  private readonly untold = new Map<number, () => void>();
  /** Bits of GSTS that do not show a command as done yet. */
  statusBits = 0;

  constructor(private readonly backend: () => VtdBackend | null) {}

  /** `tell` what a register at an offset is to show, now or later; what was to be told there before is not any more. */
  whenFollowed(offset: number, tell: () => void): void {
    this.untold.set(offset, tell);
    this.tell();
  }

  /** Bits of GSTS show a command as done when it is. */
  tellStatus(bits: number): void {
    this.statusBits |= bits;
    this.whenFollowed(REG.GSTS, () => {
      this.statusBits = 0;
    });
  }

  /** Nothing is told as done while a function is on tables that may be stale, as no wait descriptor is done then. */
  tell(): void {
    if (this.untold.size > 0 && (this.backend()?.progress ?? "done") === "done") {
      const told = [...this.untold.values()];
      this.untold.clear();
      told.forEach((tell) => tell());
    }
  }

  /** A guest that polls gets the work done, and has the host asked again. */
  keepUp(): void {
    const backend = this.backend();
    if (this.untold.size > 0 && backend?.progress === "refused") {
      backend.retryRefused();
    }
    if (backend?.progress === "working") {
      backend.proceed();
    }
    this.tell();
  }

  forget(): void {
    this.untold.clear();
    this.statusBits = 0;
  }
}
