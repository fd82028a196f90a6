import type { HostEvent } from "../../src/iommufd/index.js";

/** An eventfd of a test: what signals it calls at once. */
export function eventOf(signal: () => unknown): HostEvent {
  return { fd: null, signal: () => void signal(), onSignal: () => {}, close: () => {} };
}
