/** Asynchronous events and the requests that carry them to the host (5.2). */
import type { Command } from "./command.js";
import { traceEventReport } from "./trace.js";

interface Event {
  readonly information: number;
  readonly logPage: number;
}

/**
 * An event of a type is told once and then masked until its log page is read; of a type, one waits at most, which
 * bounds what a guest can heap up.
 */
export class AsyncEvents {
  private readonly requests: Command[] = [];
  /** By type. */
  private readonly waiting = new Map<number, Event>();
  /** Types that were told, and the log page that frees each. */
  private readonly told = new Map<number, number>();

  constructor(
    private readonly limit: number,
    private readonly room: () => boolean,
    private readonly complete: (command: Command, result: number) => void,
  ) {}

  /** Requests wait. */
  get outstanding(): boolean {
    return this.requests.length > 0;
  }

  /** A request waits for an event; false: as many as may are waiting. */
  take(command: Command): boolean {
    if (this.requests.length >= this.limit) {
      return false;
    }
    this.requests.push(command);
    return true;
  }

  /** Takes a waiting request out; null: there is none with that id. */
  abort(commandId: number): Command | null {
    const at = this.requests.findIndex((command) => command.id === commandId);
    return at < 0 ? null : this.requests.splice(at, 1)[0];
  }

  report(type: number, information: number, logPage: number): void {
    if (traceEventReport.on) {
      traceEventReport.emit(type, information, logPage);
    }
    if (!this.waiting.has(type)) {
      this.waiting.set(type, { information, logPage });
    }
    this.send();
  }

  /** A log page was read without retaining the event. */
  logRead(logPage: number): void {
    for (const [type, page] of this.told) {
      if (page === logPage) {
        this.told.delete(type);
      }
    }
    this.send();
  }

  /** Tells what can be told. */
  send(): void {
    for (const [type, { information, logPage }] of this.waiting) {
      if (this.requests.length === 0 || !this.room()) {
        return;
      }
      if (!this.told.has(type)) {
        this.waiting.delete(type);
        this.told.set(type, logPage);
        this.complete(this.requests.shift()!, type | (information << 8) | (logPage << 16));
      }
    }
  }
}
