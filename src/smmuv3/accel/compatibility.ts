/**
 * May this host's SMMU serve a function of that vSMMU? The guest's tables are walked by the host's
 * hardware, so what the guest was told must be what the host has (Arm IHI 0070, 6.3.1 to 6.3.6). The same
 * check at every attach, cold or hot.
 */
import { HW_INFO_ARM_SMMUV3, HW_INFO_ARM_SMMUV3_BYTES, HwInfoArmSmmuv3Flags, HwInfoType, type HwInfo } from "../../iommufd/index.js";
import { Refusal } from "../../support/index.js";
import type { AcceleratedFeatures } from "../device/index.js";
import { extract, type Field, IDR0, IDR0_STALL_MODEL_BOTH, IDR0_STALL_MODEL_FORCED, IDR1, IDR3, IDR5, OAS_BITS } from "../spec/index.js";

/** IDR0 to IDR5 of a host's SMMU out of GET_HW_INFO (struct iommu_hw_info_arm_smmuv3: idr at byte 8). Throws Refusal where it is none. */
export function hostIdRegisters(info: HwInfo): Int32Array {
  if (info.type !== HwInfoType.ARM_SMMUV3 || info.data.length < HW_INFO_ARM_SMMUV3_BYTES) {
    throw new Refusal(`Wrong data type (${info.type}) for Host SMMUv3 device info`, {
      rule: "wrong-host-iommu",
      found: `a host IOMMU of type ${info.type}, ${info.data.length} bytes of information`,
      wouldWork: `a function behind an SMMUv3 (type ${HwInfoType.ARM_SMMUV3})`,
    });
  }
  const view = new DataView(info.data.buffer, info.data.byteOffset, info.data.byteLength);
  return Int32Array.from({ length: 6 }, (_unused, index) => view.getInt32(8 + 4 * index, true));
}

/**
 * The host's SMMU has NVIDIA's erratum T264-SMMU-3: a TLBI or CFGI and its CMD_SYNC are to be issued twice, the second
 * time after the first is done. The kernel issues a guest's commands once and says so.
 */
export function losesInvalidations({ data }: HwInfo): boolean {
  const flags = new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(HW_INFO_ARM_SMMUV3.FLAGS, true);
  return (flags & HwInfoArmSmmuv3Flags.ERRATA_REPEAT_TLBI_CFGI) !== 0;
}

/** What `auto` becomes with this host: what it offers, within what the model knows. */
export function featuresOfHost(idr: Int32Array): AcceleratedFeatures {
  const ssidBits = Math.min(extract(idr[1], IDR1.SSIDSIZE), 20);
  return {
    ril: extract(idr[3], IDR3.RIL) === 1,
    ats: extract(idr[0], IDR0.ATS) === 1,
    oasBits: OAS_BITS[extract(idr[5], IDR5.OAS)] >= 48 ? 48 : 44,
    ssidBits,
    cd2l: ssidBits > 0 && extract(idr[0], IDR0.CD2L) === 1,
  };
}

interface Names {
  /** `arm-smmuv3 'smmu0'`. */
  readonly smmu: string;
  /** `vfio-pci 'gpu0' (host 0009:01:00.0)`. */
  readonly device: string;
  /** `smmu3.0x...`. */
  readonly hostIommu: string;
}

