/** Trace events while the machine runs (QEMU's qapi/trace.json). */
import { isTraced, isTracePattern, matchTrace, switchTrace, type TraceEvent } from "../../support/index.js";
import { type QmpCommand, flag, optional, text } from "../command.js";
import { generic } from "../errors.js";

export const traceCommands: readonly QmpCommand[] = [
  {
    name: "trace-event-get-state",
    parameters: { name: text },
    run: ({ name }) => findEvents(name as string).map((event) => ({ name: event.name, state: isTraced(event) ? "enabled" : "disabled" })),
  },
  {
    name: "trace-event-set-state",
    parameters: { name: text, enable: flag, "ignore-unavailable": optional(flag) },
    run: ({ name, enable }) => {
      findEvents(name as string).forEach((event) => switchTrace(event, enable as boolean));
      return undefined;
    },
  },
];

/** The event of that name, or all that a pattern fits, which may be none. @throws QmpError in QEMU's words */
export function findEvents(name: string): TraceEvent[] {
  const found = matchTrace(name);
  if (found.length === 0 && !isTracePattern(name)) {
    throw generic(`unknown event "${name}"`);
  }
  return found;
}
