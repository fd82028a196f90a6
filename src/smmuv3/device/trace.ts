/** Trace events of the device, with the names, order and formats of QEMU 11.1's hw/arm/trace-events. */
import { traceEvent } from "../../support/index.js";
import { OP } from "../spec/index.js";

export const traceReadMmio = traceEvent("smmuv3_read_mmio", "addr: 0x%x val:0x%x size: 0x%x(%d)");
export const traceWriteMmio = traceEvent("smmuv3_write_mmio", "addr: 0x%x val:0x%x size: 0x%x(%d)");
export const traceTriggerIrq = traceEvent("smmuv3_trigger_irq", "irq=%d");
export const traceWriteGerror = traceEvent("smmuv3_write_gerror", "toggled=0x%x, new GERROR=0x%x");
export const traceWriteGerrorn = traceEvent("smmuv3_write_gerrorn", "acked=0x%x, new GERRORN=0x%x");
export const traceCmdqConsume = traceEvent("smmuv3_cmdq_consume", "prod=%d cons=%d prod.wrap=%d cons.wrap=%d");
export const traceCmdqOpcode = traceEvent("smmuv3_cmdq_opcode", "<--- %s");
export const traceCmdqConsumeOut = traceEvent("smmuv3_cmdq_consume_out", "prod:%d, cons:%d, prod_wrap:%d, cons_wrap:%d ");
export const traceCmdqConsumeError = traceEvent("smmuv3_cmdq_consume_error", "Error on %s command execution: %d");
export const traceCfgiSte = traceEvent("smmuv3_cmdq_cfgi_ste", "streamid= 0x%x");
export const traceCfgiSteRange = traceEvent("smmuv3_cmdq_cfgi_ste_range", "start=0x%x - end=0x%x");
export const traceCfgiCd = traceEvent("smmuv3_cmdq_cfgi_cd", "sid=0x%x");
export const traceTlbiNh = traceEvent("smmuv3_cmdq_tlbi_nh", "vmid=%d");
export const traceTlbiNsnh = traceEvent("smmuv3_cmdq_tlbi_nsnh", "");
export const traceTlbiNhAsid = traceEvent("smmuv3_cmdq_tlbi_nh_asid", "asid=%d");
export const traceTlbiS12Vmid = traceEvent("smmuv3_cmdq_tlbi_s12_vmid", "vmid=%d");
export const traceRangeInval = traceEvent(
  "smmuv3_range_inval",
  "vmid=%d asid=%d addr=0x%x tg=%d num_pages=0x%x ttl=%d leaf=%d stage=%d",
);
/** Records of the software path, by the name that QEMU had until 10.2. */
export const traceRecordEvent = traceEvent("smmuv3_record_event", "%s sid=0x%x");
/** Every record that goes to the queue, the hardware's too. */
export const tracePropagateEvent = traceEvent("smmuv3_propagate_event", "%s sid=0x%x");
export const traceTranslateDisable = traceEvent(
  "smmuv3_translate_disable",
  "%s sid=0x%x bypass (smmu disabled) iova:0x%x is_write=%d",
);
export const traceTranslateBypass = traceEvent("smmuv3_translate_bypass", "%s sid=0x%x STE bypass iova:0x%x is_write=%d");
export const traceTranslateAbort = traceEvent("smmuv3_translate_abort", "%s sid=0x%x abort on iova:0x%x is_write=%d");
export const traceTranslateSuccess = traceEvent(
  "smmuv3_translate_success",
  "%s sid=0x%x iova=0x%x translated=0x%x perm=0x%x stage=%d",
);
export const traceTlbAll = traceEvent("smmu_iotlb_inv_all", "IOTLB invalidate all");
export const traceTlbAsidVmid = traceEvent("smmu_iotlb_inv_asid_vmid", "IOTLB invalidate asid=%d vmid=%d");
export const traceTlbVmid = traceEvent("smmu_iotlb_inv_vmid", "IOTLB invalidate vmid=%d");
export const traceTlbVmidStage1 = traceEvent("smmu_iotlb_inv_vmid_s1", "IOTLB invalidate vmid=%d");
export const traceConfigRange = traceEvent("smmu_configs_inv_sid_range", "Config cache INV SID range from 0x%x to 0x%x");
export const traceResetExit = traceEvent("smmu_reset_exit", "");
/** Before a write of a register has an effect; QEMU's comes behind it, and does not say of which SMMU. */
export const traceStore = traceEvent("viommu_smmuv3_store", "%s addr 0x%x val 0x%x size 0x%x");

const opcodes = new Map<number, string>(Object.entries(OP).map(([name, opcode]) => [opcode, `SMMU_CMD_${name}`]));

/** QEMU's name of an opcode in `smmuv3_cmdq_opcode`. */
export function traceCommandName(opcode: number): string {
  return opcodes.get(opcode) ?? "INVALID";
}
