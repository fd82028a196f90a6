/** An inspector beside a machine of this process. */
import { connectMonitor, type Answers, type Inspector, openInspector } from "../inspect/server/index.js";
import type { Inspection } from "../run/index.js";

export interface InspectRunOptions {
  readonly port: number;
  readonly control: boolean;
  /** Takes the address, in a line. */
  say(text: string): void;
  /** Of the machine, once its guest has ended; resolves when it may go. */
  readonly guestEnded?: (answers: Answers, failure: string | null) => Promise<void>;
}

export interface InspectedRun {
  readonly inspection: Inspection;
  close(): Promise<void>;
}

/** What `runMachine` takes, and what ends the page when the run has ended. */
export function inspectRun({ port, control, say, guestEnded }: InspectRunOptions): InspectedRun {
  let inspector: Inspector | null = null;
  let answers: Answers | null = null;
  return {
    inspection: {
      attach: async (monitor) => {
        answers = await keepTimeline(await connectMonitor(monitor, "the machine's monitor"));
        inspector = await openInspector({ answers, port, control });
        say(`viommu: the inspector is at ${inspector.address}\n`);
      },
      ...(guestEnded === undefined ? {} : { guestEnded: (failure) => guestEnded(answers!, failure) }),
    },
    close: async () => {
      answers?.close();
      await inspector?.close();
    },
  };
}

/** Rows are kept from the beginning, where the machine can. */
export async function keepTimeline(answers: Answers): Promise<Answers> {
  await answers.ask("x-viommu-timeline-set", { on: true }).catch(() => {});
  return answers;
}
