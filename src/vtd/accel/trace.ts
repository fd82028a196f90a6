/** Trace events of passed-through functions, with the names and formats of QEMU 11.1's hw/i386/trace-events: those whose moment there is here. */
import { traceEvent } from "../../support/index.js";

export const tracePasidCacheDevsi = traceEvent("vtd_pasid_cache_devsi", "Dev selective PC invalidation dev: %02x:%02x.%02x");
export const traceReNotPresent = traceEvent("vtd_re_not_present", "Root entry bus %u not present");
export const traceCeNotPresent = traceEvent("vtd_ce_not_present", "Context entry bus %u devfn %u not present");
export const traceFaultDisabled = traceEvent("vtd_fault_disabled", "Fault processing disabled for context entry");
export const traceReplayCeValid = traceEvent(
  "vtd_replay_ce_valid",
  "%s: replay valid context device %02x:%02x.%02x domain 0x%x hi 0x%x lo 0x%x",
);
export const traceReplayCeInvalid = traceEvent("vtd_replay_ce_invalid", "replay invalid context device %02x:%02x.%02x");
export const tracePageWalkLevel = traceEvent("vtd_page_walk_level", "walk (base=0x%x, level=%u) iova range 0x%x - 0x%x");
export const tracePageWalkOne = traceEvent("vtd_page_walk_one", "domain 0x%x iova 0x%x -> gpa 0x%x mask 0x%x perm %d");
export const tracePageWalkOneSkipMap = traceEvent("vtd_page_walk_one_skip_map", "iova 0x%x mask 0x%x translated 0x%x");
export const tracePageWalkSkipRead = traceEvent(
  "vtd_page_walk_skip_read",
  "Page walk skip iova 0x%x - 0x%x due to unable to read",
);
export const tracePageWalkSkipReserve = traceEvent(
  "vtd_page_walk_skip_reserve",
  "Page walk skip iova 0x%x - 0x%x due to rsrv set",
);
export const traceSwitchAddressSpace = traceEvent(
  "vtd_switch_address_space",
  "Device %02x:%02x.%x switching address space (iommu enabled=%d)",
);
export const tracePtEnableFastPath = traceEvent("vtd_pt_enable_fast_path", "sid 0x%x %d");
export const traceDeviceAttachHwpt = traceEvent("vtd_device_attach_hwpt", "dev_id %d pasid %d hwpt_id %d, ret: %d");
export const traceDeviceBlocked = traceEvent("vtd_device_blocked", "dev_id %d pasid %d: %s");
export const traceDeviceDetachHwpt = traceEvent("vtd_device_detach_hwpt", "dev_id %d pasid %d ret: %d");
export const traceDeviceReattachDefHwpt = traceEvent("vtd_device_reattach_def_hwpt", "dev_id %d pasid %d hwpt_id %d, ret: %d");
