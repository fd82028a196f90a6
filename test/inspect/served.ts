/** A machine with its inspector in this process, as `viommu inspect` has it. */
import { type Answers, connectMonitor, type Inspector, openInspector } from "../../src/inspect/server/index.js";
import { hostToRun, type HostToRun, runMachine, type RunReport } from "../../src/run/index.js";
import { findGuest } from "../../src/run/index.js";

export interface ServedOptions {
  /** QEMU's arguments. */
  readonly arguments: readonly string[];
  readonly host: HostToRun | string;
  /** Default: none. */
  readonly guest?: string;
  /** The built page. */
  readonly page: string;
  readonly control?: boolean;
  /** Stands between the server and the machine. */
  readonly wrap?: (answers: Answers) => Answers;
}

export interface Served {
  readonly address: string;
  readonly answers: Answers;
  /** Ends the machine. */
  end(): Promise<RunReport>;
}

/** Resolves when the guest has ended. */
export async function serve({ arguments: words, host, guest = "none", page, control = false, wrap = (answers) => answers }: ServedOptions): Promise<Served> {
  const stop = new AbortController();
  let inspector: Inspector | null = null;
  let answers: Answers | null = null;
  let ready: () => void = () => {};
  const stays = new Promise<void>((resolve) => (ready = resolve));
  const run = runMachine({
    arguments: words,
    host: typeof host === "string" ? await hostToRun(host) : host,
    guest: await findGuest(guest),
    stop: () => stop.signal,
    inspection: {
      attach: async (monitor) => {
        answers = wrap(await connectMonitor(monitor, "the test's machine"));
        await answers.ask("x-viommu-timeline-set", { on: true });
        inspector = await openInspector({ answers, port: 0, control, page });
      },
      guestEnded: () => {
        ready();
        return new Promise(() => {});
      },
    },
  });
  await Promise.race([stays, run]);
  const end = async (): Promise<RunReport> => {
    stop.abort();
    const report = await run;
    answers?.close();
    await inspector?.close();
    return report;
  };
  return { address: inspector!["address"], answers: answers!, end };
}
