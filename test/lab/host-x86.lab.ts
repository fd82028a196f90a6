import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Booted, Lab } from "./lab.js";

/**
 * A Linux as the host with a VT-d that has second stages and does not nest (QEMU's): guests have its functions by tables
 * of the host's, and behind a vIOMMU by mirrors of the guest's tables (lab/host-x86.sh).
 */
const lab = new Lab("host-x86");
const MiB = 2 ** 20;
const NVME = "0000:01:00.0";

const machine = (iommu: string, top = "-m 512M"): string => `
  -machine q35,accel=kvm,kernel-irqchip=split -cpu host ${top} -nodefaults -display none -object iommufd,id=iommufd0 ${iommu}
  -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=${NVME},id=fn0,bus=rp0,iommufd=iommufd0`;
const MIRRORED = "-device intel-iommu,intremap=on,caching-mode=on";

function ended(booted: Booted): void {
  expect([booted.stderr, booted.status]).toEqual(["", 0]);
  expect(booted.console).toContain("lab: done");
  expect(booted.console).not.toMatch(/FAILED/);
  expect(booted.report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
}

describe("a Linux as the host, with a VT-d", () => {
  beforeAll(() => {
    lab.start();
    lab.shell(`sh viommu/lab/host/bind.sh ${NVME}`);
  }, 1_800_000);
  afterAll(() => lab.stop());

  it("refuses first stages by name, for its VT-d does not nest", () => {
    const { status, stderr, report } = lab.boot({ host: "linux", arguments: machine("-device intel-iommu,intremap=on,scalable-mode=on,fsts=on"), append: "quiet lab=groups" });
    expect([status, report]).toEqual([2, null]);
    expect(stderr.replace(/\s+/g, " ")).toContain("Host IOMMU doesn't support nested translation found: dmar0");
    expect(stderr.replace(/\s+/g, " ")).toContain("ECAP.NEST (nested translation)");
  });

  for (const [name, iommu, group] of [
    ["by tables of the host's", "", null],
    ["behind a vIOMMU by mirrors of the guest's tables", MIRRORED, /group \d+ DMA(-FQ)? 0000:01:00\.0/],
  ] as const) {
    it(`gives a guest a disk ${name}`, () => {
      const sum = lab.diskSum("nvme1.img", 8 * MiB);
      const token = iommu === "" ? "host" : "mirror";
      const booted = lab.boot({ host: "linux", arguments: machine(iommu), append: `quiet ${iommu === "" ? "" : "intel_iommu=on "}lab=groups,disk,irqs token=${token}`, seconds: 600 });
      ended(booted);
      expect(booted.console).toContain(`md5 ${sum}`);
      expect(lab.diskBytes("nvme1.img", 4 * 512, 14 + token.length).toString()).toBe(`lab was here ${token}\n`);
      expect(booted.console).toMatch(/nvme0q1/);
      if (group !== null) {
        expect(booted.console).toMatch(group);
        expect(booted.report!.machine.iommus[0]).toMatchObject({ accel: true });
      }
    });
  }

  it("runs the guest program with a disk behind mirrors", () => {
    const out = lab.shell(`cd viommu; node dist/lib/cli/main.js run --json --host linux -- -machine q35 -m 256M -nodefaults -object iommufd,id=iommufd0 ${MIRRORED} -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=${NVME},id=fn0,bus=rp0,iommufd=iommufd0`);
    const report = JSON.parse(out) as NonNullable<Booted["report"]>;
    expect(report).toMatchObject({ ok: true, failure: null, hostObjects: { alive: 0 } });
    expect(report.guest!.steps.find(({ name }) => name === "disks")!.detail).toBe("01:00.0 'lab1' 65536 bytes read, message 1, unmapped page fails without a record, read-only page fails without a record");
  });
});
