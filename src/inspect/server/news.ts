/** News of a machine's time line, for those who listen: server-sent events (WHATWG HTML, 9.2). One asks the monitor for all. */
import type { ServerResponse } from "node:http";
import { QmpRefusal } from "../../remote/index.js";
import type { TimelineReport } from "../report/index.js";
import type { Answers } from "./answers.js";

/** Listeners at once. */
export const LISTENERS = 16;
/** Bytes that a listener leaves lie, beyond which it is sent away: it comes back by itself, and asks for what it has missed. */
const UNREAD = 1 << 20;
/** Rows of one event. */
const ROWS = 500;
const EVERY_MS = 400;
const SIGN_OF_LIFE_MS = 15_000;

export class News {
  private readonly listeners = new Set<ServerResponse>();
  private timer: NodeJS.Timeout | undefined;
  private last = 0;
  private spoken = 0;
  private closed = false;

  constructor(private readonly answers: Answers) {
    void answers.ended.then(() => this.close());
  }

  get isFull(): boolean {
    return this.listeners.size >= LISTENERS;
  }

  /** Keeps a response open, whose head has been written. */
  add(response: ServerResponse): void {
    this.listeners.add(response);
    response.once("close", () => {
      this.listeners.delete(response);
      if (this.listeners.size === 0) {
        clearTimeout(this.timer);
        this.timer = undefined;
      }
    });
    response.write(": viommu\n\n");
    if (this.closed) {
      response.end();
    } else if (this.timer === undefined) {
      this.again();
    }
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.listeners.forEach((response) => response.end("event: end\ndata: {}\n\n"));
  }

  private again(): void {
    this.timer = setTimeout(() => void this.look(), EVERY_MS);
  }

  private async look(): Promise<void> {
    let report: TimelineReport | null = null;
    try {
      report = (await this.answers.ask("x-viommu-timeline", { since: this.last, limit: ROWS })) as TimelineReport;
    } catch (error) {
      if (!(error instanceof QmpRefusal)) {
        // The machine has ended: its monitor's end says so to all.
        return;
      }
    }
    if (report !== null && report.rows.length > 0) {
      this.last = report.rows.at(-1)!.number;
      this.send(`event: rows\ndata: ${JSON.stringify(report)}\n\n`);
    } else if (Date.now() - this.spoken > SIGN_OF_LIFE_MS) {
      this.send(": still here\n\n");
    }
    if (!this.closed && this.listeners.size > 0) {
      this.again();
    } else {
      this.timer = undefined;
    }
  }

  private send(text: string): void {
    this.spoken = Date.now();
    for (const response of this.listeners) {
      if (response.writableLength > UNREAD) {
        response.destroy();
      } else {
        response.write(text);
      }
    }
  }
}
