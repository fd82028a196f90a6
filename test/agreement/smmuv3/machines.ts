/** The machines on which SMMUv3s are compared. */
import { atLeast, type QemuProgram } from "../find-qemu.js";
import type { MachineRequest } from "../driver.js";

export interface SmmuMachine extends MachineRequest {
  readonly name: string;
  /** Guest-physical address of the SMMU's registers. */
  readonly smmu: number;
  readonly stages: "1" | "2" | "nested";
}

export const LEGACY_SMMU = 0x0905_0000;
export const OWN_SMMU = 0x0c00_0000;

/** Device numbers on bus 0: in StreamIDs 0xf0 and 0xf8. */
export const TESTDEV_DEVFN = 0xf0;
export const EDU_DEVFN = 0xf8;

const BOARD = ["-cpu", "max", "-m", "512"];
const EDU = ["-device", `edu,addr=0x${(EDU_DEVFN >> 3).toString(16)},dma_mask=0xffffffffffffffff`];
const TESTDEV = ["-device", `iommu-testdev,addr=0x${(TESTDEV_DEVFN >> 3).toString(16)}`];

/** What a QEMU can show: an older one stage 1 by the legacy property, a newer one every stage. */
export function smmuMachines(program: QemuProgram): SmmuMachine[] {
  const own = (stages: "1" | "2" | "nested"): SmmuMachine => ({
    name: `stage ${stages}`,
    arguments: ["-machine", "virt,gic-version=3", ...BOARD, "-device", `arm-smmuv3,primary-bus=pcie.0,stage=${stages}`, ...EDU, ...TESTDEV],
    smmu: OWN_SMMU,
    stages,
  });
  return atLeast(program.version, 11, 0) ? [own("1"), own("2"), own("nested"), { name: "legacy", arguments: ["-machine", "virt,iommu=smmuv3,gic-version=3", ...BOARD, ...EDU, ...TESTDEV], smmu: LEGACY_SMMU, stages: "nested" }] : [legacyStage1(program)];
}

function legacyStage1(program: QemuProgram): SmmuMachine {
  return { name: "legacy", arguments: ["-machine", `virt-${program.version.join(".")},iommu=smmuv3,gic-version=3`, ...BOARD, ...EDU], smmu: LEGACY_SMMU, stages: "1" };
}

/** What a QEMU cannot show of the SMMUv3, each with the reason. */
export function missingMachines(program: QemuProgram): string[] {
  return atLeast(program.version, 11, 0)
    ? []
    : [
        "stage 2, nested: it has stage 1 alone",
        "arm-smmuv3, its stage=: the SMMU of iommu=smmuv3 is all it has",
        "accesses by iommu-testdev: it has none, edu alone makes them",
      ]
}
