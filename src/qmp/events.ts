/** Events of the monitor (QEMU's qapi/run-state.json, qdev.json, qapi/machine.json). */
import type { MachineEvent } from "../machine/index.js";
import type { Json } from "./json.js";

/** An event as it is sent. `now` in milliseconds since 1970. */
export function eventMessage(event: MachineEvent, now: number): Json {
  const timestamp = { seconds: Math.floor(now / 1000), microseconds: Math.floor((now % 1000) * 1000) };
  return "data" in event ? { timestamp, event: event.name, data: { ...event.data } } : { timestamp, event: event.name };
}

/** Events that a command brings about and that are told after its answer, as QEMU does. */
export const AFTER_ANSWER: ReadonlySet<string> = new Set(["DEVICE_DELETED", "SHUTDOWN"]);
