import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab, plugs } from "./lab.js";

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

  it.runIf(nightly)("starts a crash kernel after a panic, which copies the tables that it finds and drives the functions", () => {
    lab.shell("rm -f /tmp/disk.raw; dd if=/dev/urandom of=/tmp/disk.raw bs=1M count=16 2>/dev/null");
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(FIRST_STAGE, "-device pcie-root-port,id=rp2,chassis=2 -device vfio-pci,host=0000:99:00.0,id=disk,bus=rp2,iommufd=iommufd0", "-m 1G"),
      append: "quiet crashkernel=256M lab=disk,dma,kdump then=dma,disk,iommu function=0000:01:00.0 token=k1",
      withKernel: true,
    });
    expect([stderr, status]).toEqual(["", 0]);
    const [before, after] = console.split("lab: panic");
    expect(before).toContain("lab: disk ok");
    expect(before).toContain("lab: dma ok");
    expect(after).toMatch(/Kernel panic - not syncing: Attempted to kill init/);
    expect(after).toContain("lab: begun anew");
    for (const name of ["crashed", "groups", "dma", "disk"]) {
      expect(after).toContain(`lab: ${name} ok`);
    }
    expect(after).toContain("vmcore 177ELF");
    expect(after).toContain("Translation already enabled - trying to copy translation structures");
    expect(after).toContain("Copied translation tables from previous kernel for dmar0");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 0, panics: [expect.stringMatching(/^Attempted to kill init/)] }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("loses nothing while four processes map, use and unmap, and a function comes and goes", () => {
    const turns = 3;
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(
        FIRST_STAGE,
        `-device pcie-root-port,id=rp2,chassis=2 -device vfio-pci,host=0000:6b:00.0,id=qat,bus=rp2,iommufd=iommufd0
         -device pcie-root-port,id=rp3,chassis=3 -device vfio-pci,host=0000:17:00.0,id=nic0,bus=rp3,iommufd=iommufd0`,
        "-m 512M -smp 4",
      ),
      append: `quiet loglevel=1 lab=storms turns=${turns} function=0000:01:00.0 others=0000:02:00.0,0000:03:00.0`,
      steps: plugs(turns, "lab: turn", { driver: "vfio-pci", host: "0000:97:00.0", id: "nic1", bus: "rp1", iommufd: "iommufd0" }),
      seconds: 600,
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain("lab: storms ok");
    expect(console.match(/lab: back/g)?.length).toBe(turns);
    expect(console.match(/storm: .* process \d: [1-9]\d* rounds/g)?.length).toBe(4);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", vcpus: 4 }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("has two NUMA nodes, an expander's function in the second; its NVMe stands nvme-cli, and fio that verifies what it has written", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "two-socket-spr",
      arguments: machine(
        FIRST_STAGE,
        `-object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=256M
         -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2,memdev=m1 -numa dist,src=0,dst=1,val=21
         -device pxb-pcie,id=pcie.1,bus_nr=32,numa_node=1 -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2
         -device vfio-pci,host=0000:6b:00.0,id=qat,bus=rp2,iommufd=iommufd0
         -drive file=${lab.places}/tools.ext4,if=none,id=tools,format=raw -device nvme,drive=tools,serial=tools
         -blockdev driver=x-memory,node-name=work,size=64M -device nvme,drive=work,serial=work`,
        "-m 768M -smp 3",
      ),
      append: "quiet loglevel=1 lab=nodes,groups,dma,ats,tools function=0000:21:00.0",
      seconds: 600,
    });
    expect([stderr, status]).toEqual(["", 0]);
    const nodes = [...console.matchAll(/node (\d) cpus (\S+) KiB (\d+) distances (\d+ \d+)/g)].map(([, node, cpus, kib, distances]) => [node, cpus, Math.ceil(Number(kib) / 2 ** 18), distances]);
    // In quarters of a GiB: the kernel takes some of each node for itself.
    expect(nodes).toEqual([["0", "0-1", 2, "10 21"], ["1", "2", 1, "21 10"]]);
    expect(console).toContain("numa 0000:21:00.0 1");
    for (const name of ["dma", "ats"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(console).toContain("tools: done");
    expect(console).not.toContain("FAILED");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", vcpus: 3 }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("tells of a panic by pvpanic, which ends the machine", () => {
    const { console, report, stderr, status, monitor } = lab.boot({
      host: "two-socket-spr",
      arguments: "-machine q35,accel=kvm,kernel-irqchip=split -cpu host -m 256M -nodefaults -display none -device pvpanic-pci",
      append: "quiet lab=panic",
      steps: [{ on: "lab: ready", qmp: { execute: "query-status" } }],
    });
    expect([stderr, status]).toEqual(["", 1]);
    expect(console).toContain("Kernel panic - not syncing: Attempted to kill init");
    expect(monitor.replaceAll(" ", "")).toMatch(/"GUEST_PANICKED","data":\{"action":"poweroff"\}[^]*"STOP"[^]*"SHUTDOWN","data":\{"guest":true,"reason":"guest-panic"\}/);
    expect(report).toMatchObject({ ok: false, failure: expect.stringContaining("the guest's kernel has panicked: Attempted to kill init"), kernel: { end: "panic", resets: 0 }, hostObjects: { alive: 0 } });
  });
});
