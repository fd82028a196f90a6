/** Data that came with the page: answers as they were when it was written. */
import type { KeptAnswer, PageData } from "../report/index.js";
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
    if (kept?.return === undefined) {
      return Promise.reject(new Error(kept?.error ?? `this page has no answer to ${execute} of these arguments: it was written without a machine that could be asked again`));
    }
    return Promise.resolve(kept.return as Questions[K]["answer"]);
  }
}

/** Arguments in whatever order. */
function keyOf(execute: string, given: Readonly<Record<string, unknown>>): string {
  return JSON.stringify([execute, Object.entries(given).filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1))]);
}
