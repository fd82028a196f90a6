/** The work for a unit's passed-through functions that is done in steps: mirrors, sweeps over PASIDs, invalidations of whole tables. */
import { type Budget, Continuation, EMPTY_ENTRY_STEPS, HOST_CALL_STEPS } from "../../nesting/index.js";
import type { BackendProgress, VtdForBackend } from "../device/index.js";
import type { PassthroughFunction } from "./function.js";
import type { PasidIotlbForwarder } from "./invalidations.js";
import type { Placement } from "./placement.js";

export class WorkInSteps {
  private readonly continuation: Continuation;
  /** The unit waits for the end of work. */
  private owed = false;

  constructor(
    private readonly unit: VtdForBackend,
    private readonly functions: readonly PassthroughFunction[],
    private readonly placement: Placement,
    private readonly forwarder: PasidIotlbForwarder,
    private readonly budget: Budget,
  ) {
    this.continuation = new Continuation(unit.scheduler, () => this.proceed());
  }

  get progress(): BackendProgress {
    let refused = false;
    for (const fn of this.functions) {
      if (fn.working) {
        return "working";
      }
      refused ||= fn.endangered;
    }
    return refused ? "refused" : "done";
  }

  /** A bounded step of it. */
  proceed(): void {
    this.budget.refill();
    for (const fn of this.functions) {
      if (fn.working) {
        this.placement.work(fn);
        this.flushOn(fn);
      }
    }
    this.invalidateKept();
    if (this.progress === "working") {
      this.continuation.request();
    } else {
      this.owed = false;
      this.unit.followed();
    }
  }

  /** Nothing goes on by itself any more. */
  dispose(): void {
    this.continuation.cancel();
  }

  /** Work that is left goes on later; the unit is told of its end, however it ends. */
  goOnLater(): void {
    this.owed ||= this.progress === "working";
    if (this.owed) {
      this.continuation.request();
    }
  }

  /** Has the tables of all PASIDs of a function invalidated as a whole, those of a domain or of any (-1), as far as the budget lasts. */
  flushWhole(fn: PassthroughFunction, domainId: number): void {
    // Another domain before it is not done yet: more than was asked for is always right.
    fn.flushDomain = fn.flush.working && fn.flushDomain !== domainId ? -1 : domainId;
    fn.flush.start(fn.bindings.end);
    this.flushOn(fn);
  }

  private flushOn({ flush, flushDomain, bindings }: PassthroughFunction): void {
    const { budget } = this;
    while (flush.working && !budget.spent) {
      if (bindings.near(flush.at) === 0) {
        flush.passTable();
        continue;
      }
      const binding = bindings.get(flush.at);
      flush.pass();
      budget.left -= EMPTY_ENTRY_STEPS;
      if (binding !== undefined && (flushDomain < 0 || binding.domains.has(flushDomain))) {
        budget.left -= HOST_CALL_STEPS;
        this.forwarder.takeWhole(binding);
      }
    }
  }

  /**
   * Sends the invalidations of whole tables that no descriptor stands for. A table whose invalidation is refused may
   * be stale, so it is taken away; false then.
   */
  invalidateKept(): boolean {
    this.forwarder.send();
    let done = true;
    for (const { binding } of this.forwarder.refused) {
      done = this.placement.dropStale(binding) && done;
    }
    return done;
  }
}
