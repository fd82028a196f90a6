/** An inspector beside a machine of this process. */
import type { ByteStream } from "../chardev/index.js";
import type { LessonReport } from "../inspect/report/index.js";
import { connectMonitor, type Answers, type Inspector, openInspector, withLesson } from "../inspect/server/index.js";
import type { Inspection } from "../run/index.js";

export interface InspectRunOptions {
  readonly port: number;
  readonly control: boolean;
  /** What stands beside the views; null: nothing. */
  readonly lesson: LessonReport | null;
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
export function inspectRun({ port, control, lesson, say, guestEnded }: InspectRunOptions): InspectedRun {
  let inspector: Inspector | null = null;
  let answers: Answers | null = null;
  return {
    inspection: {
      attach: async (monitor) => {
        answers = await answersOfMachine(monitor, lesson);
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
export async function answersOfMachine(monitor: ByteStream, lesson: LessonReport | null): Promise<Answers> {
  const answers = await connectMonitor(monitor, "the machine's monitor");
  await answers.ask("x-viommu-timeline-set", { on: true }).catch(() => {});
  return lesson === null ? answers : withLesson(answers, lesson);
}
