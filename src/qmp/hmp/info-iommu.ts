/** `info iommu`: where each function's DMA goes. SMMUs with what they cover; of passed-through functions the tables and the vDEVICE in the host. */
import type { Board, MachineSmmu } from "../../machine/index.js";
import { formatBdf, type PciFunction } from "../../pci/index.js";
import { VfioPci } from "../../vfio/index.js";

export function formatIommus(board: Board): string {
  const endpoints = board.functions.map(({ fn }) => fn).filter((fn) => !fn.isBridge);
  const out: string[] = [];
  for (const smmu of board.smmus.all) {
    out.push(`${smmu.device.id}: ${describeSmmu(smmu)}\n`);
    endpoints.filter((fn) => board.smmuOf(fn) === smmu).forEach((fn) => out.push(`  ${describeFunction(fn, smmu)}\n`));
  }
  const rest = endpoints.filter((fn) => board.smmuOf(fn) === null);
  if (rest.length > 0) {
    out.push("no IOMMU\n", ...rest.map((fn) => `  ${describeFunction(fn, null)}\n`));
  }
  return out.join("");
}

function describeSmmu({ device, bus, acceleration }: MachineSmmu): string {
  const mode = acceleration === null ? "translates in software" : `accelerated by ${acceleration.hostIommu ?? "no host IOMMU yet"}`;
  const state = device.translationEnabled ? "enabled" : `disabled, ${device.globalBypassAborts ? "aborts" : "bypasses"}`;
  return `arm-smmuv3 on bus ${bus.id}, ${mode}, stage ${device.properties.stage}, ${state}`;
}

function describeFunction(fn: PciFunction, smmu: MachineSmmu | null): string {
  const parts = [`${formatBdf(fn.bdf)} ${fn.label}`];
  const { bus } = fn.iommuPath;
  if (smmu !== null) {
    parts.push(bus.isRoot || bus.number !== 0 ? `StreamID 0x${fn.requesterId.toString(16)}` : "no StreamID, its bus has no number");
  }
  if (!(fn instanceof VfioPci)) {
    parts.push(`address space ${fn.dma?.name ?? "none"}`);
    return parts.join(", ");
  }
  parts.push(`host ${fn.hostAddress} (${fn.hostIommu ?? "no IOMMU"})`);
  const bound = smmu?.acceleration?.describeFunctions().find((one) => one.name === fn.name);
  const hwpt = bound?.hwptId ?? fn.attachedTo;
  parts.push(`${bound?.table ?? "parent"} table HWPT ${hwpt ?? "none"}`, `parent HWPT ${fn.parentHwptId}`, `IOAS ${fn.ioasId}`);
  parts.push(bound?.vdeviceId === undefined || bound.vdeviceId === null ? "no vDEVICE" : `vDEVICE ${bound.vdeviceId}`);
  parts.push(`iommufd ${fn.iommufdName}, device ${fn.devId}`);
  return parts.join(", ");
}
