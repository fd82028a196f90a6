/** A recording of a machine, in memory. */
import { Recorder } from "../../../src/inspect/recorder/index.js";
import { inspectMachine } from "../../../src/inspect/machine/index.js";
import { numbersOf, Timeline } from "../../../src/inspect/timeline/index.js";
import type { TimelineRow } from "../../../src/inspect/report/index.js";
import type { Machine } from "../../../src/machine/index.js";

export interface Recorded {
  readonly timeline: Timeline;
  readonly recorder: Recorder;
  readonly ends: string[];
  close(): void;
  bytes(): Uint8Array;
}

/** @param onRow called at each row, before the recorder has it */
export function record(machine: Machine, options: { readonly limit?: number; readonly onRow?: (row: TimelineRow) => void; readonly write?: (bytes: Uint8Array) => void } = {}): Recorded {
  const timeline = new Timeline(machine);
  const pieces: Uint8Array[] = [];
  const ends: string[] = [];
  const leave = options.onRow === undefined ? () => {} : timeline.subscribe(options.onRow);
  const recorder = new Recorder({
    timeline,
    captured: {
      source: inspectMachine(machine),
      ram: () => machine.board.memory.sections().flatMap(({ address, size, region }) => (region.ram === null ? [] : [{ address, size }])),
      numbers: () => numbersOf(machine, null).rows,
    },
    header: { version: "0.0.0", machine: ["-M", "virt"], host: machine.host.description, about: "" },
    write: options.write ?? ((bytes) => pieces.push(Uint8Array.from(bytes))),
    limit: options.limit ?? 1 << 30,
    onEnd: (words) => ends.push(words),
  });
  const close = (): void => {
    recorder.close();
    leave();
  };
  return { timeline, recorder, ends, close, bytes: () => Uint8Array.from(Buffer.concat(pieces)) };
}