/** Throws Refusal on the first feature of the guest's ID registers that the host's SMMU does not have. */
export function checkHostServes(host: Int32Array, guest: Int32Array, names: Names): void {
  const refuse = (words: string, what: string, hostValue: number | string, guestValue: number | string, mend: string, rule = "host-smmu-format"): never => {
    throw new Refusal(words, {
      rule,
      found: `${what}: ${names.hostIommu} of ${names.device} has ${hostValue}, ${names.smmu} shows its guest ${guestValue}`,
      wouldWork: mend,
    });
  };
  const pair = (register: number, field: Field): [number, number] => [extract(host[register], field), extract(guest[register], field)];

  let [ours, theirs] = pair(0, IDR0.ST_LEVEL);
  if (ours !== theirs) {
    refuse(
      `Host SMMUv3 Stream Table format mismatch (host STLEVEL=${ours}, QEMU STLEVEL=${theirs})`,
      "IDR0.ST_LEVEL",
      ours,
      theirs,
      "a host SMMU with the same stream table formats",
    );
  }
  [ours, theirs] = pair(0, IDR0.TTENDIAN);
  if (ours !== theirs && ours !== 0) {
    refuse(`Host SMMUv3 doesn't support Little-endian translation table`, "IDR0.TTENDIAN", ours, theirs, "a little-endian host SMMU");
  }
  [ours, theirs] = pair(0, IDR0.TTF);
  if ((ours & theirs) !== theirs) {
    refuse(`Host SMMUv3 doesn't support AArch64 translation table format`, "IDR0.TTF", ours, theirs, "a host SMMU with AArch64 tables");
  }
  [ours, theirs] = pair(1, IDR1.SIDSIZE);
  if (ours < theirs) {
    refuse(`Host SMMUv3 SIDSIZE not compatible (host=${ours}, QEMU=${theirs})`, "IDR1.SIDSIZE", ours, theirs, "a host SMMU with as many StreamID bits");
  }
  [ours, theirs] = pair(1, IDR1.SSIDSIZE);
  if (ours < theirs) {
    refuse(`Host SMMUv3 SSIDSIZE not compatible (host=${ours}, QEMU=${theirs})`, "IDR1.SSIDSIZE", ours, theirs, `ssidsize=${ours}`, "host-ssidsize");
  }
  [ours, theirs] = pair(3, IDR3.RIL);
  if (ours < theirs) {
    refuse(`Host SMMUv3 doesn't support Range Invalidation`, "IDR3.RIL", ours, theirs, "ril=off", "host-ril");
  }
  [ours, theirs] = pair(0, IDR0.ATS);
  if (ours < theirs) {
    refuse(`Host SMMUv3 doesn't support Address Translation Services`, "IDR0.ATS", ours, theirs, "ats=off", "host-ats");
  }
  [ours, theirs] = pair(5, IDR5.OAS).map((code) => OAS_BITS[code]);
  if (ours < theirs) {
    refuse(
      `Host SMMUv3 supports only ${ours}-bit IPA, but the vSMMU OAS implies ${theirs}-bit IPA`,
      "IDR5.OAS",
      `${ours} bits`,
      `${theirs} bits`,
      ours >= 44 ? "oas=44" : "a host SMMU with 44 or more bits",
      "host-oas",
    );
  }
  for (const [field, size] of [
    [IDR5.GRAN4K, "4K"],
    [IDR5.GRAN16K, "16K"],
    [IDR5.GRAN64K, "64K"],
  ] as const) {
    [ours, theirs] = pair(5, field);
    if (ours !== theirs) {
      refuse(
        `Host SMMUv3 doesn't support ${size} translation granule`,
        `IDR5.GRAN${size}`,
        ours,
        theirs,
        "a host SMMU with 4K, 16K and 64K granules, which the model shows its guest",
        "host-granules",
      );
    }
  }
  [ours, theirs] = pair(0, IDR0.ASID16);
  if (ours < theirs) {
    refuse(`Host SMMUv3 supports only 8-bit ASIDs`, "IDR0.ASID16", ours, theirs, "a host SMMU with 16-bit ASIDs");
  }
  [ours, theirs] = pair(0, IDR0.STALL_MODEL);
  if (ours === IDR0_STALL_MODEL_FORCED) {
    // 5.4: CD.S has to be 1 there, and the guest was told that it has to be 0.
    refuse(`Host SMMUv3 stalls on every fault`, "IDR0.STALL_MODEL", ours, theirs, "a host SMMU that terminates (STALL_MODEL 0 or 1)");
  }
  [ours, theirs] = pair(0, IDR0.CD2L);
  if (ours < theirs) {
    refuse(
      `Host SMMUv3 doesn't support 2-level Context Descriptor tables`,
      "IDR0.CD2L",
      ours,
      theirs,
      "cold-plug this function first, or another host SMMU",
    );
  }
}

/** What the host does otherwise than the guest was told, where a guest that relies on it can be wrong: a line each. */
export function hostWarnings(host: Int32Array, guest: Int32Array, names: Names): string[] {
  const lower = (what: string, field: Field, harm: string): string[] => {
    const ours = extract(host[3], field);
    const theirs = extract(guest[3], field);
    return ours >= theirs
      ? []
      : [`${names.smmu} shows its guest IDR3.${what}=${theirs}, ${names.hostIommu} of ${names.device} has ${ours}: a guest that relies on ${harm}`];
  };
  return [
    ...lower("BBML", IDR3.BBML, "the higher level may see TLB conflicts"),
    // 5.4: CD.HAD0 and HAD1 are ignored without it.
    ...lower("HAD", IDR3.HAD, "CD.HAD0 or HAD1 gets hierarchical attributes nevertheless"),
  ];
}

/** The host stalls faulting transactions where CD.S asks for it, unless STE.S1STALLD is set (IDR0.STALL_MODEL 0b00). */
export function canStall(host: Int32Array): boolean {
  return extract(host[0], IDR0.STALL_MODEL) === IDR0_STALL_MODEL_BOTH;
}
