/** Data that came with the page: answers as they were when it was written. */
import type { CachesReport, KeptAnswer, PageData, QueuesReport, TimelineReport } from "../report/index.js";
import type { Client } from "./client.js";
import type { Questions } from "./views/view.js";

export class StaticClient implements Client {
  readonly recording = null;
  readonly live = false;
  private readonly answers: ReadonlyMap<string, KeptAnswer>;

  constructor({ answers }: PageData) {
    this.answers = new Map(answers.map((answer) => [keyOf(answer.execute, answer.arguments), answer]));
  }

  ask<K extends keyof Questions>(execute: K, given: Questions[K]["arguments"]): Promise<Questions[K]["answer"]> {
    const kept = this.answers.get(keyOf(execute, given));
    if (kept?.return !== undefined) {
      return Promise.resolve(kept.return as Questions[K]["answer"]);
    }
    const whole = this.answers.get(keyOf(execute, {}));
    const part = whole?.return === undefined ? undefined : partOf(execute, whole.return, given as Readonly<Record<string, unknown>>);
    return part !== undefined ? Promise.resolve(part as Questions[K]["answer"]) : Promise.reject(new Error(kept?.error ?? whole?.error ?? "this page was written without a machine that could be asked: it has no answer to this question"));
  }
}

/** Of an answer about all what was asked for, as the monitor would give it. Undefined: it is no part of the whole. */
function partOf(execute: string, whole: unknown, given: Readonly<Record<string, unknown>>): unknown {
  const { iommu, function: fn, since, limit } = given;
  switch (execute) {
    case "x-viommu-timeline": {
      const report = whole as TimelineReport;
      const rows = report.rows.filter(({ number }) => number > Number(since ?? 0));
      return { ...report, rows: limit === undefined ? rows : rows.slice(0, Number(limit)) };
    }
    case "x-viommu-caches": {
      const report = whole as CachesReport;
      return { ...report, entries: report.entries.filter((entry) => (iommu === undefined || entry.iommu === iommu) && (fn === undefined || entry.functions.includes(String(fn)))) };
    }
    case "x-viommu-queues":
      return { queues: (whole as QueuesReport).queues.filter((queue) => iommu === undefined || queue.iommu === iommu) };
    default:
      return undefined;
  }
}

/** Arguments in whatever order. */
function keyOf(execute: string, given: Readonly<Record<string, unknown>>): string {
  return JSON.stringify([execute, Object.entries(given).filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1))]);
}
