/** `info iommu`: where each function's DMA goes. IOMMUs with what they cover; of passed-through functions the tables, by PASID too, and the vDEVICE in the host. */
import { type Board, isSmmu, isVtd, type MachineIommu, type MachineSmmu, type MachineVtd } from "../../machine/index.js";
import { formatBdf, type PciFunction } from "../../pci/index.js";
import { VfioPci } from "../../vfio/index.js";

/** Bindings of PASIDs that are listed for a function; the rest is counted. */
const SHOWN = 16;

export function formatIommus(board: Board): string {
  const endpoints = board.functions.map(({ fn }) => fn).filter((fn) => !fn.isBridge);
  const out: string[] = [];
  for (const iommu of board.iommus) {
    out.push(`${iommu.id}: ${isVtd(iommu) ? describeVtd(iommu) : isSmmu(iommu) ? describeSmmu(iommu) : ""}\n`);
    for (const fn of endpoints.filter((one) => board.iommuOf(one) === iommu)) {
      out.push(`  ${describeFunction(fn, iommu)}\n`, ...pasidLines(fn, iommu));
    }
  }
  const rest = endpoints.filter((fn) => board.iommuOf(fn) === null);
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

function describeVtd(vtd: MachineVtd): string {
  const { device } = vtd;
  const { hostIommu } = vtd.describe();
  const { scalableMode, fsts } = device.properties;
  const mode = hostIommu === null ? "translates in software" : `emulated functions in software, others by ${hostIommu}`;
  const stage = scalableMode ? (fsts ? "scalable mode, first stage" : "scalable mode, second stage") : "legacy mode";
  return `intel-iommu, ${mode}, ${stage}, ${device.translationEnabled ? "enabled" : "disabled, bypasses"}, interrupts ${device.interruptRemappingEnabled ? "remapped" : "not remapped"}`;
}

function describeFunction(fn: PciFunction, iommu: MachineIommu | null): string {
  const parts = [`${formatBdf(fn.bdf)} ${fn.label}`];
  const { bus } = fn.iommuPath;
  if (iommu !== null) {
    const name = isSmmu(iommu) ? "StreamID" : "source id";
    parts.push(bus.isRoot || bus.number !== 0 ? `${name} 0x${fn.requesterId.toString(16)}` : `no ${name}, its bus has no number`);
  }
  if (!(fn instanceof VfioPci)) {
    parts.push(`address space ${fn.dma?.name ?? "none"}`);
    return parts.join(", ");
  }
  parts.push(`host ${fn.hostAddress} (${fn.hostIommu ?? "no IOMMU"})`);
  const bound = iommu?.describe().bindings.find((one) => one.function === fn.name && one.pasid === null);
  const hwpt = bound?.hwpt ?? fn.attachedTo;
  const why = bound === undefined || bound.reason === null ? "" : ` (${bound.reason})`;
  parts.push(`${bound?.table ?? "parent"} table HWPT ${hwpt ?? "none"}${why}`, `parent HWPT ${fn.parentHwptId}`, `IOAS ${fn.ioasId}`);
  if (iommu === null || isSmmu(iommu)) {
    const vdevice = iommu?.acceleration?.describeFunctions().find((one) => one.name === fn.name)?.vdeviceId;
    parts.push(vdevice === undefined || vdevice === null ? "no vDEVICE" : `vDEVICE ${vdevice}`);
  }
  parts.push(`iommufd ${fn.iommufdName}, device ${fn.devId}`);
  return parts.join(", ");
}

function pasidLines(fn: PciFunction, iommu: MachineIommu): string[] {
  if (!(fn instanceof VfioPci)) {
    return [];
  }
  const bound = iommu.describe().bindings.filter((one) => one.function === fn.name && one.pasid !== null);
  const lines = bound.slice(0, SHOWN).map(({ pasid, table, reason, hwpt, domain }) => {
    const what = reason === null ? `${table} table HWPT ${hwpt ?? "none"}, domain ${domain ?? "none"}` : `${table} (${reason})`;
    return `    PASID 0x${pasid!.toString(16)}: ${what}\n`;
  });
  return bound.length > SHOWN ? [...lines, `    and ${bound.length - SHOWN} more PASIDs\n`] : lines;
}
