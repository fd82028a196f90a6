/**
 * What is measured in the lab: monitors' command lines, each a row of the table. Rows of one group are compared: those
 * of viommu with the one of QEMU. On `host-arm64` both pass the same functions through; elsewhere QEMU's is an emulated
 * one, since nothing can be passed through to it there.
 */
import type { LabArch } from "./machine.js";

export interface LabRow {
  /** The key in the JSON file. */
  readonly name: string;
  /** Rows of one group are compared. */
  readonly group: string;
  readonly monitor: "viommu" | "qemu";
  /** viommu's rows: a simulated host, or `linux`. */
  readonly host?: string;
  readonly words: string;
  /** The function that is mapped for, as the guest numbers it. */
  readonly function: string;
  /** Words for the guest's kernel. */
  readonly append?: string;
  /** What is measured: maps and unmaps by VFIO of the guest (unless said otherwise), random reads of its disk. */
  readonly measures?: ReadonlyArray<"rates" | "reads">;
}

/** What all rows of an architecture have. */
export interface LabBoard {
  readonly words: string;
  readonly append: string;
  /** Where the console's registers are: the first is the one for data. */
  readonly consoleAddress: number;
  readonly consoleBytes: number;
  readonly ports: boolean;
  /** Functions of a real host that guests are given. */
  readonly bound: readonly string[];
}

export const BOARDS: Readonly<Record<LabArch, LabBoard>> = {
  arm64: { words: "-machine virt,accel=kvm,gic-version=3", append: "console=ttyAMA0", consoleAddress: 0x900_0000, consoleBytes: 0x1000, ports: false, bound: [] },
  "host-arm64": { words: "-machine virt,accel=kvm,gic-version=3", append: "console=ttyAMA0", consoleAddress: 0x900_0000, consoleBytes: 0x1000, ports: false, bound: ["0000:01:00.0", "0000:00:07.0"] },
  x86: { words: "-machine q35,accel=kvm,kernel-irqchip=split", append: "console=ttyS0 pci=lastbus=0", consoleAddress: 0x3f8, consoleBytes: 8, ports: true, bound: [] },
};

const accelerated = (properties: string): string =>
  `-object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on${properties}
   -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp1,iommufd=iommufd0`;
const SMMU = { group: "smmu", monitor: "viommu", host: "grace", function: "0000:09:00.0" } as const;
const EMULATED_SMMU = { group: "smmu", words: "-device arm-smmuv3,primary-bus=pcie.0,id=smmu1 -device edu", function: "0000:00:01.0" } as const;

/** The same words for both monitors: a disk and an edu behind one accelerated SMMU. */
const onLinux = (cpus: number, properties: string): string =>
  `-smp ${cpus} -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on${properties}
   -device pcie-root-port,id=rp0,bus=pcie.1,chassis=1 -device vfio-pci,host=0000:01:00.0,id=fn0,bus=rp0,iommufd=iommufd0
   -device pcie-root-port,id=rp1,bus=pcie.1,chassis=2 -device vfio-pci,host=0000:00:07.0,id=fn1,bus=rp1,iommufd=iommufd0`;
/** QEMU tells of an accelerated SMMU by ACPI alone, which a firmware has to hand on. */
const FIRMWARE = "-bios /opt/peer/usr/share/qemu-efi-aarch64/QEMU_EFI.fd";
/**
 * QEMU's guest has no VFIO: the RMR nodes of its IORT lack "remapping permitted" (Arm DEN0049, table of RMR flags), so
 * that Linux hands no function behind that SMMU to user space (iommu_device_claim_dma_owner).
 */
const onLinuxByBoth = (group: string, cpus: number, properties: string): LabRow[] => {
  const both = { group, function: "0000:0a:00.0", append: "acpi=force iommu.strict=1" } as const;
  const words = onLinux(cpus, properties);
  return [
    { name: `${group}.qemu`, monitor: "qemu", ...both, words: `${words} ${FIRMWARE}`, measures: ["reads"] },
    { name: `${group}.viommu`, monitor: "viommu", host: "linux", ...both, words, measures: ["reads", "rates"] },
  ];
};

const passedThrough = (properties: string): string =>
  `-object iommufd,id=iommufd0 -device intel-iommu,intremap=on${properties} -device pcie-root-port,id=rp1,chassis=1
   -device vfio-pci,host=0000:97:00.0,id=nic1,bus=rp1,iommufd=iommufd0`;
const NIC = { monitor: "viommu", host: "two-socket-spr", function: "0000:01:00.0" } as const;
const emulated = (properties: string): string => `-device intel-iommu,intremap=on${properties} -device edu,addr=4`;
const EDU = { function: "0000:00:04.0" } as const;
const FIRST_STAGE = ",scalable-mode=on,fsts=on";

export const ROWS: Readonly<Record<LabArch, readonly LabRow[]>> = {
  arm64: [
    { name: "smmu.qemu", monitor: "qemu", ...EMULATED_SMMU },
    { name: "smmu.nested", ...SMMU, words: accelerated(",ats=off") },
    { name: "smmu.nestedNoMsi", ...SMMU, words: accelerated(",ats=off,x-msi=off,x-register-pages=off") },
    { name: "smmu.nestedAts", ...SMMU, words: accelerated("") },
    { name: "smmu.emulated", monitor: "viommu", host: "grace", ...EMULATED_SMMU },
  ],
  "host-arm64": [...onLinuxByBoth("linux", 1, ""), ...onLinuxByBoth("linuxNoRanges", 1, ",ril=off"), ...onLinuxByBoth("linuxTwoCpus", 2, "")],
  x86: [
    { name: "vtdFirst.qemu", group: "vtdFirst", monitor: "qemu", ...EDU, words: emulated(FIRST_STAGE) },
    { name: "vtdFirst.nested", group: "vtdFirst", ...NIC, words: passedThrough(`${FIRST_STAGE},pasid-bits=16`) },
    { name: "vtdFirst.emulated", group: "vtdFirst", monitor: "viommu", host: "two-socket-spr", ...EDU, words: emulated(FIRST_STAGE) },
    { name: "vtdCaching.qemu", group: "vtdCaching", monitor: "qemu", ...EDU, words: emulated(",caching-mode=on") },
    { name: "vtdCaching.mirrored", group: "vtdCaching", ...NIC, words: passedThrough(",caching-mode=on") },
    { name: "vtdLegacy.qemu", group: "vtdLegacy", monitor: "qemu", ...EDU, words: emulated("") },
    { name: "vtdLegacy.emulated", group: "vtdLegacy", monitor: "viommu", host: "two-socket-spr", ...EDU, words: emulated("") },
  ],
};
