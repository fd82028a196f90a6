/** The host's part of the map: its IOMMUs and functions, as far as they are known. */
import { type Host, type HostFunctionFacts, type HostIommuFacts, HwInfoType, isIommufdDevice } from "../../iommufd/index.js";
import { className, type PciFunction } from "../../pci/index.js";
import { hostIdRegisters } from "../../smmuv3/index.js";
import { hex } from "../../support/index.js";
import type { HostFunctionReport, HostIommuReport, MapReport } from "../report/index.js";
import { featuresOf } from "./host-features.js";

/** `functions`: the machine's, of which the passed-through ones know what their IOMMU offers. */
export function hostReport(host: Host, functions: readonly PciFunction[]): MapReport["host"] {
  const { facts, inspector } = host;
  const listed = host.functions();
  const found = facts?.iommus() ?? [];
  // An IOMMU that functions name, and nobody lists.
  const named = [...new Set(listed.flatMap(({ iommu }) => iommu ?? []))].filter((id) => !found.some((one) => one.id === id));
  const iommus = [...found, ...named.map((id): HostIommuFacts => ({ id, architecture: "unknown", registers: null, numaNode: null, errata: [] }))];
  const told = iommus.map((iommu) => ({ ...iommu, registers: iommu.registers ?? registersByCall(iommu, functions) }));
  return {
    description: host.description,
    kernel: facts?.kernel ?? null,
    iommus: told.map(describeIommu),
    functions: listed.map(({ address, vendorId, deviceId, classCode, driver, iommu, numaNode }): HostFunctionReport => {
      const own: HostFunctionFacts = facts?.functionFacts(address) ?? { label: "", group: null, upstream: [], reserved: [] };
      return {
        address,
        vendorId,
        deviceId,
        classCode,
        driver,
        iommu,
        group: own.group,
        numaNode: numaNode < 0 ? null : numaNode,
        upstream: own.upstream,
        label: own.label === "" ? className(classCode) : own.label,
        reserved: own.reserved.map(({ base, size, kind }) => ({ base: hex(base), size: hex(size), kind })),
      };
    }),
    unknown: [
      ...(inspector === undefined ? [`registers, tables and caches of the host's IOMMUs: ${host.description} does not show them`] : []),
      ...told.filter(({ registers }) => registers === null).map(({ id, architecture }) => `what ${id} offers: ${architecture === "smmuv3" ? "no function behind it is the machine's" : "it is not told"}`),
    ],
  };
}

function describeIommu({ id, architecture, registers, numaNode, errata }: HostIommuFacts): HostIommuReport {
  return { id, architecture, features: registers === null ? {} : featuresOf(architecture, registers), numaNode, errata };
}

/** GET_HW_INFO of a function behind it. */
function registersByCall({ id }: HostIommuFacts, functions: readonly PciFunction[]): ReadonlyMap<string, bigint> | null {
  const fn = functions.find((one) => isIommufdDevice(one) && one.hostIommu === id);
  if (fn === undefined || !isIommufdDevice(fn) || fn.hwInfo.type !== HwInfoType.ARM_SMMUV3) {
    return null;
  }
  return new Map(Array.from(hostIdRegisters(fn.hwInfo), (value, index) => [`IDR${index}`, BigInt(value >>> 0)]));
}
