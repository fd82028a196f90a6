/**
 * May this host's VT-d serve a function of that intel-iommu? First-stage tables of the guest are walked by
 * the host's hardware, so what the guest was told must be what the host has. The same check at every attach,
 * cold or hot.
 */
import { HW_INFO_VTD, HW_INFO_VTD_BYTES, HwInfoType, HwInfoVtdFlags, type HwInfo, type Iommufd, type IommufdDevice, isIommufdDevice } from "../../iommufd/index.js";
import type { HostIommuDevice } from "../../pci/index.js";
import { get, Refusal } from "../../support/index.js";
import type { VtdProperties } from "../device/index.js";
import { CAP, ECAP } from "../spec/index.js";

/** CAP and ECAP of a host's VT-d, as words, and its errata flags (struct iommu_hw_info_vtd). */
export interface HostVtd {
  readonly cap: Int32Array;
  readonly ecap: Int32Array;
  /** HwInfoVtdFlags. */
  readonly flags: number;
}

/** Null where the host's IOMMU is another one. */
export function hostVtd(info: HwInfo): HostVtd | null {
  if (info.type !== HwInfoType.INTEL_VTD || info.data.length < HW_INFO_VTD_BYTES) {
    return null;
  }
  const view = new DataView(info.data.buffer, info.data.byteOffset, info.data.byteLength);
  const pair = (at: number): Int32Array => Int32Array.of(view.getInt32(at, true), view.getInt32(at + 4, true));
  return { cap: pair(HW_INFO_VTD.CAP_REG), ecap: pair(HW_INFO_VTD.ECAP_REG), flags: view.getUint32(HW_INFO_VTD.FLAGS, true) };
}

/** What nesting a guest's first stage takes and the host's unit has not, by the registers' names; empty: it nests. */
export function nestingGaps({ ecap }: Pick<HostVtd, "ecap">): string[] {
  return [
    get(ecap, ECAP.SMTS) === 0 ? "ECAP.SMTS (scalable mode)" : "",
    get(ecap, ECAP.FSTS) === 0 ? "ECAP.FSTS (first stage)" : "",
    get(ecap, ECAP.NEST) === 0 ? "ECAP.NEST (nested translation)" : "",
  ].filter((one) => one !== "");
}

/** Bits of the addresses that the unit translates. */
export function addressBitsOf({ cap }: Pick<HostVtd, "cap">): number {
  return get(cap, CAP.MGAW) + 1;
}

/** Bits of the unit's PASIDs; 0: it has none. */
export function pasidBitsOf({ ecap }: Pick<HostVtd, "ecap">): number {
  return get(ecap, ECAP.PASID) === 0 ? 0 : get(ecap, ECAP.PSS) + 1;
}

/** The host's VT-d has erratum 772415: tables that are nesting parents take no read-only mappings. */
export function refusesReadOnly(info: HwInfo): boolean {
  return ((hostVtd(info)?.flags ?? 0) & HwInfoVtdFlags.ERRATA_772415_SPR17) !== 0;
}

/** Bits of the IOVAs that an IOAS takes: those of the last one (QEMU vfio_device_get_aw_bits). Throws HostError. */
export function usableAddressBits(iommufd: Iommufd, ioasId: number): number {
  const { ranges } = iommufd.ioasIovaRanges(ioasId);
  const last = ranges.reduce((most, range) => (range.last > most ? range.last : most), 0n);
  return last.toString(2).length;
}

/**
 * Without first stage the guest's tables are mirrored, in a table of the kind that its parent is of: what that takes may
 * be less than CAP.MGAW, as the lower half of a first stage. Throws Refusal where the guest is shown more, and HostError.
 */
export function checkUsableAddresses(device: IommufdDevice, properties: VtdProperties, unit: string): void {
  if (properties.fsts) {
    return;
  }
  const usable = usableAddressBits(device.iommufd, device.ioasId);
  const names = namesOf(device, unit);
  if (properties.awBits > usable) {
    throw new Refusal(`aw-bits ${properties.awBits} > host aw-bits ${usable}`, {
      rule: "host-aw-bits",
      found: `IOAS_IOVA_RANGES: the tables of ${names.hostIommu} for ${names.device} take IOVAs of ${usable} bits, ${names.unit} shows its guest ${properties.awBits}`,
      wouldWork: usable >= 39 ? "aw-bits=39" : "a host IOMMU with wider addresses",
    });
  }
}

interface Names {
  /** `intel-iommu 'iommu0'`. */
  readonly unit: string;
  /** `vfio-pci 'gpu0' (host 0000:01:00.0)`. */
  readonly device: string;
  /** `dmar0`. */
  readonly hostIommu: string;
}

