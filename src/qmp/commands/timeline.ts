/** The time line and the numbers of a machine (docs/inspector.md): commands of viommu alone. What keeps rows is loaded when the first is asked. */
import { flag, optional, type QmpCommand, query } from "../command.js";
import { generic } from "../errors.js";
import type { Json } from "../json.js";

export const timelineCommands: readonly QmpCommand[] = [
  {
    name: "x-viommu-timeline",
    parameters: { since: optional({ type: "integer" }), limit: optional({ type: "integer" }) },
    run: async ({ since, limit }, { target }) => {
      const { ROWS_LIMIT, timelineOf } = await import("../../inspect/timeline/index.js");
      const from = since === undefined ? null : within("since", Number(since), 0, Number.MAX_SAFE_INTEGER);
      return timelineOf(target.machine).report(from, limit === undefined ? ROWS_LIMIT : within("limit", Number(limit), 1, ROWS_LIMIT)) as unknown as Json;
    },
  },
  {
    name: "x-viommu-timeline-set",
    parameters: { on: flag },
    run: async ({ on }, { target }) => {
      const { timelineOf } = await import("../../inspect/timeline/index.js");
      timelineOf(target.machine).set(on as boolean);
      return undefined;
    },
  },
  query("x-viommu-numbers", async ({ target }) => {
    const { numbersOf } = await import("../../inspect/timeline/index.js");
    return numbersOf(target.machine, target.counts ?? null) as unknown as Json;
  }),
];

/** @throws QmpError */
function within(name: string, value: number, least: number, most: number): number {
  if (value < least || value > most) {
    throw generic(`Parameter '${name}' expects a value in the range [${least}, ${most}]`);
  }
  return value;
}
