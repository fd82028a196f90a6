import type { Errno } from "../../iommufd/index.js";
import { DELIVERED, REFUSED, UNDELIVERED } from "../../nesting/index.js";
import { hex, type Log } from "../../support/index.js";
import type { PasidBinding } from "./function.js";
import { PasidIotlbBatch } from "./batch.js";
import { PasidMap } from "./pasid-map.js";

/** Batches kept for use again. */
const MOST_SPARE = 64;

/**
 * Invalidations of first-stage translations on their way to the nested HWPTs that they concern: found by PASID
 * and domain, collected in the guest's order, sent with one host call for each HWPT.
 */
export class PasidIotlbForwarder {
  /** Descriptors taken since the last `send`. */
  pending = 0;
  /** HWPT_INVALIDATE calls, and entries of them that were done. */
  calls = 0;
  entries = 0;
  /**
   * Bindings whose invalidations the last `send` did not get done, with the first of them that is not.
   * `undelivered`: the host could not, and none of them is known to be done; otherwise it refused that one.
   */
  readonly refused: Array<{ readonly binding: PasidBinding; readonly ordinal: number; readonly undelivered: boolean }> = [];
  /** The host's error to the last `send`; null: there was none. */
  errno: Errno | null = null;
  /** Bindings with a nested HWPT: of a PASID the first, then its siblings. */
  private readonly byPasid = new PasidMap<PasidBinding>();
  private waiting: PasidBinding[] = [];
  private readonly spare: PasidIotlbBatch[] = [];

  /** Tables that something is collected for. */
  get tables(): number {
    return this.waiting.length;
  }

  /** `name`: of the unit, for messages. */
  constructor(
    private readonly name: () => string,
    private readonly log: Log,
  ) {}

  /** A binding has come to be; one without nested HWPT has no first stage. */
  add(binding: PasidBinding): void {
    if (binding.hwptId === null) {
      return;
    }
    const { pasid } = binding;
    let last = this.byPasid.get(pasid);
    if (last === undefined) {
      this.byPasid.set(pasid, binding);
      return;
    }
    while (last.sibling !== null) {
      last = last.sibling;
    }
    last.sibling = binding;
  }

  /** It goes, with what waits for it: its HWPT goes, too. */
  remove(binding: PasidBinding): void {
    this.unlink(binding);
    if (binding.batch !== null) {
      this.waiting.splice(this.waiting.indexOf(binding), 1);
      this.giveBack(binding);
    }
  }

  /**
   * Its entry names another domain now. Invalidations by the old id may be on their way, by the new one they reach
   * nothing that was cached before: all goes now, and the binding stays reachable by both.
   */
  retag(binding: PasidBinding, domain: number): void {
    if (binding.domains.current !== domain) {
      binding.domains.change(domain);
      this.takeWhole(binding);
    }
  }

  /** Takes one descriptor: 2^`addressMask` pages, or all (-1). False where no nested HWPT has the domain and PASID. */
  take(domain: number, pasid: number, high: number, low: number, addressMask: number, leaf: boolean): boolean {
    let found = false;
    for (let binding = this.byPasid.get(pasid) ?? null; binding !== null; binding = binding.sibling) {
      if (binding.domains.has(domain)) {
        this.collect(binding, this.pending, high, low, addressMask, leaf);
        found = true;
      }
    }
    if (found) {
      this.pending++;
    }
    return found;
  }

  /** All translations of one binding. */
  takeWhole(binding: PasidBinding): void {
    if (binding.hwptId !== null) {
      this.collect(binding, this.pending, 0, 0, -1, false);
    }
  }

  /** Sends all that is collected, whatever comes of it. Returns the first descriptor that was refused; -1: none. Sets `refused`. */
  send(): number {
    const waiting = this.waiting;
    this.waiting = [];
    this.pending = 0;
    this.refused.length = 0;
    this.errno = null;
    let failed = -1;
    for (const binding of waiting) {
      const batch = binding.batch!;
      const count = batch.pending;
      const { host } = binding.fn;
      const [calls, done] = [batch.calls, batch.done];
      const delivery = batch.deliver(host.iommufd, binding.hwptId!);
      this.calls += batch.calls - calls;
      this.entries += batch.done - done;
      const { errno } = batch;
      this.errno ??= errno;
      if (delivery === DELIVERED && errno !== null) {
        this.log.warnLimited("vtd.invalidate-again", `${this.name()}: HWPT_INVALIDATE ${errno} for ${count} invalidation(s) for PASID ${hex(binding.pasid)} of ${host.name}: sent again, and done`);
      }
      if (delivery === UNDELIVERED) {
        this.refused.push({ binding, ordinal: batch.ordinalAt(0), undelivered: true });
        this.log.guestError("vtd.undelivered", () => `${this.name()}: the host could not do ${count} invalidation(s) for PASID ${hex(binding.pasid)} of ${host.name}: HWPT_INVALIDATE ${errno}`);
      } else if (delivery === REFUSED) {
        const entry = batch.refused;
        const ordinal = batch.ordinalAt(entry);
        this.refused.push({ binding, ordinal, undelivered: false });
        failed = failed < 0 ? ordinal : Math.min(failed, ordinal);
        this.log.guestError(
          "vtd.invalidate",
          () =>
            `${this.name()}: the host refused invalidation ${entry + 1} of ${count} for PASID ${hex(binding.pasid)} of ${host.name} (domain ${hex(binding.domains.current)}): HWPT_INVALIDATE ${errno}`,
        );
      }
      this.giveBack(binding);
    }
    return failed;
  }

  /** Forgets what is collected. */
  drop(): void {
    this.pending = 0;
    for (const binding of this.waiting.splice(0)) {
      this.giveBack(binding);
    }
  }

  private collect(binding: PasidBinding, ordinal: number, high: number, low: number, mask: number, leaf: boolean): void {
    if (binding.batch === null) {
      binding.batch = this.spare.pop() ?? new PasidIotlbBatch();
      this.waiting.push(binding);
    }
    binding.batch.add(ordinal, high, low, mask, leaf);
  }

  private giveBack(binding: PasidBinding): void {
    const batch = binding.batch!;
    binding.batch = null;
    batch.clear();
    if (this.spare.length < MOST_SPARE) {
      this.spare.push(batch);
    }
  }

  private unlink(binding: PasidBinding): void {
    const { pasid, sibling } = binding;
    let before = this.byPasid.get(pasid);
    binding.sibling = null;
    if (before !== binding) {
      while (before !== undefined && before.sibling !== binding) {
        before = before.sibling ?? undefined;
      }
      if (before !== undefined) {
        before.sibling = sibling;
      }
    } else if (sibling === null) {
      this.byPasid.delete(pasid);
    } else {
      this.byPasid.set(pasid, sibling);
    }
  }
}
