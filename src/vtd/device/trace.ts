/** Trace events of the device, with the names, order and formats of QEMU 11.1's hw/i386/trace-events: those whose moment there is here. */
import { traceEvent } from "../../support/index.js";

export const traceInvDesc = traceEvent("vtd_inv_desc", "invalidate desc type %s high 0x%x low 0x%x");
export const traceInvDescCcDomain = traceEvent("vtd_inv_desc_cc_domain", "context invalidate domain 0x%x");
export const traceInvDescCcGlobal = traceEvent("vtd_inv_desc_cc_global", "context invalidate globally");
export const traceInvDescCcDevices = traceEvent("vtd_inv_desc_cc_devices", "context invalidate devices sid 0x%x fmask 0x%x");
export const traceInvDescIotlbGlobal = traceEvent("vtd_inv_desc_iotlb_global", "iotlb invalidate global");
export const traceInvDescIotlbDomain = traceEvent("vtd_inv_desc_iotlb_domain", "iotlb invalidate whole domain 0x%x");
export const traceInvDescIotlbPages = traceEvent("vtd_inv_desc_iotlb_pages", "iotlb invalidate domain 0x%x addr 0x%x mask 0x%x");
export const traceInvDescIotlbPasidPages = traceEvent(
  "vtd_inv_desc_iotlb_pasid_pages",
  "iotlb invalidate domain 0x%x addr 0x%x mask 0x%x pasid 0x%x",
);
export const traceInvDescIotlbPasid = traceEvent("vtd_inv_desc_iotlb_pasid", "iotlb invalidate domain 0x%x pasid 0x%x");
export const traceInvDescWaitSw = traceEvent("vtd_inv_desc_wait_sw", "wait invalidate status write addr 0x%x data 0x%x");
export const traceInvDescWaitIrq = traceEvent("vtd_inv_desc_wait_irq", "%s");
export const traceInvDescWaitWriteFail = traceEvent("vtd_inv_desc_wait_write_fail", "write fail for wait desc hi 0x%x lo 0x%x");
export const traceInvDescIec = traceEvent("vtd_inv_desc_iec", "granularity 0x%x index 0x%x mask 0x%x");
export const traceInvQiEnable = traceEvent("vtd_inv_qi_enable", "enabled %d");
export const traceInvQiSetup = traceEvent("vtd_inv_qi_setup", "addr 0x%x size %d");
export const traceInvQiHead = traceEvent("vtd_inv_qi_head", "read head %d");
export const traceInvQiTail = traceEvent("vtd_inv_qi_tail", "write tail %d");
export const traceInvQiFetch = traceEvent("vtd_inv_qi_fetch", "");
export const traceContextCacheReset = traceEvent("vtd_context_cache_reset", "");
export const tracePasidCacheReset = traceEvent("vtd_pasid_cache_reset", "");
export const traceInvDescPasidCacheGsi = traceEvent("vtd_inv_desc_pasid_cache_gsi", "");
export const traceInvDescPasidCacheDsi = traceEvent(
  "vtd_inv_desc_pasid_cache_dsi",
  "Domain selective PC invalidation domain 0x%x",
);
export const traceInvDescPasidCachePsi = traceEvent(
  "vtd_inv_desc_pasid_cache_psi",
  "PASID selective PC invalidation domain 0x%x pasid 0x%x",
);
export const traceTranslatePt = traceEvent("vtd_translate_pt", "source id 0x%x, iova 0x%x");
export const traceIrqGenerate = traceEvent("vtd_irq_generate", "addr 0x%x data 0x%x");
export const traceRegRead = traceEvent("vtd_reg_read", "addr 0x%x size 0x%x");
export const traceRegWrite = traceEvent("vtd_reg_write", "addr 0x%x size 0x%x value 0x%x");
export const traceRegDmarRoot = traceEvent("vtd_reg_dmar_root", "addr 0x%x scalable %d");
export const traceRegIrRoot = traceEvent("vtd_reg_ir_root", "addr 0x%x size 0x%x");
export const traceRegWriteGcmd = traceEvent("vtd_reg_write_gcmd", "status 0x%x value 0x%x");
export const traceRegWriteFectl = traceEvent("vtd_reg_write_fectl", "value 0x%x");
export const traceRegWriteIectl = traceEvent("vtd_reg_write_iectl", "value 0x%x");
export const traceRegIcsClearIp = traceEvent("vtd_reg_ics_clear_ip", "");
export const traceDmarTranslate = traceEvent("vtd_dmar_translate", "dev %02x:%02x.%02x iova 0x%x -> gpa 0x%x mask 0x%x");
export const traceDmarEnable = traceEvent("vtd_dmar_enable", "enable %d");
export const traceDmarFault = traceEvent("vtd_dmar_fault", "sid 0x%x fault %d addr 0x%x write %d");
export const traceIrEnable = traceEvent("vtd_ir_enable", "enable %d");
export const traceIrRemap = traceEvent("vtd_ir_remap", "index %d trigger %d vector %d deliver %d dest 0x%x mode %d");
export const traceIrRemapMsi = traceEvent("vtd_ir_remap_msi", "(addr 0x%x, data 0x%x) -> (addr 0x%x, data 0x%x)");
export const traceIrRemapMsiReq = traceEvent("vtd_ir_remap_msi_req", "addr 0x%x data 0x%x");
export const traceFstsPpf = traceEvent("vtd_fsts_ppf", "FSTS PPF bit set to %d");
export const traceFstsClearIp = traceEvent("vtd_fsts_clear_ip", "");
export const traceFrrNew = traceEvent("vtd_frr_new", "index %d high 0x%x low 0x%x");
export const traceWarnInvalidQiTail = traceEvent("vtd_warn_invalid_qi_tail", "tail 0x%x");
export const traceResetExit = traceEvent("vtd_reset_exit", "");
