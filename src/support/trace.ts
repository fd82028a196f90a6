/**
 * Trace events with QEMU's names and argument order. An event that is off costs one load and branch:
 * guard with `if (event.on) event.emit(...)`.
 *
 * An event is one for the whole process; which are on, and where their lines go, is a `Tracing`'s. What runs
 * within `Tracing.run`, and what that has started, is traced by it; everything else by the process's own, which
 * `setTrace` and `setTraceSink` are about.
 */
import { AsyncLocalStorage } from "node:async_hooks";

export type TraceArgument = number | bigint | string;

export class TraceEvent {
  /** Somebody has it on. */
  on = false;

  constructor(
    readonly name: string,
    /** printf-like: %d %u %s %x %08x, with `0x` spelt out before %x as QEMU's trace-events files do. */
    readonly format: string,
  ) {}

  emit(...args: TraceArgument[]): void {
    current().take(this, args, null);
  }

  /** The same, for those who watch with what it comes from, which its words do not say: an IOMMU's id. */
  emitFrom(origin: string, ...args: TraceArgument[]): void {
    current().take(this, args, origin);
  }
}

/** Takes events as they are, in the place of their lines. */
export type TraceWatcher = (event: TraceEvent, args: readonly TraceArgument[], origin: string | null) => void;

const events = new Map<string, TraceEvent>();
const scope = new AsyncLocalStorage<Tracing>();
/** How many have an event on. */
const watchers = new Map<TraceEvent, number>();

/** Which events are on for one part of the process, such as a run, and where their lines go. */
export class Tracing {
  private readonly own = new Set<TraceEvent>();
  private readonly watching = new Set<{ readonly events: ReadonlySet<TraceEvent>; readonly watcher: TraceWatcher }>();

  /** `write`: takes a line without its end: `smmuv3_cmdq_opcode <--- CMD_SYNC`. */
  constructor(public write: (line: string) => void = () => {}) {}

  /** What `body` does, and whatever it starts, is traced by this one. */
  run<T>(body: () => T): T {
    return scope.run(this, body);
  }

  has(event: TraceEvent): boolean {
    return this.own.has(event);
  }

  switch(event: TraceEvent, on: boolean): void {
    if (on === this.own.has(event)) {
      return;
    }
    hold(event, on);
    if (on) {
      this.own.add(event);
    } else {
      this.own.delete(event);
    }
  }

  /** Turns the events on or off whose name matches the glob; returns how many. */
  set(pattern: string, on: boolean): number {
    const matched = matchTrace(pattern);
    matched.forEach((event) => this.switch(event, on));
    return matched.length;
  }

  /** Has the events told to `watcher`, whether or not their lines are written. @returns ends it */
  watch(events: readonly TraceEvent[], watcher: TraceWatcher): () => void {
    const entry = { events: new Set(events), watcher };
    this.watching.add(entry);
    entry.events.forEach((event) => hold(event, true));
    return () => {
      if (this.watching.delete(entry)) {
        entry.events.forEach((event) => hold(event, false));
      }
    };
  }

  /** Turns all off that it has on, and tells nobody any more. */
  end(): void {
    [...this.own].forEach((event) => this.switch(event, false));
    this.watching.forEach(({ events }) => events.forEach((event) => hold(event, false)));
    this.watching.clear();
  }

  take(event: TraceEvent, args: readonly TraceArgument[], origin: string | null): void {
    if (this.own.has(event)) {
      this.write(`${event.name} ${formatTrace(event.format, args)}`);
    }
    for (const { events, watcher } of this.watching) {
      if (events.has(event)) {
        watcher(event, args, origin);
      }
    }
  }
}

/** One more who has it on, or one fewer. */
function hold(event: TraceEvent, on: boolean): void {
  const count = (watchers.get(event) ?? 0) + (on ? 1 : -1);
  watchers.set(event, count);
  event.on = count > 0;
}

const wholeProcess = new Tracing();
const current = (): Tracing => scope.getStore() ?? wholeProcess;

/** The one that is in force for whoever asks. */
export function currentTracing(): Tracing {
  return current();
}

/** Whether an event is on for whoever asks. */
export function isTraced(event: TraceEvent): boolean {
  return current().has(event);
}

/** Turns one event on or off for whoever asks. */
export function switchTrace(event: TraceEvent, on: boolean): void {
  current().switch(event, on);
}

/** Declares an event; two of one name are one event. */
export function traceEvent(name: string, format: string): TraceEvent {
  let event = events.get(name);
  if (event === undefined) {
    event = new TraceEvent(name, format);
    events.set(name, event);
  }
  return event;
}

/** All events, by name. */
export function traceEvents(): TraceEvent[] {
  return [...events.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The name is a glob, not one event's. */
export function isTracePattern(name: string): boolean {
  return name.includes("*") || name.includes("?");
}

/** The events whose name matches the glob (`*` any text, `?` one character), by name. */
export function matchTrace(pattern: string): TraceEvent[] {
  return traceEvents().filter(({ name }) => matchesGlob(pattern, name));
}

/** In time of pattern times text: a pattern may come from a peer. */
function matchesGlob(pattern: string, text: string): boolean {
  let at = 0;
  let star = -1;
  let resume = 0;
  let next = 0;
  while (next < text.length) {
    if (at < pattern.length && pattern[at] === "*") {
      star = at++;
      resume = next;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === text[next])) {
      at++;
      next++;
    } else if (star >= 0) {
      at = star + 1;
      next = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[at] === "*") {
    at++;
  }
  return at === pattern.length;
}

/** `Tracing.set` of the one that is in force: the run's, or the process's own. */
export function setTrace(pattern: string, on: boolean): number {
  return current().set(pattern, on);
}

/** Where its lines go. */
export function setTraceSink(write: (line: string) => void): void {
  current().write = write;
}

/** The part of printf that trace formats use. */
export function formatTrace(format: string, args: readonly TraceArgument[]): string {
  let next = 0;
  return format.replace(/%(0?)(\d*)(?:l{0,2}|h{0,2}|z)?([dusxXp%])/g, (_all, zero: string, width: string, kind: string) => {
    if (kind === "%") {
      return "%";
    }
    const arg = args[next++];
    const text =
      arg === undefined || kind === "s" || typeof arg === "string"
        ? String(arg)
        : kind === "x" || kind === "X" || kind === "p"
          ? `${kind === "p" ? "0x" : ""}${(typeof arg === "number" && arg < 0 ? arg >>> 0 : arg).toString(16)}`
          : arg.toString();
    return width === "" ? text : text.padStart(Number(width), zero === "0" ? "0" : " ");
  });
}
