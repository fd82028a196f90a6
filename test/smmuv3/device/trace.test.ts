import { afterEach, describe, expect, it } from "vitest";
import { setTrace, setTraceSink } from "../../../src/support/index.js";
import { C, CMDQ, R, Rig } from "./rig.js";

/**
 * What QEMU 11.1 (virt, iommu=smmuv3, trace smmuv3*) writes for the same accesses over qtest, with the
 * command queue at 0x40100000. Its own SMMU has both stages.
 */
const QEMU_TRACE = `smmuv3_write_mmio addr: 0x28 val:0xd75 size: 0x4(0)
smmuv3_write_mmio addr: 0x90 val:0x40100004 size: 0x8(0)
smmuv3_write_mmio addr: 0x9c val:0x0 size: 0x4(0)
smmuv3_write_mmio addr: 0x98 val:0x0 size: 0x4(0)
smmuv3_write_mmio addr: 0xa0 val:0x40002004 size: 0x8(0)
smmuv3_write_mmio addr: 0x50 val:0x5 size: 0x4(0)
smmuv3_cmdq_consume_out prod:0, cons:0, prod_wrap:0, cons_wrap:0 
smmuv3_write_mmio addr: 0x20 val:0xc size: 0x4(0)
smmuv3_cmdq_consume prod=9 cons=0 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_STE
smmuv3_cmdq_cfgi_ste streamid= 0x0
smmuv3_cmdq_consume prod=9 cons=1 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_STE_RANGE
smmuv3_cmdq_cfgi_ste_range start=0x0 - end=0xffffffff
smmuv3_cmdq_consume prod=9 cons=2 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_CD
smmuv3_cmdq_cfgi_cd sid=0x0
smmuv3_cmdq_consume prod=9 cons=3 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_ALL
smmuv3_cmdq_tlbi_nh vmid=0
smmuv3_cmdq_consume prod=9 cons=4 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_ASID
smmuv3_cmdq_tlbi_nh_asid asid=5
smmuv3_cmdq_consume prod=9 cons=5 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NH_VA
smmuv3_range_inval vmid=0 asid=5 addr=0x1000 tg=0 num_pages=0x1 ttl=0 leaf=1 stage=1
smmuv3_cmdq_consume prod=9 cons=6 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_TLBI_NSNH_ALL
smmuv3_cmdq_tlbi_nsnh 
smmuv3_cmdq_consume prod=9 cons=7 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- SMMU_CMD_SYNC
smmuv3_trigger_irq irq=2
smmuv3_cmdq_consume prod=9 cons=8 prod.wrap=0 cons.wrap=0
smmuv3_cmdq_opcode <--- INVALID
smmuv3_cmdq_consume_error Error on INVALID command execution: 1
smmuv3_write_gerror toggled=0x1, new GERROR=0x1
smmuv3_trigger_irq irq=3
smmuv3_cmdq_consume_out prod:9, cons:8, prod_wrap:0, cons_wrap:0 
smmuv3_write_mmio addr: 0x98 val:0x9 size: 0x4(0)
smmuv3_read_mmio addr: 0x98 val:0x9 size: 0x4(0)
smmuv3_read_mmio addr: 0x9c val:0x1000008 size: 0x4(0)
smmuv3_read_mmio addr: 0x60 val:0x1 size: 0x4(0)
smmuv3_read_mmio addr: 0x64 val:0x0 size: 0x4(0)
smmuv3_read_mmio addr: 0x20 val:0xc size: 0x4(0)
smmuv3_read_mmio addr: 0x24 val:0xc size: 0x4(0)
smmuv3_read_mmio addr: 0x44 val:0x1000 size: 0x4(0)
smmuv3_read_mmio addr: 0x20 val:0x0 size: 0x8(0)
smmuv3_write_mmio addr: 0x44 val:0x80100000 size: 0x4(0)
smmuv3_read_mmio addr: 0x44 val:0x100000 size: 0x4(0)`.split("\n");

describe("traces", () => {
  afterEach(() => {
    setTrace("*", false);
    setTraceSink(() => {});
  });

  it("are QEMU's, line by line", () => {
    const rig = new Rig({ stage: "nested" });
    rig.put(
      [3n, 0n],
      [4n, 31n],
      [5n, 0n],
      C.nhAll(),
      C.nhAsid(5),
      C.nhVa(5, 0x1000n),
      C.nsnhAll(),
      C.sync(1),
      C.illegal(),
    );
    const lines: string[] = [];
    setTraceSink((line) => lines.push(line));
    expect(setTrace("smmuv3_*", true)).toBeGreaterThan(20);
    rig.set(R.CR1, 0xd75);
    rig.set64(R.CMDQ_BASE, CMDQ + 4);
    rig.set(R.CMDQ_CONS, 0);
    rig.set(R.CMDQ_PROD, 0);
    rig.set64(R.EVENTQ_BASE, 0x4000_2004);
    rig.set(R.IRQ_CTRL, 5);
    rig.set(R.CR0, 0xc);
    rig.set(R.CMDQ_PROD, rig.prod);
    for (const offset of [0x98, 0x9c, 0x60, 0x64, 0x20, 0x24, 0x44]) {
      rig.get(offset);
    }
    rig.get64(0x20);
    rig.set(R.GBPA, 0x8010_0000);
    rig.get(R.GBPA);
    expect(lines).toEqual(QEMU_TRACE);
  });

  it("tell acknowledgements and events", () => {
    const rig = new Rig();
    rig.start();
    const lines: string[] = [];
    setTraceSink((line) => lines.push(line));
    setTrace("smmuv3_write_gerrorn", true);
    setTrace("smmuv3_*_event", true);
    setTrace("smmuv3_trigger_irq", true);
    rig.smmu.recordEvent(Int32Array.of(0x10, 0x123, 0, 0, 0, 0, 0, 0));
    rig.submit(C.illegal());
    rig.set(R.CMDQ_PROD, 0);
    rig.acknowledge();
    expect(lines).toEqual([
      "smmuv3_propagate_event F_TRANSLATION sid=0x123",
      "smmuv3_trigger_irq irq=0",
      "smmuv3_trigger_irq irq=3",
      "smmuv3_write_gerrorn acked=0x1, new GERRORN=0x1",
    ]);
  });
});
