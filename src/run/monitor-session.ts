/** The monitors of a machine: opened before its guest runs, served while it does, closed when the run ends. */
import { type Chardev, describeChardev, openChardev } from "../chardev/index.js";
import type { Machine } from "../machine/index.js";
import { QmpMonitor } from "../qmp/index.js";
import { packageVersion } from "./package-files.js";

/** A client that does not read has this long to take its last answers, in milliseconds. */
const LAST_WORDS = 1000;

export interface MonitorSession {
  /** Resolves when a client has said quit, or `stop` has been signalled. */
  readonly ended: Promise<void>;
  /** The guest has ended by itself. Resolves when the machine may be taken apart. */
  guestEnded(): Promise<void>;
  /** Sends what has been said, and closes the devices. */
  close(): Promise<void>;
}

/**
 * Opens what -qmp, -mon and -monitor ask for.
 * @returns null where there is no monitor
 * @throws Refusal where a character device cannot be opened; none is left open
 */
export async function openMonitors(machine: Machine, stop: AbortSignal | undefined): Promise<MonitorSession | null> {
  const { monitors, noShutdown } = machine.args.control;
  if (monitors.length === 0) {
    return null;
  }
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const opened: Array<{ label: string; chardev: Chardev | null; filename: string; peers: number }> = [];
  const monitor = new QmpMonitor({
    machine,
    packageName: `viommu ${packageVersion()}`,
    chardevs: () => opened.map(({ label, filename, peers }) => ({ label, filename, open: peers > 0 })),
    quit: () => end(),
  });
  const close = async (): Promise<void> => {
    await monitor.flush(LAST_WORDS);
    monitor.close();
    opened.forEach(({ chardev }) => chardev?.close());
  };
  try {
    for (const { label, spec, mode, pretty } of monitors) {
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
      });
    }
  } catch (error) {
    await close();
    throw error;
  }
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
      await ended;
    }
  };
  return { ended, guestEnded, close };
}

/** As query-chardev shows it: without what says how long to wait. */
function filename(description: string): string {
  return description.replace(/,wait=(?:on|off)/, "");
}
