import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LabMachine, labWayOfEnvironment } from "../../bench/lab/machine.js";
import { measureRow } from "../../bench/lab/measure.js";
import { ROWS } from "../../bench/lab/rows.js";
import { packageFolder } from "../../src/support/index.js";
import { Lab, plugs } from "./lab.js";

/** What Linux's drivers make of a virt board and its accelerated SMMUs, seen from inside the guest and in the account. */
describe("Linux on virt", () => {
  const lab = new Lab("arm64");
  beforeAll(() => lab.start(), 1_800_000);
  afterAll(() => lab.stop());
  const nightly = process.env.VIOMMU_FUZZ === "nightly";

  const machine = (words = "", top = "-m 512M"): string => `
    -machine virt,accel=kvm,gic-version=3${words} -cpu host ${top} -nodefaults -display none
    -object iommufd,id=iommufd0
    -device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on
    -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp1,iommufd=iommufd0
    -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2
    -device pxb-pcie,id=pcie.2,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on
    -device pcie-root-port,id=rp3,bus=pcie.2,chassis=3 -device vfio-pci,host=0008:02:00.0,id=nic1,bus=rp3,iommufd=iommufd0`;
  const GROUPS = ["group \\d+ DMA(-FQ)? 0000:09:00\\.0", "group \\d+ DMA(-FQ)? 0000:11:00\\.0"];

  /** A host whose function 0009:03:00.0 is an NVMe with a disk of random bytes; returns the MD5 of its first 8 MiB. */
  const makeDisk = (): string => {
    const project = process.env.VIOMMU_LAB === "local" ? packageFolder() : "/root/viommu";
    const change = `const fs = require("fs"), host = JSON.parse(fs.readFileSync("${project}/hosts/grace.json", "utf8"));
      const disk = host.functions.find((one) => one.address === "0009:03:00.0");
      Object.assign(disk, { model: "nvme", backing: { file: "/tmp/disk.raw" }, bars: [{ index: 0, size: "128K", is64: true, prefetchable: false }] });
      fs.writeFileSync("/tmp/host.json", JSON.stringify(host));`;
    const sum = lab.shell(`node -e '${change}'; dd if=/dev/urandom of=/tmp/disk.raw bs=1M count=16 2>/dev/null; dd if=/tmp/disk.raw bs=1M count=8 2>/dev/null | md5sum | cut -c1-32`).trim();
    expect(sum).toMatch(/^[0-9a-f]{32}$/);
    return sum;
  };
  const withDisk = (top = "-m 512M"): string => machine("", top).replace("host=0009:02:00.0", "host=0009:03:00.0");

  it("boots by ACPI without firmware, and drives a function through nested tables with PASIDs", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      arguments: machine(),
      append: "quiet lab=groups,windows,silent,pasid,faults,pair function=0000:09:00.0",
    });
    expect([stderr, status]).toEqual(["", 0]);
    GROUPS.forEach((group) => expect(console).toMatch(new RegExp(group)));
    expect(console).not.toMatch(/FAILED|identity/);
    expect(console.match(/0x0000000008000000 0x00000000080fffff direct-relaxable/g)?.length).toBe(5);
    for (const name of ["silent", "pasid", "pair"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(console).toContain("pasid: three address spaces at one IOVA");
    expect(console).toMatch(/arm-smmu-v3 arm-smmu-v3\.0\.auto: event 0x10 received|arm-smmu-v3\.0\.auto: event:? F_TRANSLATION/);
    // What no device can answer is aborted, and the process goes on.
    expect(console).toContain("pair: aborted");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 0, exits: { ARM_NISV: 1 } }, hostObjects: { alive: 0 } });
  });

  it("has its disk behind nested tables: what is read is the file's, what is written is found there", () => {
    const sum = makeDisk();
    const { console, report, stderr, status } = lab.boot({ host: "/tmp/host.json", arguments: withDisk(), append: "quiet lab=disk token=t7" });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain(`md5 ${sum}`);
    expect(console).toContain("lab: disk ok");
    expect(lab.shell("dd if=/tmp/disk.raw bs=512 skip=4 count=1 2>/dev/null | head -c 15")).toBe("lab was here t7");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
    expect(report!.msi.delivered).toBeGreaterThan(20);
  });

  it("boots by the device tree, a domain for each expander, on two CPUs", () => {
    const { console, report, stderr, status } = lab.boot({ host: "grace", arguments: machine(",acpi=off", "-m 512M -smp 2"), append: "quiet lab=groups,windows" });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain(" 2 CPUs");
    expect(console).toMatch(/group \d+ DMA(-FQ)? 0001:09:00\.0/);
    expect(console).toMatch(/group \d+ DMA(-FQ)? 0002:11:00\.0/);
    expect(console.match(/0x0000000008000000 0x00000000080fffff direct /g)?.length).toBe(2);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", vcpus: 2 }, hostObjects: { alive: 0 } });
  });

  it("takes a function out and gets it back by pciehp", () => {
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      arguments: machine(),
      // The port sleeps once its slot is empty, and wakes by a PME.
      append: "quiet loglevel=1 lab=plug,silent,windows function=0000:09:00.0",
      steps: [
        { on: "lab: ready", qmp: { execute: "device_del", arguments: { id: "nic0" } } },
        { on: "DEVICE_DELETED", in: "monitor", qmp: { execute: "device_add", arguments: { driver: "vfio-pci", host: "0009:02:00.0", id: "nic0", bus: "rp1", iommufd: "iommufd0" } } },
      ],
    });
    expect([stderr, status]).toEqual(["", 0]);
    for (const name of ["plug", "silent"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("finds a place for the BARs of 128 GiB of four GPUs, each behind an SMMU of its own", () => {
    const gpus = ["0008", "0009", "0018", "0019"].map(
      (domain, n) => `-device pxb-pcie,id=pcie.${n + 1},bus_nr=${32 * (n + 1)} -device arm-smmuv3,primary-bus=pcie.${n + 1},id=smmu${n + 1},accel=on
        -device pcie-root-port,id=rp${n + 1},bus=pcie.${n + 1},chassis=${n + 1} -device vfio-pci,host=${domain}:01:00.0,bus=rp${n + 1},id=gpu${n + 1},iommufd=iommufd0`,
    );
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      arguments: `-machine virt,accel=kvm,gic-version=3,highmem-mmio-size=2T -cpu host -m 512M -nodefaults -display none -object iommufd,id=iommufd0 ${gpus.join(" ")}`,
      append: "quiet lab=groups,bars",
      seconds: 600,
    });
    expect([stderr, status]).toEqual(["", 0]);
    for (const bus of ["21", "41", "61", "81"]) {
      expect(console).toMatch(new RegExp(`group \\d+ DMA(-FQ)? 0000:${bus}:00\\.0`));
      const [, bars] = new RegExp(`bars 0000:${bus}:00\\.0 (.*)`).exec(console)!;
      const sizes = bars.trim().split(" ").map((bar) => bar.split("-").map(BigInt)).map(([first, last]) => last - first + 1n);
      expect(sizes).toEqual([2n ** 24n, 2n ** 37n, 2n ** 25n]);
    }
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  // The kernel kept beside the project has no kexec, Debian's has kexec_load.
  it.runIf(nightly)("starts another kernel by kexec, and its disk works", () => {
    const sum = makeDisk();
    const { console, report, stderr, status } = lab.boot({
      host: "/tmp/host.json",
      arguments: withDisk("-m 1G"),
      kernel: "vmlinuz-arm64",
      withKernel: true,
      append: "quiet lab=disk,kexec then=disk,iommu token=k1",
      seconds: 900,
    });
    expect([stderr, status]).toEqual(["", 0]);
    const [before, after] = console.split("lab: begun anew");
    expect(before).toContain(`md5 ${sum}`);
    expect(after).toMatch(/group \d+ DMA(-FQ)? 0000:09:00\.0/);
    expect(after).toContain("lab: disk ok");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 0 }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("starts a crash kernel after a panic, which takes the SMMUs over and drives the disk", () => {
    makeDisk();
    const { console, report, stderr, status } = lab.boot({
      host: "/tmp/host.json",
      arguments: withDisk("-m 1G"),
      kernel: "vmlinuz-arm64",
      withKernel: true,
      append: "quiet crashkernel=256M lab=disk,kdump then=disk,iommu token=k2",
      seconds: 900,
    });
    expect([stderr, status]).toEqual(["", 0]);
    const [before, after] = console.split("lab: panic");
    expect(before).toContain("lab: disk ok");
    expect(after).toMatch(/Kernel panic - not syncing: Attempted to kill init/);
    for (const name of ["again", "crashed", "groups", "disk"]) {
      expect(after).toContain(`lab: ${name} ok`);
    }
    expect(after).toContain("vmcore 177ELF");
    // Linux's driver switches an SMMU off before a kexec (arm_smmu_device_shutdown), and leaves it on in a panic.
    expect(after.match(/SMMU currently enabled! Resetting\.\.\./g)?.length).toBe(2);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 0, panics: [expect.stringMatching(/^Attempted to kill init/)] }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("drives the disk with a kernel whose pages are of 16 KiB", () => {
    const sum = makeDisk();
    const { console, report, stderr, status } = lab.boot({ host: "/tmp/host.json", arguments: withDisk("-m 1G"), kernel: "vmlinuz-arm64-16k", append: "quiet lab=groups,disk token=t16", seconds: 900 });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toMatch(/lab: ready, Linux \S*-16k/);
    expect(console).toContain(`md5 ${sum}`);
    expect(console).toContain("lab: disk ok");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("resets the machine by the guest's reboot, and boots again", () => {
    lab.shell("dd if=/dev/zero of=/tmp/disk.raw bs=1M count=16");
    const { console, report } = lab.boot({
      host: "grace",
      arguments: `${machine()} -drive file=/tmp/disk.raw,if=none,id=disk,format=raw -device nvme,drive=disk,serial=lab,bus=pcie.0`,
      append: "quiet lab=silent,once function=0000:09:00.0",
      seconds: 600,
    });
    expect(console).toContain("lab: reboot");
    expect(console).toContain("lab: again after a reboot");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", resets: 1 }, hostObjects: { alive: 0 } });
  });

  const disks = (first: string, second: string): string => `
    -drive file=/tmp/disk.raw,if=none,id=disk,format=raw -device nvme,drive=disk,serial=lab,${first}
    -blockdev driver=x-memory,node-name=engine,size=16M -device nvme,drive=engine,serial=engine,${second}`;

  it.runIf(nightly)("drives functions behind the machine's SMMU, whose tables software walks", () => {
    const sum = lab.shell("dd if=/dev/urandom of=/tmp/disk.raw bs=1M count=16 2>/dev/null; dd if=/tmp/disk.raw bs=1M count=8 2>/dev/null | md5sum | cut -c1-32").trim();
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      arguments: `-machine virt,accel=kvm,gic-version=3,iommu=smmuv3 -cpu host -m 512M -nodefaults -display none ${disks("addr=2", "addr=3")}`,
      append: "quiet loglevel=1 lab=groups,disk,dma,faults function=0000:00:03.0 serial=lab token=legacy",
    });
    expect([stderr, status]).toEqual(["", 0]);
    for (const address of ["02", "03"]) {
      expect(console).toMatch(new RegExp(`group \\d+ DMA(-FQ)? 0000:00:${address}\\.0`));
    }
    expect(console).toContain(`md5 ${sum}`);
    for (const name of ["disk", "dma"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(console).toMatch(/event 0x10 received|event:? F_TRANSLATION/);
    expect(lab.shell("dd if=/tmp/disk.raw bs=512 skip=4 count=1 2>/dev/null | head -c 19")).toBe("lab was here legacy");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly)("has an SMMU whose tables software walks beside two accelerated ones", () => {
    lab.shell("dd if=/dev/zero of=/tmp/disk.raw bs=1M count=16 2>/dev/null");
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      arguments: `${machine()} -device pxb-pcie,id=pcie.3,bus_nr=24 -device arm-smmuv3,primary-bus=pcie.3,id=smmu3
        -device pcie-root-port,id=rp4,bus=pcie.3,chassis=4 -device pcie-root-port,id=rp5,bus=pcie.3,chassis=5 ${disks("bus=rp4", "bus=rp5")}`,
      append: "quiet loglevel=1 lab=groups,disk,silent,ats,dma:0000:1a:00.0,faults function=0000:09:00.0 serial=lab token=beside",
    });
    expect([stderr, status]).toEqual(["", 0]);
    [...GROUPS, "group \\d+ DMA(-FQ)? 0000:19:00\\.0", "group \\d+ DMA(-FQ)? 0000:1a:00\\.0"].forEach((group) => expect(console).toMatch(new RegExp(group)));
    for (const name of ["disk", "silent", "ats", "dma:0000:1a:00.0"]) {
      expect(console).toContain(`lab: ${name} ok`);
    }
    expect(lab.shell("dd if=/tmp/disk.raw bs=512 skip=4 count=1 2>/dev/null | head -c 19")).toBe("lab was here beside");
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 } });
    expect(report!.machine.iommus.map(({ id, accel }) => [id, accel])).toEqual([["smmu1", true], ["smmu2", true], ["smmu3", false]]);
  });

  it.runIf(nightly)("loses nothing while four processes map, use and unmap, and a function comes and goes", () => {
    const turns = 2;
    const { console, report, stderr, status } = lab.boot({
      host: "grace",
      // Two on the second SMMU work; the one on the first comes and goes.
      arguments: `${machine("", "-m 512M -smp 4").replace("host=0008:02:00.0", "host=0000:01:00.0")} -device pcie-root-port,id=rp4,bus=pcie.2,chassis=4 -device vfio-pci,host=0000:01:00.1,id=nic2,bus=rp4,iommufd=iommufd0`,
      append: `quiet loglevel=1 pcie_port_pm=off lab=storms with=silent turns=${turns} function=0000:09:00.0 others=0000:11:00.0,0000:12:00.0`,
      steps: plugs(turns, "lab: turn", { driver: "vfio-pci", host: "0009:02:00.0", id: "nic0", bus: "rp1", iommufd: "iommufd0" }),
      seconds: 800,
    });
    expect([stderr, status]).toEqual(["", 0]);
    expect(console).toContain("lab: storms ok");
    expect(console.match(/lab: back/g)?.length).toBe(turns);
    expect(console.match(/storm: .* process \d: [1-9]\d* rounds/g)?.length).toBe(4);
    expect(report).toMatchObject({ ok: true, kernel: { end: "power-off", vcpus: 4 }, hostObjects: { alive: 0 } });
  });

  it.runIf(nightly).each([
    ["once for an unmap with a CMD_SYNC that is told in memory, and not for a map", "smmu.nested", [1, 1, 2]],
    ["twice for an unmap with x-msi=off,x-register-pages=off", "smmu.nestedNoMsi", [2, 2, 4]],
    ["once more for the function's own TLB", "smmu.nestedAts", [2, 2, 4]],
  ])("leaves the guest %s", (_, name, exits) => {
    const row = ROWS.arm64.find((one) => one.name === name)!;
    const measured = measureRow(new LabMachine("arm64", { ...labWayOfEnvironment(), running: true }), row, 0);
    expect(measured).toMatchObject({ map: { exits: [0, 0, 0] }, unmap: { exits } });
    // The command queue's registers, and no other.
    expect(Object.keys(measured.exitsBy).filter((place) => !/^(write 0xc000098|read 0xc00009c)$/.test(place))).toEqual([]);
  });
});
