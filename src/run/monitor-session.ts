/** The monitors of a machine: opened before its guest runs, served while it does, closed when the run ends. */
import { type ByteStream, type Chardev, describeChardev, openChardev, streamPair } from "../chardev/index.js";
import type { OutsideCounts } from "../inspect/timeline/index.js";
import type { MachineArguments, MonitorArgument } from "../machine/arguments/index.js";
import type { Machine } from "../machine/index.js";
import { packageVersion } from "../support/index.js";

/** A client that does not read has this long to take its last answers, in milliseconds. */
const LAST_WORDS = 1000;

export interface MonitorSession {
  /** Resolves when a client has said quit, or `stop` has been signalled. */
  readonly ended: Promise<void>;
  /** One more monitor for people, on a stream: a console's. */
  readonly serveReadline: (stream: ByteStream) => void;
  /** One more monitor for a program of this process. @returns its end */
  readonly connect: () => ByteStream;
  /** The guest has ended by itself. Resolves when the machine may be taken apart. */
  guestEnded(): Promise<void>;
  /** Sends what has been said, and closes the devices. */
  close(): Promise<void>;
}

export interface MonitorOptions {
  /** Ends the session. */
  readonly stop: AbortSignal | undefined;
  /** Somebody plays the machine besides. */
  readonly hasGuest: boolean;
  readonly counts: OutsideCounts;
  /** A program of this process takes a monitor. */
  readonly inspected: boolean;
}

/** The monitors through which somebody may speak: a device that leads nowhere has nobody. */
export function monitorsThatSpeak(args: MachineArguments): readonly MonitorArgument[] {
  return args.control.monitors.filter(({ spec }) => spec.kind !== "null");
}

/**
 * Opens what -qmp, -mon and -monitor ask for; a console that is a monitor too comes with `serveReadline`.
 * @returns null where there is no monitor
 * @throws Refusal where a character device cannot be opened; none is left open
 */
export async function openMonitors(machine: Machine, options: MonitorOptions): Promise<MonitorSession | null> {
  const { stop } = options;
  const { noShutdown } = machine.args.control;
  const monitors = monitorsThatSpeak(machine.args);
  if (monitors.length === 0 && !options.inspected && !machine.args.boot.serials.some((serial) => serial?.monitor === true)) {
    return null;
  }
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const opened: Array<{ label: string; chardev: Chardev | null; filename: string; peers: number }> = [];
  const { QmpMonitor } = await import("../qmp/index.js");
  const monitor = new QmpMonitor({
    machine,
    packageName: `viommu ${packageVersion()}`,
    counts: options.counts,
    chardevs: () => opened.map(({ label, filename, peers }) => ({ label, filename, open: peers > 0 })),
    quit: () => end(),
  });
  const close = async (): Promise<void> => {
    await monitor.finish(LAST_WORDS);
    monitor.close();
    opened.forEach(({ chardev }) => chardev?.close());
  };
  try {
    const firsts: Promise<void>[] = [];
    for (const { label, spec, mode, pretty } of monitors) {
      let come: () => void = () => {};
      if ("wait" in spec && spec.wait) {
        firsts.push(new Promise((resolve) => (come = resolve)));
      }
      const entry: (typeof opened)[number] = { label, chardev: null, filename: filename(describeChardev(spec)), peers: 0 };
      opened.push(entry);
      entry.chardev = await openChardev(spec, (stream) => {
        entry.peers++;
        stream.readable.once("close", () => entry.peers--);
        if (mode === "control") {
          monitor.serve(stream, pretty);
        } else {
          monitor.serveReadline(stream);
        }
        come();
      });
    }
    // wait=on: nothing begins before somebody is there.
    await Promise.race([Promise.all(firsts), aborted(stop)]);
  } catch (error) {
    await close();
    throw error;
  }
  // Where every client has gone and no other can come, there is nobody left to end the machine.
  const abandoned = Promise.all(opened.map(({ chardev }) => chardev?.done));
  void abandoned.then(() => {
    if (opened.length > 0 && (!options.hasGuest || !machine.runState.running)) {
      end();
    }
  });
  const signalled = (): void => {
    machine.events.emit({ name: "SHUTDOWN", data: { guest: false, reason: "host-signal" } });
    end();
  };
  stop?.addEventListener("abort", signalled, { once: true });
  if (stop?.aborted === true) {
    signalled();
  }
  const guestEnded = async (): Promise<void> => {
    machine.events.emit({ name: "SHUTDOWN", data: { guest: true, reason: "guest-shutdown" } });
    if (noShutdown) {
      machine.runState.shutDown();
      await Promise.race([ended, abandoned]);
    }
  };
  const connect = (): ByteStream => {
    const [ours, theirs] = streamPair();
    monitor.serve(ours);
    return theirs;
  };
  return { ended, serveReadline: (stream) => monitor.serveReadline(stream), connect, guestEnded, close };
}

/** As query-chardev shows it: without what says how long to wait. */
function filename(description: string): string {
  return description.replace(/,wait=(?:on|off)/, "");
}

function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
    }
    signal?.addEventListener("abort", () => resolve(), { once: true });
  });
}
