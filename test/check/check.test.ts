import { describe, expect, it } from "vitest";
import { checkLine, told } from "./line.js";

const isWrong = (line: string): boolean => !line.startsWith("note ");

const TWO = `# Two mistakes
qemu-system-aarch64 \\
  -machine virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults \\
  -object iommufd,id=iommufd0 \\
  -device pxb-pcie,id=pcie.1,bus_nr=0x10,bus=pcie.0 \\
  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on \\
  -device pcie-root-port,id=rp1.0,bus=pcie.1,chassis=1 \\
  -device vfio-pci,host=0008:01:00.0,bus=rp1.0,id=gpu0 \\
  -device pcie-root-port,id=rp1.1,bus=pcie.1,chassis=2 \\
  -device vfio-pci,host=0009:02:00.0,bus=rp1.1,id=nic1,iommufd=iommufd0
`;

describe("a line with no iommufd and a wrong SMMU", () => {
  it("has two findings on grace, each with its place", () => {
    const report = checkLine(TWO, "grace");
    expect(told(report).filter(isWrong)).toEqual(["error no-iommufd: vfio-pci", "error wrong-smmu: host=0009:02:00.0"]);
    const wrong = report.findings.filter(({ level }) => level !== "note");
    expect(wrong.map(({ place }) => [place?.line, place?.column])).toEqual([[8, 11], [10, 20]]);
    expect(wrong[0].words).toBe("vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on");
    expect(wrong[1].found).toBe("vfio-pci 'nic1' (host 0009:02:00.0) is behind smmu3.0x0000000016600000; arm-smmuv3 'smmu1' is served by smmu3.0x0000000011600000, which vfio-pci 'gpu0' (host 0008:01:00.0) brought");
  });

  it("has one without a host, and none once it is fixed", () => {
    expect(told(checkLine(TWO)).filter(isWrong)).toEqual(["error no-iommufd: vfio-pci"]);
    const { fixed } = checkLine(TWO, "grace");
    expect(fixed).toBe(
      TWO.replace("id=gpu0", "id=gpu0,iommufd=iommufd0").replace(
        "  -device vfio-pci,host=0009:02:00.0,bus=rp1.1,",
        "  -device pxb-pcie,id=pcie-new0,bus_nr=8,bus=pcie.0 \\\n  -device arm-smmuv3,id=smmu-new0,primary-bus=pcie-new0,accel=on \\\n  -device pcie-root-port,id=rp-new0,bus=pcie-new0,chassis=3 \\\n  -device vfio-pci,host=0009:02:00.0,bus=rp-new0,",
      ),
    );
    expect(told(checkLine(fixed, "grace")).filter(isWrong)).toEqual([]);
  });
});
