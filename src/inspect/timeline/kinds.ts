/** Which trace events are rows of a time line, and what their arguments are. */
import { type TraceArgument, type TraceEvent, traceEvents } from "../../support/index.js";
import type { TimelineRow } from "../report/index.js";

export type Kind = TimelineRow["kind"];

/** An event of the trace as a row of its kind. */
export interface RowEvent {
  readonly kind: Kind;
  /** It tells more of the row of its kind before it: a command's operands. */
  readonly detail: boolean;
  /** A request that was terminated, or a fault. */
  readonly refused: boolean;
  /** StreamID or source id among the arguments; null: none is. */
  streamId(args: readonly TraceArgument[]): number | null;
  /** The host's number of a function (dev_id), likewise. */
  deviceId(args: readonly TraceArgument[]): number | null;
}

/** Names, `*` for any text, by the kind; the first that fits has it. */
const KINDS: ReadonlyArray<readonly [kind: Kind, detail: boolean, names: readonly string[]]> = [
  ["store", false, ["viommu_smmuv3_store", "vtd_reg_write"]],
  ["command", false, ["smmuv3_cmdq_opcode", "vtd_inv_desc", "vtd_reg_write_gcmd"]],
  ["command", true, ["smmuv3_cmdq_cfgi_*", "smmuv3_cmdq_tlbi_*", "smmuv3_range_inval", "smmuv3_cmdq_consume_error", "vtd_inv_desc_*", "vtd_warn_invalid_qi_tail"]],
  ["command", true, ["vtd_reg_dmar_root", "vtd_reg_ir_root", "vtd_ir_enable", "vtd_dmar_enable", "vtd_inv_qi_enable", "vtd_inv_qi_setup"]],
  ["host", false, ["iommufd_*", "smmuv3_accel_install_ste", "smmuv3_accel_translate_ste", "smmuv3_accel_alloc_vdevice", "smmuv3_accel_blocked", "smmuv3_accel_issue_batch", "vtd_device_*", "vfio_pci_reset_flr"]],
  ["event", false, ["smmuv3_record_event", "smmuv3_accel_vevent", "smmuv3_write_gerror", "vtd_dmar_fault"]],
  ["event", true, ["smmuv3_propagate_event", "vtd_frr_new"]],
  ["interrupt", false, ["smmuv3_trigger_irq", "vtd_irq_generate", "viommu_message", "kvm_arm_fixup_msi_route"]],
  ["interrupt", true, ["vtd_ir_remap_msi"]],
  ["dma", false, ["viommu_dma", "viommu_host_dma"]],
  ["dma", true, ["viommu_dma_refused", "viommu_host_dma_refused"]],
  ["machine", false, ["smmu_reset_exit", "vtd_reset_exit", "smmuv3_accel_set_iommu_device", "smmuv3_accel_unset_iommu_device"]],
];

/** The events that there are, as rows. */
export function rowEvents(): Map<TraceEvent, RowEvent> {
  const out = new Map<TraceEvent, RowEvent>();
  for (const event of traceEvents()) {
    const found = KINDS.find(([, , names]) => names.some((name) => (name.endsWith("*") ? event.name.startsWith(name.slice(0, -1)) : event.name === name)));
    if (found !== undefined) {
      out.set(event, describe(event, found[0], found[1]));
    }
  }
  return out;
}

function describe(event: TraceEvent, kind: Kind, detail: boolean): RowEvent {
  const stream = place(event.format, /(?:\bv?sid|\bstreamid|source id)[= ]*(?:0x)?%[xd]/i);
  const slot = place(event.format, /\bdev:? %02x:%02x\.%/);
  const device = place(event.format, /\bdev_?id[= ]*(?:0x)?%[xud]/);
  return {
    kind,
    detail,
    refused: event.name.endsWith("_refused"),
    streamId: (args) => (stream >= 0 ? Number(args[stream]) : slot >= 0 ? (Number(args[slot]) << 8) | (Number(args[slot + 1]) << 3) | Number(args[slot + 2]) : null),
    deviceId: (args) => (device < 0 ? null : Number(args[device])),
  };
}

/** Index of the argument that the first conversion of the pattern shows; -1: the format has none. */
function place(format: string, pattern: RegExp): number {
  const at = format.search(pattern);
  return at < 0 ? -1 : [...format.slice(0, at).matchAll(/%(?:[0-9]*(?:l{0,2}|h{0,2}|z)?)[dusxXp]/g)].length;
}
