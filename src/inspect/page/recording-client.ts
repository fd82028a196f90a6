/** A recording of a machine: its rows, and every question answered of the state after the row that is shown. */
import { openRecording, type Recording } from "../recording/index.js";
import { answer, type InspectionSource } from "../state/index.js";
import type { Client } from "./client.js";
import type { Questions, RecordingPosition } from "./views/view.js";

export class RecordingClient implements Client {
  readonly live = false;
  private readonly listeners = new Set<() => void>();
  /** Moves one after the other: the last one counts. */
  private moves: Promise<void> = Promise.resolve();

  private constructor(
    private readonly recorded: Recording,
    private source: InspectionSource,
    private row: number,
    private readonly beside: Client,
  ) {}

  /** At the last row. @param beside has what is no state of the machine: its lesson. @throws RecordingError where it is damaged, or has no row */
  static async open(bytes: Uint8Array, beside: Client): Promise<RecordingClient> {
    const recorded = await openRecording(bytes);
    return new RecordingClient(recorded, await recorded.at(recorded.last), recorded.last, beside);
  }

  get recording(): RecordingPosition {
    const { first, last } = this.recorded;
    return { first, last, row: this.row, at: (row) => this.at(Math.min(Math.max(row, first), last)) };
  }

  /** Calls `listener` when another row is shown. @returns ends it */
  onMoved(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  async ask<K extends keyof Questions>(execute: K, given: Questions[K]["arguments"]): Promise<Questions[K]["answer"]> {
    const args = given as Readonly<Record<string, unknown>>;
    switch (execute) {
      case "x-viommu-timeline":
        return this.recorded.rows(args.since === undefined ? null : Number(args.since), args.limit === undefined ? undefined : Number(args.limit));
      case "x-viommu-numbers":
        return this.recorded.numbersAt(this.row);
      case "x-viommu-lesson":
        return this.beside.ask(execute, given);
      default:
        return answer(this.source, { execute, arguments: args }) as Questions[K]["answer"];
    }
  }

  numbersOverTime(): ReturnType<Recording["numbersOverTime"]> {
    return this.recorded.numbersOverTime();
  }

  private at(row: number): Promise<void> {
    this.moves = this.moves.catch(() => {}).then(async () => {
      this.source = await this.recorded.at(row);
      this.row = row;
      this.listeners.forEach((listener) => listener());
    });
    return this.moves;
  }
}
