/** The answers that a page without a server shows: all that can be asked without choosing an address. */
import { QmpRefusal } from "../../remote/index.js";
import type { KeptAnswer, MapReport, PageData } from "../report/index.js";
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
  for (const execute of ["x-viommu-caches", "x-viommu-queues", "x-viommu-timeline", "x-viommu-numbers"]) {
    await ask(execute);
  }
  return { about, answers: kept };
}
