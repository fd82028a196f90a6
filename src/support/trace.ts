/**
 * Trace events with QEMU's names and argument order. An event that is off costs one load and branch:
 * guard with `if (event.on) event.emit(...)`.
 */
export type TraceArgument = number | bigint | string;

export class TraceEvent {
  on = false;

  constructor(
    readonly name: string,
    /** printf-like: %d %u %s %x %08x, with `0x` spelt out before %x as QEMU's trace-events files do. */
    readonly format: string,
  ) {}

  emit(...args: TraceArgument[]): void {
    sink(this, args);
  }
}

const events = new Map<string, TraceEvent>();
let sink: (event: TraceEvent, args: TraceArgument[]) => void = () => {};

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

/** Turns the events on or off whose name matches the glob; returns how many. */
export function setTrace(pattern: string, on: boolean): number {
  const matched = matchTrace(pattern);
  matched.forEach((event) => (event.on = on));
  return matched.length;
}

/** Where emitted events go, as one line without its end: `smmuv3_cmdq_opcode <--- CMD_SYNC`. */
export function setTraceSink(write: (line: string) => void): void {
  sink = (event, args) => write(`${event.name} ${formatTrace(event.format, args)}`);
}

/** The part of printf that trace formats use. */
export function formatTrace(format: string, args: TraceArgument[]): string {
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
