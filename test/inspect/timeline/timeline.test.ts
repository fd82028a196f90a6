import { afterEach, describe, expect, it } from "vitest";
import type { TimelineRow } from "../../../src/inspect/report/index.js";
import { Timeline } from "../../../src/inspect/timeline/index.js";
import { traceEvents } from "../../../src/support/index.js";
import { IOVA } from "../../guest/landing.js";
import { cold, type Rig, running } from "../machine/rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

const eventsOn = (): string[] => traceEvents().flatMap(({ name, on }) => (on ? [name] : []));

/** A line a row: kind, name, words, whom it is of, the row that it follows from. */
const line = ({ number, kind, name, words, iommu, function: fn, streamId, cause }: TimelineRow): string =>
  `${number} ${kind} ${name} ${words} | ${iommu ?? "-"} ${fn ?? "-"} ${streamId === null ? "-" : `0x${streamId.toString(16)}`} <- ${cause ?? "-"}`;

async function watched(which: "smmuv3" | "vtd", capacity?: number): Promise<{ rig: Rig; timeline: Timeline }> {
  const rig = await running(which);
  end = rig.end;
  const timeline = new Timeline(rig.machine, capacity);
  timeline.set(true);
  return { rig, timeline };
}

/** A translation that is used, taken away, and asked for once more. */
async function mapAndFault(rig: Rig): Promise<void> {
  await rig.lands();
  await rig.domain.unmap(IOVA, 0x1000);
  expect(await rig.lands()).toBe("fault");
  await new Promise((resolve) => setTimeout(resolve, 5));
}

describe("the time line of a machine with SMMUs", () => {
  it("has the store, its commands, the batch, the request, its event and the interrupt, each with the row that it follows from", async () => {
    const { rig, timeline } = await watched("smmuv3");
    await mapAndFault(rig);
    timeline.set(false);
    const { rows, last, first, on } = timeline.report(null);
    expect(rows.map(line)).toEqual([
      "1 dma viommu_host_dma 0008:01:00.0 write iova 0x12340000 pasid -1 ats 0 length 0x10 | smmu1 gpu0 0x1100 <- -",
      "2 store viommu_smmuv3_store smmu1 addr 0x98 val 0x13 size 0x4 | smmu1 - - <- -",
      "3 command smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_VA | smmu1 - - <- 2",
      "4 command smmuv3_range_inval vmid=-1 asid=1 addr=0x12340000 tg=1 num_pages=0x1 ttl=3 leaf=1 stage=1 | smmu1 - - <- 3",
      "5 command smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC | smmu1 - - <- 2",
      "6 host smmuv3_accel_issue_batch smmu1 commands 1 handled 1 errno 0 | smmu1 - - <- 5",
      "7 store viommu_smmuv3_store smmu1 addr 0x98 val 0x15 size 0x4 | smmu1 - - <- -",
      "8 command smmuv3_cmdq_opcode <--- SMMU_CMD_ATC_INV | smmu1 - - <- 7",
      "9 command smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC | smmu1 - - <- 7",
      "10 host smmuv3_accel_issue_batch smmu1 commands 1 handled 1 errno 0 | smmu1 - - <- 9",
      "11 dma viommu_host_dma 0008:01:00.0 write iova 0x12340000 pasid -1 ats 0 length 0x10 | smmu1 gpu0 0x1100 <- -",
      "12 dma viommu_host_dma_refused 0008:01:00.0 | smmu1 gpu0 0x1100 <- 11",
      "13 event smmuv3_accel_vevent viommu smmu1 vEVENTQ 7 sequence 0 type 0x10 sid 0x1100 | smmu1 gpu0 0x1100 <- 12",
      "14 event smmuv3_propagate_event F_TRANSLATION sid=0x1100 | smmu1 gpu0 0x1100 <- 13",
      "15 interrupt smmuv3_trigger_irq irq=0 | smmu1 - - <- 14",
    ]);
    expect({ last, first, on }).toEqual({ last: 15, first: 1, on: false });
    expect(rows.every(({ time }, at) => Number.isInteger(time) && time >= (rows[at - 1]?.time ?? 0))).toBe(true);
  });

  it("tells what happens to the machine as a whole", async () => {
    const { rig, timeline } = await watched("smmuv3");
    rig.machine.runState.stop();
    rig.machine.runState.resume();
    await new Promise((resolve) => setImmediate(resolve));
    rig.machine.reset();
    timeline.set(false);
    expect(timeline.report(null).rows.map(line)).toEqual([
      "1 machine STOP  | - - - <- -",
      "2 machine RESUME  | - - - <- -",
      "3 host smmuv3_accel_blocked smmu1 devid=0x1 the guest has given its bus no number | smmu1 gpu0 - <- -",
      "4 machine smmu_reset_exit  | smmu1 - - <- -",
      "5 machine smmu_reset_exit  | smmu0 - - <- -",
      '6 machine RESET {"guest":false,"reason":"host-qmp-system-reset"} | - - - <- -',
    ]);
  });

  it("keeps the newest rows, and gives them in pieces", async () => {
    const { rig, timeline } = await watched("smmuv3", 8);
    await mapAndFault(rig);
    timeline.set(false);
    const numbers = (since: number | null, limit?: number): number[] => timeline.report(since, limit).rows.map(({ number }) => number);
    expect(timeline.report(null)).toMatchObject({ last: 15, first: 8 });
    expect(numbers(null)).toEqual([8, 9, 10, 11, 12, 13, 14, 15]);
    expect(numbers(null, 2)).toEqual([14, 15]);
    expect(numbers(0, 2)).toEqual([8, 9]);
    expect(numbers(12, 2)).toEqual([13, 14]);
    expect(numbers(15)).toEqual([]);
  });
});

