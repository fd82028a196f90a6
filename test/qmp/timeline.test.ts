import { expect, it } from "vitest";
// Loaded here, so that the first command does not wait for it.
import "../../src/inspect/timeline/index.js";
import { MonitorRig } from "./rig.js";

const MACHINE = "-M virt,gic-version=3 -m 1G -nodefaults -device arm-smmuv3,primary-bus=pcie.0,id=smmu0 -device edu,id=edu0";

it("tells rows of the time line while it is on, in pieces of at most 1,000", async () => {
  const rig = new MonitorRig(MACHINE);
  const client = await rig.client();
  const port = rig.machine.port();
  const { base } = rig.machine.board.iommus[0].describe();
  expect(await client.ask("x-viommu-timeline")).toEqual([{ return: { on: false, rows: [], last: 0, first: 1 } }]);
  await port.write(base + 0x44, 4, 1n);
  expect(await client.ask("x-viommu-timeline-set", { on: true })).toEqual([{ return: {} }]);
  await port.write(base + 0x80, 4, 0x11n);
  await port.write(base + 0x84, 4, 0x22n);
  const row = { time: expect.any(Number) as number, kind: "store", name: "viommu_smmuv3_store", iommu: "smmu0", function: null, streamId: null, cause: null };
  const rows = [
    { ...row, number: 1, words: "smmu0 addr 0x80 val 0x11 size 0x4" },
    { ...row, number: 2, words: "smmu0 addr 0x84 val 0x22 size 0x4" },
  ];
  expect(await client.ask("x-viommu-timeline")).toEqual([{ return: { on: true, rows, last: 2, first: 1 } }]);
  expect(await client.ask("x-viommu-timeline", { since: 0, limit: 1 })).toEqual([{ return: { on: true, rows: [rows[0]], last: 2, first: 1 } }]);
  expect(await client.ask("x-viommu-timeline", { since: 1 })).toEqual([{ return: { on: true, rows: [rows[1]], last: 2, first: 1 } }]);
  expect(await client.ask("x-viommu-timeline", { limit: 1001 })).toEqual([{ error: { class: "GenericError", desc: "Parameter 'limit' expects a value in the range [1, 1000]" } }]);
  expect(await client.ask("x-viommu-timeline", { since: -1 })).toMatchObject([{ error: { class: "GenericError" } }]);
  expect(await client.ask("x-viommu-timeline-set", { on: false })).toEqual([{ return: {} }]);
  await port.write(base + 0x80, 4, 0x33n);
  expect(await client.ask("x-viommu-timeline")).toMatchObject([{ return: { on: false, last: 2 } }]);
  expect(rig.close()).toBe(0);
});

it("tells numbers of the machine, its IOMMUs and its functions", async () => {
  const rig = new MonitorRig(MACHINE);
  const client = await rig.client();
  const { fn } = rig.machine.board.functions.find((one) => one.fn.id === "edu0")!;
  fn.config.set16(4, 0x0007);
  fn.dmaRead(0x4000_0000n, new Uint8Array(64));
  const none = { invalidations: 0, hostCalls: 0, exits: 0, faults: 0, dma: 0, dmaBytes: 0 };
  expect(await client.ask("x-viommu-numbers")).toEqual([
    {
      return: {
        time: expect.any(Number) as number,
        rows: [
          { ...none, of: null, dma: 1, dmaBytes: 64 },
          { ...none, of: "smmu0" },
          { ...none, of: "edu0", dma: 1, dmaBytes: 64 },
        ],
      },
    },
  ]);
  expect(rig.close()).toBe(0);
});
