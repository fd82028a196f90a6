import { readdirSync, readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { setTrace, setTraceSink } from "../../../src/support/index.js";
import * as passthrough from "../../../src/vtd/accel/trace.js";
import * as events from "../../../src/vtd/device/trace.js";
import { QUEUE, R, Rig, STATUS } from "../rig.js";

/**
 * What QEMU 11.1 (q35, intel-iommu,scalable-mode=on,fsts=on,device-iotlb=on, trace vtd_*) writes for the same
 * accesses over qtest; its lines about address spaces of its functions and about root entries left out.
 */
const QEMU_TRACE = `vtd_reg_write addr 0x90 size 0x8 value 0x10800
vtd_reg_write addr 0x18 size 0x4 value 0x4000000
vtd_reg_write_gcmd status 0x0 value 0x4000000
vtd_inv_qi_enable enabled 1
vtd_inv_qi_setup addr 0x10000 size 128
vtd_reg_write addr 0x20 size 0x8 value 0x100400
vtd_reg_write addr 0x18 size 0x4 value 0x44000000
vtd_reg_write_gcmd status 0x4000000 value 0x44000000
vtd_reg_dmar_root addr 0x100000 scalable 1
vtd_context_cache_reset 
vtd_pasid_cache_reset 
vtd_reg_read addr 0x1c size 0x4
vtd_reg_write addr 0x88 size 0x8 value 0x1a0
vtd_inv_qi_tail write tail 13
vtd_inv_qi_fetch 
vtd_inv_qi_head read head 0
vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x11
vtd_inv_desc_cc_global context invalidate globally
vtd_inv_qi_head read head 1
vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x1800000031
vtd_inv_desc_cc_devices context invalidate devices sid 0x18 fmask 0x0
vtd_inv_qi_head read head 2
vtd_inv_desc invalidate desc type pasid-cache high 0x0 low 0x37
vtd_inv_desc_pasid_cache_gsi 
vtd_inv_qi_head read head 3
vtd_inv_desc invalidate desc type pasid-cache high 0x0 low 0x50007
vtd_inv_desc_pasid_cache_dsi Domain selective PC invalidation domain 0x5
vtd_inv_qi_head read head 4
vtd_inv_desc invalidate desc type pasid-cache high 0x0 low 0x700050017
vtd_inv_desc_pasid_cache_psi PASID selective PC invalidation domain 0x5 pasid 0x7
vtd_inv_qi_head read head 5
vtd_inv_desc invalidate desc type p-iotlb high 0x0 low 0x700050026
vtd_inv_qi_head read head 6
vtd_inv_desc invalidate desc type p-iotlb high 0x123002 low 0x700050036
vtd_inv_qi_head read head 7
vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x12
vtd_inv_desc_iotlb_global iotlb invalidate global
vtd_inv_qi_head read head 8
vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x50022
vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x5
vtd_inv_qi_head read head 9
vtd_inv_desc invalidate desc type iotlb high 0x1000 low 0x50032
vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x5 addr 0x1000 mask 0x0
vtd_inv_qi_head read head 10
vtd_inv_desc invalidate desc type iec high 0x0 low 0x4
vtd_inv_desc_iec granularity 0x0 index 0x0 mask 0x0
vtd_inv_qi_head read head 11
vtd_inv_desc invalidate desc type iec high 0x0 low 0x308000014
vtd_inv_desc_iec granularity 0x1 index 0x3 mask 0x1
vtd_inv_qi_head read head 12
vtd_inv_desc invalidate desc type wait high 0x20000 low 0xcafe00000025
vtd_inv_desc_wait_sw wait invalidate status write addr 0x20000 data 0xcafe
vtd_reg_read addr 0x80 size 0x8
vtd_reg_write addr 0xa4 size 0x4 value 0x41
vtd_reg_write addr 0xa8 size 0x4 value 0xfee01000
vtd_reg_write addr 0xa0 size 0x4 value 0x0
vtd_reg_write_iectl value 0x0
vtd_reg_write addr 0x88 size 0x8 value 0x1c0
vtd_inv_qi_tail write tail 14
vtd_inv_qi_fetch 
vtd_inv_qi_head read head 13
vtd_inv_desc invalidate desc type wait high 0x0 low 0x15
vtd_inv_desc_wait_irq Generating complete event
vtd_irq_generate addr 0xfee01000 data 0x41
vtd_reg_write addr 0x88 size 0x8 value 0x1e0
vtd_inv_qi_tail write tail 15
vtd_inv_qi_fetch 
vtd_inv_qi_head read head 14
vtd_inv_desc invalidate desc type wait high 0x0 low 0x15
vtd_inv_desc_wait_irq One pending, skip current
vtd_reg_write addr 0x9c size 0x4 value 0x1
vtd_reg_write addr 0x38 size 0x4 value 0x0
vtd_reg_write_fectl value 0x0
vtd_reg_write addr 0xb8 size 0x8 value 0x300007
vtd_reg_write addr 0x18 size 0x4 value 0x5000000
vtd_reg_write_gcmd status 0x44000000 value 0x5000000
vtd_reg_ir_root addr 0x300000 size 0x100
vtd_reg_write addr 0x18 size 0x4 value 0x6000000
vtd_reg_write_gcmd status 0x45000000 value 0x6000000
vtd_ir_enable enable 1
vtd_reg_write addr 0x18 size 0x4 value 0x86000000
vtd_reg_write_gcmd status 0x47000000 value 0x86000000
vtd_dmar_enable enable 1
vtd_context_cache_reset 
vtd_pasid_cache_reset 
vtd_reg_write addr 0x88 size 0x8 value 0x200
vtd_inv_qi_tail write tail 16
vtd_inv_qi_fetch 
vtd_inv_qi_head read head 15
vtd_irq_generate addr 0x0 data 0x0
vtd_reg_read addr 0x34 size 0x4`;

afterEach(() => {
  setTrace("vtd_*", false);
  setTraceSink(() => {});
});

describe("trace events", () => {
  it("are QEMU's, line by line", () => {
    const rig = new Rig({ scalableMode: true, fsts: true, deviceIotlb: true });
    const lines: string[] = [];
    setTraceSink((line) => lines.push(line));
    setTrace("vtd_*", true);
    // Of these QEMU has none in this place.
    setTrace("vtd_inv_desc_iotlb_pasid*", false);
    rig.wide = true;
    rig.write64(R.IQA, BigInt(QUEUE) | 0x800n);
    rig.write(R.GCMD, 0x0400_0000);
    rig.write64(R.RTADDR, 0x10_0400n);
    rig.write(R.GCMD, 0x4400_0000);
    rig.read(R.GSTS);
    const pasid = (5n << 16n) | (7n << 32n);
    rig.put(0x11n);
    rig.put(0x31n | (0x18n << 32n));
    rig.put(0x37n);
    rig.put(0x7n | (5n << 16n));
    rig.put(0x17n | pasid);
    rig.put(0x26n | pasid);
    rig.put(0x36n | pasid, 0x12_3002n);
    rig.put(0x12n);
    rig.put(0x22n | (5n << 16n));
    rig.put(0x32n | (5n << 16n), 0x1000n);
    rig.put(0x4n);
    rig.put(0x14n | (3n << 32n) | (1n << 27n));
    rig.put(0x25n | (0xcafen << 32n), BigInt(STATUS));
    rig.kick();
    rig.read64(R.IQH);
    rig.write(R.IEDATA, 0x41);
    rig.write(R.IEADDR, 0xfee0_1000);
    rig.write(R.IECTL, 0);
    rig.run(0x15n);
    rig.run(0x15n);
    rig.write(R.ICS, 1);
    rig.write(R.FECTL, 0);
    rig.write64(R.IRTA, 0x30_0007n);
    rig.write(R.GCMD, 0x0500_0000);
    rig.write(R.GCMD, 0x0600_0000);
    rig.write(R.GCMD, 0x8600_0000);
    rig.run(0n);
    rig.read(R.FSTS);
    expect(lines.join("\n")).toBe(QEMU_TRACE);
  });
});

it("every event is emitted somewhere", () => {
  const sources = readdirSync("src/vtd", { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts") && !file.endsWith("/trace.ts"));
  const text = sources.map((file) => readFileSync(`src/vtd/${file}`, "utf8")).join();
  expect(Object.keys({ ...events, ...passthrough }).filter((name) => !text.includes(`${name}.emit(`))).toEqual([]);
});
