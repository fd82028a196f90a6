import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab } from "./lab.js";

/** What Linux's drivers make of a q35 and its intel-iommu, seen from inside the guest and in the account. */
describe("Linux on q35", () => {
  const lab = new Lab("x86");
  beforeAll(() => lab.start(), 1_800_000);
  afterAll(() => lab.stop());
  const nightly = process.env.VIOMMU_FUZZ === "nightly";

  const machine = (iommu: string, more = "", top = "-m 512M"): string => `
    -machine q35,accel=kvm,kernel-irqchip=split -cpu host ${top} -nodefaults -display none
    -object iommufd,id=iommufd0 -device intel-iommu,caching-mode=on,${iommu}
    -device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:97:00.0,id=nic1,bus=rp1,iommufd=iommufd0 ${more}`;
  const FIRST_STAGE = "scalable-mode=on,fsts=on,intremap=on,pasid-bits=16,device-iotlb=on";

  it("drives a function through first-stage tables that the host walks, with PASIDs, and is told of faults", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(FIRST_STAGE),
      append: "quiet lab=groups,dma,pause,pasid,faults,iommu function=0000:01:00.0",
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toMatch(/group \d+ DMA(-FQ)? 0000:01:00\.0/);
    expect(console).not.toMatch(/FAILED|identity/);
    for (const name of ["dma", "pasid"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(console).toContain("dma: 3 messages");
    expect(console).toContain("pasid: three address spaces at one IOVA");
    // The kernel leaves out some of many.
    expect(console).toMatch(/\[DMA Write NO_PASID\] Request device \[0000:01:00\.0\] fault addr 0x[45]00[01][0-9a-f]000 \[fault reason 0x71\]/);
    expect(console).toMatch(/\[DMA Write PASID 0x5\] Request device \[0000:01:00\.0\] fault addr 0x40000000/);
    expect(console).toContain("Enabled IRQ remapping in x2apic mode");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 0 }, hostObjects: { alive: 0 } });
    expect(report!.msi.delivered).toBeGreaterThan(3);
    expect(report!.kernel!.perThousandInvalidations!.exits).toBeGreaterThan(0);
  });

  it("takes a function out and gets it back by pciehp, on four CPUs that work meanwhile", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(FIRST_STAGE, "", "-m 512M -smp 4"),
      append: "quiet lab=plug,dma,stress rounds=20 function=0000:01:00.0",
      steps: [
        { on: "lab: ready", qmp: { execute: "device_del", arguments: { id: "nic1" } } },
        { on: "DEVICE_DELETED", in: "monitor", qmp: { execute: "device_add", arguments: { driver: "vfio-pci", host: "0000:97:00.0", id: "nic1", bus: "rp1", iommufd: "iommufd0" } } },
      ],
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain("lab: ready, Linux 7.3.4-lab, 4 CPUs");
    for (const name of ["plug", "dma", "stress"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", vcpus: 4 }, hostObjects: { alive: 0 } });
  });

  it("starts another kernel by kexec on an IOMMU that is found switched on", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(FIRST_STAGE, "", "-m 1G"),
      append: "quiet lab=dma,kexec function=0000:01:00.0",
      withKernel: true,
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain("lab: dma ok");
    expect(console).toContain("lab: begun anew");
    expect(console.slice(console.indexOf("lab: begun anew"))).toMatch(/group \d+ DMA(-FQ)? 0000:01:00\.0/);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly).each([
    ["legacy mode, its tables mirrored", "scalable-mode=off,intremap=on", "", "shadow"],
    ["second stages in scalable mode", "scalable-mode=on,fsts=off,intremap=on", "", "shadow"],
    ["scalable mode that its kernel does not use", FIRST_STAGE, "intel_iommu=on,sm_off", "shadow"],
    ["no interrupt remapping", "scalable-mode=on,fsts=on,intremap=off", "vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1", "nested"],
  ])("drives a function in %s", (_, iommu, words) => {
    const { console, report, stderr, status } = lab.boot({ host: "two-socket-spr", arguments: machine(iommu), append: `quiet ${words} lab=groups,dma,faults function=0000:01:00.0` });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain("lab: dma ok");
    // There is one record at a time: some of many faults are told.
    expect(console).toMatch(/Request device \[0000:01:00\.0\] fault addr 0x[45]00[01][0-9a-f]000/);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("resets the machine by the guest's reboot, and boots again", () => {
    lab.shell("dd if=/dev/zero of=/tmp/disk.raw bs=1M count=16");
    const { console, report } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(FIRST_STAGE, "-drive file=/tmp/disk.raw,if=none,id=disk,format=raw -device nvme,drive=disk,serial=lab"),
      append: "quiet lab=dma,once function=0000:01:00.0",
    });
    expect(console).toContain("lab: reboot");
    expect(console).toContain("lab: again after a reboot");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 1 }, hostObjects: { alive: 0 } });
  });
});
