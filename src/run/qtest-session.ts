/** A machine that a qtest socket plays in place of a guest. */
import { closeSync, openSync, writeSync } from "node:fs";
import { type Chardev, describeChardev, openChardev } from "../chardev/index.js";
import type { Machine } from "../machine/index.js";
import { QtestLog, QtestServer, type QtestTarget } from "../qtest/index.js";
import { Refusal, systemWords } from "../support/index.js";
import type { GuestReport } from "../guest/index.js";
import type { GuestToRun } from "./guest.js";

export interface QtestSessionOptions {
  /** Ends the session: the machine is shut down then as if its socket had closed. */
  readonly stop?: AbortSignal;
  /** Takes the protocol's log where -qtest-log names no file; QEMU writes it to standard error. */
  readonly onLog?: (text: string) => void;
}

/** The socket as a guest, and its end where something else ends the machine. */
export interface QtestSession extends GuestToRun {
  /** Ends the peer and the listening, and then the log. Safe to call twice. */
  close(): Promise<void>;
}

/** How long a signal may come after the socket has closed. */
const LATE_SIGNAL_MS = 300;

/** What the socket plays with. */
export function qtestTarget(machine: Machine): QtestTarget {
  const { board, pins } = machine;
  return { memory: board.memory, ports: board.ports, clock: board.clock, findDevice: (path) => pins.find(path) };
}

/**
 * Opens the socket; the session is the machine's guest then, and ends with the socket or with `close`.
 * @returns null where -qtest is not said
 * @throws Refusal where it cannot be opened
 */
export async function openQtest(machine: Machine, options: QtestSessionOptions): Promise<QtestSession | null> {
  const { qtest, qtestLog } = machine.args.control;
  if (qtest === null) {
    return null;
  }
  const log = openLog(qtestLog, options.onLog);
  const server = new QtestServer(qtestTarget(machine), log === null ? null : new QtestLog(log.write));
  let chardev: Chardev;
  try {
    chardev = await openChardev(qtest, (peer) => server.serve(peer));
  } catch (error) {
    log?.close();
    throw error;
  }
  let closed: Promise<void> | null = null;
  const close = (): Promise<void> => {
    options.stop?.removeEventListener("abort", end);
    chardev.close();
    return (closed ??= chardev.done.then(() => log?.close()));
  };
  const end = (): void => void close();
  options.stop?.addEventListener("abort", end, { once: true });
  const run = async (): Promise<GuestReport> => {
    await chardev.done;
    if (closed === null) {
      await signalled(options.stop);
    }
    await close();
    const { commands, refused, peers } = server.counters;
    const detail = `${commands} commands of ${peers} client${peers === 1 ? "" : "s"}, ${refused} refused`;
    return { steps: [{ name: describeChardev(qtest), ok: true, detail }], dmaChecked: 0, events: [], ok: true };
  };
  return { name: "qtest", run, close };
}

/**
 * A client closes its socket and sends a signal, in this order or the other: a process that is ending already
 * would be killed by it, so there is a moment for it to come. (QEMU stays until the signal.)
 */
function signalled(stop: AbortSignal | undefined): Promise<void> {
  if (stop === undefined || stop.aborted) {
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, LATE_SIGNAL_MS);
    stop.addEventListener("abort", done);
  });
}

function openLog(name: string | null, onLog: ((text: string) => void) | undefined): { write(text: string): void; close(): void } | null {
  if (name === "none" || name === "/dev/null" || (name === null && onLog === undefined)) {
    return null;
  }
  if (name === null) {
    return { write: onLog!, close: () => {} };
  }
  let file: number;
  try {
    file = openSync(name, "w+");
  } catch (error) {
    throw new Refusal(`could not open log file '${name}': ${systemWords(error)}`, { found: `-qtest-log ${name}`, wouldWork: "a file that can be written, or none" });
  }
  // A listener is closed before its last peer is: what that one has to say to the log may come too late.
  let open = true;
  return {
    write: (text) => {
      if (open) {
        writeSync(file, text);
      }
    },
    close: () => {
      open = false;
      closeSync(file);
    },
  };
}