/**
 * Throws Refusal on the first thing that the guest was told and the host does not have. `maxPasidLog2`: of the
 * function, 0 where it has no PASIDs.
 */
export function checkHostServes(info: HwInfo, properties: VtdProperties, names: Names): void {
  const refuse = (rule: string, words: string, found: string, wouldWork: string): never => {
    throw new Refusal(words, { rule, found, wouldWork });
  };
  const { unit, device, hostIommu } = names;
  const host = hostVtd(info);
  // What no property mends comes first.
  if (properties.fsts) {
    if (host === null) {
      return refuse(
        "wrong-host-iommu",
        `Incompatible host platform IOMMU type ${info.type}`,
        `${device} is behind a host IOMMU of type ${info.type}; ${unit} has fsts=on`,
        `a function behind a VT-d (type ${HwInfoType.INTEL_VTD})`,
      );
    }
    const missing = nestingGaps(host);
    if (missing.length > 0) {
      refuse(
        "host-nesting",
        "Host IOMMU doesn't support nested translation",
        `${hostIommu} of ${device} lacks ${missing.join(", ")}; ${unit} has fsts=on`,
        `fsts=off with caching-mode=on${properties.awBits > addressBitsOf(host) ? ",aw-bits=39" : ""}, or a function behind another host IOMMU`,
      );
    }
  }
  if (host !== null) {
    const hostBits = addressBitsOf(host);
    if (properties.awBits > hostBits) {
      refuse(
        "host-aw-bits",
        `aw-bits ${properties.awBits} > host aw-bits ${hostBits}`,
        `CAP.MGAW: ${hostIommu} of ${device} takes addresses of ${hostBits} bits, ${unit} shows its guest ${properties.awBits}`,
        hostBits >= 39 && !properties.fsts ? "aw-bits=39" : "a host IOMMU with wider addresses",
      );
    }
  }
  if (!properties.fsts || host === null) {
    return;
  }
  if (properties.fs1gp && get(host.cap, CAP.FS1GP) === 0) {
    refuse(
      "host-fs1gp",
      "First stage 1GB large page is unsupported by host IOMMU",
      `CAP.FS1GP: ${hostIommu} of ${device} has 0, ${unit} shows its guest 1`,
      "fs1gp=off",
    );
  }
  const hostPasidBits = pasidBitsOf(host);
  if (info.maxPasidLog2 > 0 && properties.pasidBits > hostPasidBits) {
    refuse(
      "host-pasid-bits",
      `PASID bits size ${properties.pasidBits} > host IOMMU PASID bits size ${hostPasidBits}`,
      `ECAP.PSS: ${hostIommu} of ${device} has PASIDs of ${hostPasidBits} bits, ${unit} shows its guest ${properties.pasidBits}`,
      `pasid-bits=${hostPasidBits}`,
    );
  }
}

/**
 * Throws Refusal where a unit, or the host's IOMMU behind the function, cannot serve it: properties and capabilities
 * alone. `unit`: `intel-iommu 'iommu0'`.
 */
export function checkFunction(device: HostIommuDevice, properties: VtdProperties, unit: string): asserts device is IommufdDevice {
  if (!isIommufdDevice(device)) {
    throw new Refusal("Need IOMMUFD backend when fsts=on", {
      rule: "no-iommufd",
      found: `${device.name} behind ${unit}`,
      wouldWork: "-object iommufd,id=iommufd0 and vfio-pci with iommufd=iommufd0",
    });
  }
  if (!properties.fsts) {
    checkShadowing(device.name, properties, unit);
  }
  checkHostServes(device.hwInfo, properties, namesOf(device, unit));
}

function namesOf(device: IommufdDevice, unit: string): Names {
  return { unit, device: device.name, hostIommu: device.hostIommu ?? "the host IOMMU" };
}

/** A function may have its second-stage tables mirrored. */
function checkShadowing(name: string, properties: VtdProperties, unit: string): void {
  if (properties.requireNesting) {
    throw new Refusal("x-require-nesting=on: no shadowing of guest page tables", {
      rule: "host-nesting",
      found: `${name} behind ${unit}, which has fsts=off`,
      wouldWork: "scalable-mode=on,fsts=on",
    });
  }
  if (!properties.cachingMode) {
    throw new Refusal("Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.", {
      rule: "caching-mode",
      found: `${name} behind ${unit}, which has caching-mode=off and fsts=off`,
      wouldWork: "caching-mode=on, or scalable-mode=on,fsts=on",
    });
  }
}
