/** Functions of the C library by koffi, which is loaded with the first of them. */
import { createRequire } from "node:module";
import type * as Koffi from "koffi";
import { Refusal } from "../support/index.js";
import { SystemError } from "./errors.js";

const EINTR = 4;

/** What a function of the C library gives: its prototype says which of the two. */
type Foreign = (...words: unknown[]) => number & object;

let loaded: { koffi: typeof Koffi; functions: Map<string, Foreign>; library: Koffi.LibraryHandle } | null = null;

/** koffi and the C library. @throws Refusal where there is no koffi for this platform */
export function native(): { koffi: typeof Koffi; library: Koffi.LibraryHandle } {
  if (loaded === null) {
    if (process.platform !== "linux") {
      throw new Refusal("Linux's system calls are asked for and this is no Linux", {
        found: `${process.platform} on ${process.arch}`,
        wouldWork: "a Linux on x64 or arm64; the simulated host and its guest program run everywhere",
      });
    }
    try {
      const koffi = createRequire(import.meta.url)("koffi") as typeof Koffi;
      loaded = { koffi, functions: new Map(), library: koffi.load(null) };
    } catch (error) {
      throw new Refusal("koffi, by which system calls are made, cannot be loaded", {
        found: `${process.platform} on ${process.arch}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`,
        wouldWork: "npm install with optional dependencies, on a platform that koffi has a binary for",
      });
    }
  }
  return loaded;
}

/** A function of the C library by its C prototype; the prototype is parsed once. */
export function foreign(prototype: string): Foreign {
  const { library } = native();
  const { functions } = loaded!;
  let found = functions.get(prototype);
  if (found === undefined) {
    found = library.func(prototype) as unknown as Foreign;
    functions.set(prototype, found);
  }
  return found;
}

/** Calls, retried at EINTR; the result where it is not negative. @throws SystemError */
export function call(name: string, prototype: string, ...words: unknown[]): number {
  for (;;) {
    const result = foreign(prototype)(...words);
    if (result >= 0) {
      return result;
    }
    // Read at once: any other call of this thread may set it anew.
    const error = errno();
    if (error !== EINTR) {
      throw new SystemError(name, error);
    }
  }
}

/** The errno of this thread's last call: to be read at once, for any other call may set it anew. */
export function errno(): number {
  return loaded!.koffi.errno();
}
