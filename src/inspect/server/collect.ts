/** The answers that a page without a server shows: all that can be asked without choosing an address. */
import { QmpRefusal } from "../../remote/index.js";
import type { KeptAnswer, MapReport, PageData, TimelineReport, TimelineRow } from "../report/index.js";
import type { Answers } from "./answers.js";

/** @param about what is asked, for a person */
export async function collectPageData(answers: Answers, about: string): Promise<PageData> {
  const kept: KeptAnswer[] = [];
  const ask = async (execute: string, given: Readonly<Record<string, unknown>> = {}): Promise<unknown> => {
    try {
      const answer = await answers.ask(execute, given);
      kept.push({ execute, arguments: given, return: answer });
      return answer;
    } catch (error) {
      if (!(error instanceof QmpRefusal)) {
        throw error;
      }
      kept.push({ execute, arguments: given, error: error.description });
      return null;
    }
  };
  // A machine without one has no answer to keep.
  await answers.ask("x-viommu-lesson", {}).then((lesson) => kept.push({ execute: "x-viommu-lesson", arguments: {}, return: lesson }), () => {});
  const map = (await ask("x-viommu-map")) as MapReport | null;
  const iommus = [...(map?.machine?.iommus ?? []), ...(map?.host.iommus ?? [])];
  for (const { id } of map?.machine === null ? [] : iommus) {
    await ask("x-viommu-registers", { iommu: id });
  }
  for (const execute of ["x-viommu-caches", "x-viommu-queues", "x-viommu-numbers"]) {
    await ask(execute);
  }
  kept.push(await timeline(answers));
  return { about, answers: kept };
}

/** Rows of one question, and of all that are kept: the newest. */
const AT_ONCE = 1000;
const ROWS = 50_000;

/** The newest rows as one answer. */
async function timeline(answers: Answers): Promise<KeptAnswer> {
  const execute = "x-viommu-timeline";
  const since = async (row: number, limit: number): Promise<TimelineReport> => (await answers.ask(execute, { since: row, limit })) as TimelineReport;
  try {
    const { last } = await since(0, 1);
    const rows: TimelineRow[] = [];
    for (let from = Math.max(0, last - ROWS); ; from = rows.at(-1)!.number) {
      const part = await since(from, AT_ONCE);
      rows.push(...part.rows);
      if (part.rows.length < AT_ONCE || rows.at(-1)!.number >= last) {
        return { execute, arguments: {}, return: { ...part, rows, first: rows[0]?.number ?? part.first } };
      }
    }
  } catch (error) {
    if (error instanceof QmpRefusal) {
      return { execute, arguments: {}, error: error.description };
    }
    throw error;
  }
}
