/** A machine behind the server of this page: questions by POST, news by server-sent events. */
import type { Client } from "./client.js";
import type { Questions } from "./views/view.js";

/** Lets at most one call through in this time, in milliseconds: what comes meanwhile is one more at its end. */
const BREATH = 1000;

export class HttpClient implements Client {
  readonly recording = null;
  readonly live = true;

  async ask<K extends keyof Questions>(execute: K, given: Questions[K]["arguments"]): Promise<Questions[K]["answer"]> {
    let response: Response;
    try {
      response = await fetch("qmp", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ execute, arguments: given }), cache: "no-store", credentials: "omit" });
    } catch {
      throw new Error("the inspector's server does not answer: viommu has ended");
    }
    const answer = (await response.json().catch(() => null)) as { readonly return?: Questions[K]["answer"]; readonly error?: { readonly desc: string } } | null;
    if (answer === null || answer.return === undefined) {
      throw new Error(answer?.error?.desc ?? `the inspector's server answers with ${response.status}`);
    }
    return answer.return;
  }

  onNews(listener: () => void, onState: (connected: boolean) => void): () => void {
    const source = new EventSource("events");
    let timer: ReturnType<typeof setTimeout> | undefined;
    source.addEventListener("rows", () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        listener();
      }, BREATH);
    });
    source.onopen = () => onState(true);
    source.onerror = () => onState(false);
    return () => {
      clearTimeout(timer);
      source.close();
    };
  }
}
