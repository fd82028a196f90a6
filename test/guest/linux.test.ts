import { describe, expect, it } from "vitest";
import { runLinux } from "./end-to-end.js";

describe("the linux guest on the machine", () => {
  it("boots a board with the legacy SMMU and emulated functions", async () => {
    const { report, said, log, left } = await runLinux(
      "board",
      "-M virt,iommu=smmuv3 -m 512 -nodefaults -device e1000e,id=n0 -device edu -device iommu-testdev -device pcie-root-port,id=rp1,chassis=1 -device nvme,bus=rp1,id=d0",
    );
    console.log(said.join("\n"), log.lines, left);
    expect(report.ok).toBe(true);
  });

  it("boots a machine with an accelerated SMMU", async () => {
    const { report, said, log, left } = await runLinux(
      "grace",
      "-M virt,accel=kvm,gic-version=3 -m 2G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10,bus=pcie.0 " +
        "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=20 " +
        "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2 -device vfio-pci,host=0008:01:00.0,bus=rp1,iommufd=iommufd0,id=gpu0 -device vfio-pci,host=0008:02:00.0,bus=rp2,iommufd=iommufd0,id=nic0 -device e1000e",
      { hotplug: [{ id: "nic0", argument: "vfio-pci,host=0008:02:00.0,bus=rp2,iommufd=iommufd0,id=nic0" }] },
    );
    console.log(said.join("\n"), log.lines, left);
    expect(report.ok).toBe(true);
  });
});
