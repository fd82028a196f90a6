import type { Streams } from "./streams.js";

/** One line that is written over, where standard error is a terminal. */
export function progress(streams: Streams, json: boolean): { show: (text: string) => void; done: () => void } {
  if (!streams.interactive || json) {
    return { show: () => {}, done: () => {} };
  }
  return {
    show: (text) => streams.err(`\r\x1b[K${text.split("\n")[0].slice(0, 78)}`),
    done: () => streams.err("\r\x1b[K"),
  };
}
