import { afterEach, describe, expect, it } from "vitest";
import { inspectMachine } from "../../../src/inspect/machine/index.js";
import { openRecording } from "../../../src/inspect/recording/index.js";
import { answer, type InspectionSource, type Question } from "../../../src/inspect/state/index.js";
import { IOVA } from "../../guest/landing.js";
import { Random } from "../../translation/random.js";
import { type Rig, running } from "../machine/rigs.js";
import { record } from "./record.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

/** All that can be asked of a source. */
function answersOf(source: InspectionSource): unknown {
  const map = source.map();
  const questions: Question[] = [
    { execute: "x-viommu-map" },
    { execute: "x-viommu-queues" },
    { execute: "x-viommu-caches" },
    ...source.units().map(({ id }): Question => ({ execute: "x-viommu-registers", arguments: { iommu: id } })),
  ];
  for (const { function: name } of map.functions) {
    for (const [iova, pasid, access] of [["0x12340000", null, "write"], ["0x12340000", null, "read"], ["0x1000", null, "read"], ["0x12340000", 1, "read"], ["0xfee00000", null, "write"], ["0x40000000", null, "read"]] as const) {
      questions.push({ execute: "x-viommu-walk", arguments: { function: name, iova, pasid, access } });
    }
    questions.push({ execute: "x-viommu-walk", arguments: { function: name, iova: "0x12340000", kind: "ats-request" } });
  }
  return JSON.parse(
    JSON.stringify({
      answers: questions.map((question) => answer(source, question)),
      cached: source.cached(),
      places: map.functions.map(({ host }) => (host === null ? null : source.hostPlace(host))),
      ram: [0x4000_0000, 0x4000_1234, 0x1000, 0x7fff_f000, 0x8000_0000].map((address) => source.hostAddressOf(address)),
    }),
  );
}

/** What a guest does: it maps, uses, unmaps, faults, and its function is reset. */
async function live(rig: Rig): Promise<void> {
  await rig.lands();
  await rig.remap();
  await rig.lands();
  await rig.domain.unmap(IOVA, 0x1000);
  await rig.lands();
  await new Promise((resolve) => setTimeout(resolve, 5));
  await rig.domain.map(IOVA, rig.after, 0x1000, { read: true, write: true });
  await rig.lands();
  rig.machine.reset();
}

describe.each(["smmuv3", "vtd"] as const)("a recording of a machine with %s", (which) => {
  it("answers at every row what the machine answered there, forward and back", async () => {
    const rig = await running(which);
    end = rig.end;
    const source = inspectMachine(rig.machine);
    const told = new Map<number, unknown>();
    const random = new Random(which === "vtd" ? 2 : 1);
    const { close, timeline, bytes } = record(rig.machine, {
      // Of some rows: all that can be asked is much.
      onRow: ({ number, kind }) => kind !== "machine" && random.below(3) > 0 ? undefined : told.set(number, answersOf(source)),
    });
    await live(rig);
    close();
    const recording = await openRecording(bytes());
    expect(recording.end).toEqual({ reason: "the machine has ended", limited: false });
    expect([recording.first, recording.last]).toEqual([1, timeline.report(null).last]);
    expect(told.size).toBeGreaterThan(5);
    expect((await recording.rows(0)).rows).toEqual(timeline.report(0).rows);
    expect((await recording.rows(3, 2)).rows.map(({ number }) => number)).toEqual([4, 5]);
    expect((await recording.rows(null, 2)).rows.map(({ number }) => number)).toEqual([recording.last - 1, recording.last]);
    const numbers = [...told.keys()];
    for (const number of [...numbers, numbers[0], numbers[1]]) {
      expect(answersOf(await recording.at(number)), `row ${number}`).toEqual(told.get(number));
    }
  });
});
