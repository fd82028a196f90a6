import { describe, expect, it } from "vitest";
import { type Errno, HostError } from "../../src/iommufd/index.js";
import { EventReader } from "../../src/nesting/index.js";

describe("a reader of events", () => {
  it("reads no more once it is closed, by what an event has caused too", () => {
    const failures: HostError[] = [];
    let taken = 0;
    let closed = false;
    const listeners: Array<(() => void) | null> = [];
    const reader = new EventReader(
      {
        fd: null,
        read: () => {
          if (closed) {
            throw new HostError("read", "EBADF", "the descriptor is closed");
          }
          return new Uint8Array(8);
        },
        onReadable: (listener) => void listeners.push(listener),
        close: () => void (closed = true),
      },
      8,
      () => {
        taken++;
        reader.close();
      },
      (error) => void failures.push(error),
    );
    listeners[0]!();
    reader.drain();
    expect([taken, closed, listeners.at(-1), failures]).toEqual([1, true, null, []]);
  });

  it("asks again where an error passes by itself, and no more where it stays", () => {
    const errors: Errno[] = ["EAGAIN", "EINTR", "EIO", "EIO"];
    const failures: string[] = [];
    let listener: (() => void) | null = null;
    let closes = 0;
    const reader = new EventReader(
      {
        fd: null,
        read: () => {
          throw new HostError("read", errors.shift()!, "");
        },
        onReadable: (wanted) => (listener = wanted),
        close: () => closes++,
      },
      8,
      () => {},
      ({ errno }) => void failures.push(errno),
    );
    for (let wakes = 0; wakes < 5; wakes++) {
      (listener as (() => void) | null)?.();
      reader.drain();
    }
    expect([failures, errors, listener, closes]).toEqual([["EIO"], ["EIO"], null, 0]);
    reader.close();
    expect(closes).toBe(1);
  });
});
