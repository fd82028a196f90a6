/** Trace events of controllers, by QEMU's names (hw/nvme/trace-events). */
import { traceEvent } from "../support/index.js";
import { ADMIN, IO } from "./spec.js";

export const traceAdmin = traceEvent("pci_nvme_admin_cmd", "cid %u sqid %u opc 0x%x opname '%s'");
export const traceIo = traceEvent("pci_nvme_io_cmd", "cid %u nsid 0x%x sqid %u opc 0x%x opname '%s'");
export const traceCompletion = traceEvent("pci_nvme_enqueue_req_completion", "cid %u cqid %u dw0 0x%x dw1 0x%x status 0x%x");
export const traceEventReport = traceEvent("pci_nvme_enqueue_event", "type 0x%x info 0x%x log_page 0x%x");
export const traceTail = traceEvent("pci_nvme_mmio_doorbell_sq", "sqid %u new_tail %u");
export const traceHead = traceEvent("pci_nvme_mmio_doorbell_cq", "cqid %u new_head %u");
export const traceConfiguration = traceEvent("pci_nvme_mmio_cfg", "wrote MMIO, config controller config=0x%x");
export const traceStart = traceEvent("pci_nvme_mmio_start_success", "setting controller enable bit succeeded");
export const traceStopped = traceEvent("pci_nvme_mmio_stopped", "cleared controller enable bit");
export const traceShutdown = traceEvent("pci_nvme_mmio_shutdown_set", "shutdown bit set");
export const traceFatal = traceEvent("pci_nvme_err_cfs", "controller fatal status");

/** QEMU's names of commands: those of ours with its prefix. */
function names(opcodes: Readonly<Record<string, number>>, prefix: string, short: Readonly<Record<string, string>>): ReadonlyMap<number, string> {
  return new Map(Object.entries(opcodes).map(([name, opcode]) => [opcode, `${prefix}${short[name] ?? name}`]));
}

const adminNames = names(ADMIN, "NVME_ADM_CMD_", { ASYNC_EVENT_REQUEST: "ASYNC_EV_REQ" });
const ioNames = names(IO, "NVME_NVM_CMD_", { DATASET_MANAGEMENT: "DSM" });

export const adminName = (opcode: number): string => adminNames.get(opcode) ?? "NVME_ADM_CMD_UNKNOWN";
export const ioName = (opcode: number): string => ioNames.get(opcode) ?? "NVME_NVM_CMD_UNKNOWN";