describe("the time line of a machine with a VT-d", () => {
  it("has the store, its descriptors, the request, its fault and the message", async () => {
    const { rig, timeline } = await watched("vtd");
    await mapAndFault(rig);
    timeline.set(false);
    expect(timeline.report(null).rows.map(line)).toEqual([
      "1 dma viommu_host_dma 0000:97:00.0 write iova 0x12340000 pasid -1 ats 0 length 0x10 | iommu0 nic0 0x100 <- -",
      "2 store vtd_reg_write addr 0x88 size 0x4 value 0x5e0 | iommu0 - - <- -",
      "3 command vtd_inv_desc invalidate desc type p-iotlb high 0x12340040 low 0x40036 | iommu0 - - <- 2",
      "4 command vtd_inv_desc_iotlb_pasid_pages iotlb invalidate domain 0x4 addr 0x12340000 mask 0x0 pasid 0x0 | iommu0 - - <- 3",
      "5 command vtd_inv_desc invalidate desc type device high 0x12340000 low 0x100010000000003 | iommu0 - - <- 2",
      "6 command vtd_inv_desc invalidate desc type wait high 0x2a0b8 low 0x200000025 | iommu0 - - <- 2",
      "7 command vtd_inv_desc_wait_sw wait invalidate status write addr 0x2a0b8 data 0x2 | iommu0 - - <- 6",
      "8 dma viommu_host_dma 0000:97:00.0 write iova 0x12340000 pasid -1 ats 0 length 0x10 | iommu0 nic0 0x100 <- -",
      "9 dma viommu_host_dma_refused 0000:97:00.0 | iommu0 nic0 0x100 <- 8",
      "10 event vtd_dmar_fault sid 0x100 fault 113 addr 0x12340000 write 1 | iommu0 nic0 0x100 <- 9",
      "11 event vtd_frr_new index 0 high 0x7100000100 low 0x12340000 | iommu0 nic0 0x100 <- 10",
      "12 interrupt vtd_irq_generate addr 0xfee00000 data 0x31 | iommu0 - - <- 11",
    ]);
  });
});

describe("a time line", () => {
  it("has no trace event on before it is asked for and after, and keeps what it has", async () => {
    expect(eventsOn()).toEqual([]);
    const { rig, timeline } = await watched("smmuv3");
    expect(eventsOn()).toContain("smmuv3_cmdq_opcode");
    // What is polled and what is told twice is not for it.
    expect(eventsOn()).not.toContain("smmuv3_read_mmio");
    expect(eventsOn()).not.toContain("smmuv3_write_mmio");
    await rig.lands();
    timeline.set(false);
    expect(eventsOn()).toEqual([]);
    await rig.lands();
    expect(timeline.report(null)).toMatchObject({ on: false, last: 1, rows: [{ kind: "dma" }] });
  });

  it("is kept while somebody listens, whatever else is asked", async () => {
    const { rig, timeline } = await watched("smmuv3");
    const seen: string[] = [];
    const leave = timeline.subscribe(({ name }) => seen.push(name));
    timeline.set(false);
    expect(timeline.on).toBe(true);
    await rig.lands();
    expect(seen).toEqual(["viommu_host_dma"]);
    leave();
    expect(timeline.on).toBe(false);
    expect(eventsOn()).toEqual([]);
  });

  it("tells 32 requests of one turn, and how many more there were", async () => {
    const made = cold("smmuv3");
    end = made.end;
    made.machine.start();
    const timeline = new Timeline(made.machine);
    timeline.set(true);
    const { fn } = made.machine.board.functions.find((one) => one.fn.id === "test0")!;
    fn.config.set16(4, 0x0007);
    for (let n = 0; n < 100; n++) {
      fn.dmaRead(0x4000_0000n, new Uint8Array(4));
    }
    await Promise.resolve();
    fn.dmaRead(0x4000_0000n, new Uint8Array(4));
    timeline.set(false);
    const rows = timeline.report(null).rows;
    expect(rows).toHaveLength(34);
    expect(rows[31]).toMatchObject({ name: "viommu_dma", words: "iommu-testdev 'test0' sid=0x10 read iova 0x40000000 length 0x4", iommu: "smmu0", function: "test0", streamId: 0x10 });
    expect(rows[32]).toMatchObject({ kind: "dma", words: "68 more requests" });
    expect(rows[33]).toMatchObject({ function: "test0", words: "iommu-testdev 'test0' sid=0x10 read iova 0x40000000 length 0x4" });
  });
});
