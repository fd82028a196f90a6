/** Two ends of a stream within this process. */
import { PassThrough } from "node:stream";
import type { ByteStream } from "./open.js";

/** What is written at one end is read at the other; an end that is closed closes both. */
export function streamPair(): readonly [ByteStream, ByteStream] {
  const there = new PassThrough();
  const back = new PassThrough();
  const close = (): void => {
    there.destroy();
    back.destroy();
  };
  const end = (readable: PassThrough, writable: PassThrough): ByteStream => ({ readable, writable, end: () => void writable.end(), close });
  return [end(back, there), end(there, back)];
}
