import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LabMachine, labWayOfEnvironment } from "../../bench/lab/machine.js";
import { measureRow } from "../../bench/lab/measure.js";
import { ROWS } from "../../bench/lab/rows.js";
import { hostKernels, Lab, outAndBack, type Booted } from "./lab.js";

/**
 * A Linux as the host: its iommufd, VFIO and SMMUv3s that nest (lab/host-arm64.sh, docs/lab.md has its functions), with
 * guests that have its functions behind accelerated SMMUs.
 */
const lab = new Lab("host-arm64");
const nightly = process.env.VIOMMU_FUZZ === "nightly";
const boots = Number(process.env.VIOMMU_LAB_BOOTS ?? (nightly ? 100 : 2));
const kills = Number(process.env.VIOMMU_LAB_KILLS ?? (nightly ? 20 : 4));
const MiB = 2 ** 20;

interface Words {
  readonly machine?: string;
  readonly top?: string;
  /** Functions behind the first SMMU and behind the second. */
  readonly first?: readonly string[];
  readonly second?: readonly string[];
}

/** Ids are fn0, fn1, ... in the order of the functions; ports rp0, rp1, ...; buses of the guest from 9 and from 17. */
function machine({ machine: more = "", top = "-m 256M", first = ["0000:01:00.0"], second = [] }: Words = {}): string {
  let n = 0;
  const port = (bus: string) => (host: string) => `-device pcie-root-port,id=rp${n},bus=${bus},chassis=${n + 1} -device vfio-pci,host=${host},id=fn${n},bus=rp${n++},iommufd=iommufd0`;
  const words = [
    `-machine virt,accel=kvm,gic-version=3${more} -cpu host ${top} -nodefaults -display none -object iommufd,id=iommufd0`,
    "-device pxb-pcie,id=pcie.1,bus_nr=8 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on",
    ...first.map(port("pcie.1")),
  ];
  if (second.length > 0) {
    words.push("-device pxb-pcie,id=pcie.2,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on", ...second.map(port("pcie.2")));
  }
  return words.join("\n");
}

const NVME0 = "0000:01:00.0";
const NVME1 = "0000:02:00.0";
const EDU = "0000:00:07.0";
const OTHER_NVME = "0000:21:00.0";
const OTHER_EDU = "0000:22:00.0";

/** The console has errors of drivers only where a test asks for them: a character is two exits. */
function boot(words: Words, append: string, more: Partial<Parameters<Lab["boot"]>[0]> = {}): Booted {
  return lab.boot({ host: "linux", arguments: machine(words), append: `quiet loglevel=2 ${append}`, ...more });
}

/** It has run to its end without a word about the host or the machine. */
function ended(booted: Booted, also: object = {}): void {
  expect([booted.stderr, booted.status]).toEqual(["", 0]);
  expect(booted.console).toContain("lab: done");
  expect(booted.console).not.toMatch(/FAILED|identity/);
  expect(booted.report).toMatchObject({ ok: true, kernel: { end: "power-off" }, hostObjects: { alive: 0 }, ...also });
}

/** lab/host/state.sh, once what ended has been cleared away. */
function state(): Record<string, number> {
  return Object.fromEntries(
    lab
      .shell("sleep 1; sh viommu/lab/host/state.sh")
      .trim()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([name, value]) => [name, Number(value)]),
  );
}

/** Nothing more than before: no descriptor, machine or table of an IOMMU, no complaint of the kernel; memory to half a guest. */
function nothingLeft(before: Record<string, number>): void {
  const after = state();
  expect({ ...after, available: 0, files: 0 }).toEqual({ ...before, available: 0, files: 0 });
  expect(before.available - after.available).toBeLessThan(64 * 1024);
}

beforeAll(() => lab.start(), 1_800_000);
afterAll(() => lab.stop());

describe.each(hostKernels().map((kernel, n, all) => ({ kernel, name: basename(kernel), first: n === all.length - 1 })).reverse())("a Linux host, $name", ({ kernel, first }) => {
  // The lab is built with the last.
  beforeAll(() => {
    if (!first) {
      lab.restart(kernel);
    }
    lab.shell(`sh viommu/lab/host/bind.sh ${[NVME0, NVME1, EDU, OTHER_NVME, OTHER_EDU].join(" ")}`);
  }, 1_800_000);

  it.runIf(nightly)("answers the conformance suite as its record says, and has nothing left of it", () => {
    const before = state();
    const devices = [NVME0, NVME1, OTHER_NVME].map((address) => `--device ${address}`).join(" ");
    const told = lab.shell(`cd viommu; node dist/lib/cli/main.js conformance --host linux ${devices} --reset --illegal; echo "exit $?"`);
    expect(told).toMatch(/^Kernel: Linux 7\.[23]/m);
    expect(told).toContain("the kernel answers as recorded\nexit 0\n");
    nothingLeft(before);
  });

  it("gives a guest a disk and a DMA engine behind nested tables, and tells it of faults", () => {
    const sum = lab.diskSum("nvme1.img", 8 * MiB);
    const booted = boot({ first: [NVME0, EDU] }, "lab=groups,windows,disk,irqs,edu,faults token=acpi function=0000:0a:00.0");
    ended(booted);
    expect(booted.console).toMatch(/group \d+ DMA(-FQ)? 0000:09:00\.0/);
    expect(booted.console).toMatch(/group \d+ DMA(-FQ)? 0000:0a:00\.0/);
    expect(booted.console).toContain(`md5 ${sum}`);
    expect(lab.diskBytes("nvme1.img", 4 * 512, 18).toString()).toBe("lab was here acpi\n");
    // By irqfd: the guest has had interrupts of both queues, and none by this process.
    expect(booted.console).toMatch(/ [1-9]\d* +ITS-PCI-MSIX-0000:09:00\.0 +0 Edge +nvme0q0/);
    expect(booted.console).toMatch(/ [1-9]\d* +ITS-PCI-MSIX-0000:09:00\.0 +1 Edge +nvme0q1/);
    expect(booted.report!.msi.routes.filter((route) => route.function === "fn0").map(({ vector, delivered }) => [vector, delivered])).toEqual(expect.arrayContaining([[0, 0], [1, 0]]));
    expect(booted.console).toContain("edu: 8 KiB through its buffer");
    expect(booted.console).toContain("edu: unmapped memory is not reached");
    expect(booted.console).toMatch(/event: F_TRANSLATION client: 0000:0a:00\.0 sid: 0xa00 ssid: 0x0 iova: 0x(100|234)[0-9a-f]{4}/);
  });

  it("boots by the device tree, with two CPUs", () => {
    const sum = lab.diskSum("nvme1.img", 8 * MiB);
    const booted = boot({ machine: ",acpi=off", top: "-m 256M -smp 2", first: [NVME0, EDU] }, "lab=groups,disk,stray,faults token=tree function=0001:0a:00.0");
    ended(booted, { kernel: { end: "power-off", vcpus: 2 } });
    expect(booted.console).toContain(`md5 ${sum}`);
    expect(lab.diskBytes("nvme1.img", 4 * 512, 18).toString()).toBe("lab was here tree\n");
    expect(booted.console).toMatch(/group \d+ DMA(-FQ)? 0001:09:00\.0/);
    expect(booted.console).toMatch(/event: F_TRANSLATION client: 0001:0a:00\.0 sid: 0xa00 ssid: 0x0 iova: 0x2345000/);
  });

  it("has two vSMMUs on two SMMUs, two functions of one of them among it", () => {
    const sums = { "09": "nvme1.img", "0a": "nvme2.img", "11": "nvme3.img" };
    const booted = boot({ first: [NVME0, NVME1], second: [OTHER_NVME, OTHER_EDU] }, "lab=groups,sums,edu,faults function=0000:12:00.0");
    ended(booted);
    for (const [bus, file] of Object.entries(sums)) {
      expect(booted.console).toContain(`sum 0000:${bus}:00.0 ${lab.diskSum(file, 8 * MiB)}`);
      expect(booted.console).toMatch(new RegExp(`group \\d+ DMA(-FQ)? 0000:${bus}:00\\.0`));
    }
    expect(booted.console).toMatch(/arm-smmu-v3\.1\.auto: event: F_TRANSLATION client: 0000:12:00\.0 sid: 0x1200/);
  });

  it("refuses a function behind the wrong SMMU before the kernel does", () => {
    const { status, stderr, report } = boot({ first: [NVME0, OTHER_NVME] }, "lab=groups");
    expect([status, report]).toEqual([2, null]);
    expect(stderr).toMatch(/0000:21:00\.0.*smmu3\.0x000000000c020000.*smmu3\.0x000000000c000000/s);
    expect(stderr).not.toContain("EINVAL");
  });

  const disk = { driver: "vfio-pci", host: NVME0, id: "fn0", bus: "rp0", iommufd: "iommufd0" };

  it("takes a disk out while it is read and gets it back by pciehp", () => {
    const booted = boot({ first: [NVME0] }, "pcie_port_pm=off lab=sums,load,plug,sums function=0000:09:00.0", { steps: outAndBack("lab: load ok", disk) });
    ended(booted);
    expect(booted.console).toContain("lab: plug ok");
    expect(booted.console.match(new RegExp(`sum 0000:09:00\\.0 ${lab.diskSum("nvme1.img", 8 * MiB)}`, "g"))?.length).toBe(2);
  });

  it.runIf(nightly)("takes a disk out while fio reads it and gets it back, and fio reads it again", () => {
    const tools = `-drive file=${lab.places}/tools.ext4,if=none,id=tools,format=raw -device nvme,drive=tools,serial=tools`;
    const booted = boot({ first: [NVME0], top: `-m 384M -smp 2 ${tools}` }, "pcie_port_pm=off lab=fio,plug,fio,sums function=0000:09:00.0 serial=lab1", { steps: outAndBack("lab: fio ok", disk) });
    ended(booted, { kernel: { end: "power-off", vcpus: 2 } });
    expect(booted.console).toContain("lab: plug ok");
    expect(booted.console).toMatch(/fio: error \d+ after [1-9]\d* KiB/);
    expect(booted.console).toContain(`sum 0000:09:00.0 ${lab.diskSum("nvme1.img", 8 * MiB)}`);
  });

  it("resets a function by FLR under its driver, and the machine by the guest's reboot", () => {
    lab.writeDisk("nvme1.img", 8 * 512, Buffer.alloc(512));
    const booted = boot({ first: [NVME0] }, "lab=sums,flr,sums,once,sums function=0000:09:00.0");
    ended(booted, { kernel: { end: "power-off", resets: 1 } });
    expect(booted.console).toContain("lab: again after a reboot");
    const sums = [...booted.console.matchAll(/sum 0000:09:00\.0 ([0-9a-f]{32})/g)].map(([, sum]) => sum);
    expect(sums.length).toBe(5);
    // `once` has written between the second and the third.
    expect([sums[1], ...sums.slice(3)]).toEqual([sums[0], sums[2], sums[2]]);
    expect(sums[4]).toBe(lab.diskSum("nvme1.img", 8 * MiB));
  });

  it.runIf(process.env.VIOMMU_LAB_KERNEL_64K !== undefined)("has guests with pages of 64K", () => {
    const booted = boot({ first: [NVME0, EDU] }, "lab=groups,sums,edu function=0000:0a:00.0", { kernel: "vmlinuz-64k" });
    ended(booted);
    expect(booted.console).toContain(`sum 0000:09:00.0 ${lab.diskSum("nvme1.img", 8 * MiB)}`);
    expect(booted.console).toContain("edu: 8 KiB through its buffer");
  });

  it("passes the pin of a function through, masked and unmasked", () => {
    ended(boot({ first: [EDU] }, "lab=intx function=0000:09:00.0"));
  });

  it.runIf(nightly).each([
    ["linux.viommu", "by range"],
    ["linuxNoRanges.viommu", "page by page"],
  ])("makes one host call and one exit of what the guest's queue holds: %s, invalidations %s", (name) => {
    const row = ROWS["host-arm64"].find((one) => one.name === name)!;
    const measured = measureRow(new LabMachine("host-arm64", { ...labWayOfEnvironment(), running: true }), row, 0);
    expect(measured).toMatchObject({ map: { exits: [0, 0, 0], hostCalls: [0, 0, 0] }, unmap: { exits: [1, 1, 2], hostCalls: [1, 1, 2] }, read: { exits: [1, 1, 4], hostCalls: [1, 1, 4] } });
  });

  it("takes back what it has made, whichever of its calls is refused", () => {
    const before = state();
    const out = lab.shell(`node viommu/lab/host/failing.mjs linux ${NVME1} ${nightly ? 40 : 1} 2>/dev/null`, 3600);
    const { calls, first, last, left } = JSON.parse(out) as { calls: Record<string, number>; first: object; last: object; left: object[] };
    expect([first, last, left]).toEqual([{ outcome: "fine", why: null, alive: 0 }, { outcome: "fine", why: null, alive: 0 }, []]);
    expect(Object.keys(calls)).toEqual(expect.arrayContaining(["VIOMMU_ALLOC", "VDEVICE_ALLOC", "VEVENTQ_ALLOC", "HWPT_INVALIDATE", "VFIO_SET_IRQS"]));
    nothingLeft(before);
  }, nightly ? 28_800_000 : 3_600_000);

  it("leaves nothing on the host, boot after boot", () => {
    ended(boot({ first: [NVME0, EDU], second: [OTHER_NVME] }, "lab=groups"));
    const before = state();
    for (let n = 0; n < boots; n++) {
      ended(boot({ first: [NVME0, EDU], second: [OTHER_NVME] }, "lab=sums"));
    }
    nothingLeft(before);
  }, nightly ? 28_800_000 : 3_600_000);

  it("leaves nothing when it is killed at any moment, and the functions work again", () => {
    const before = state();
    let seed = Number(process.env.VIOMMU_FUZZ_SEED ?? 1);
    for (let n = 0; n < kills; n++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      // At any moment, or while its disk is read.
      const [killOn, killAfter] = n % 2 === 0 ? [undefined, 500 + (seed >>> 8) % 60_000] : ["lab: load ok", (seed >>> 8) % 5000];
      console.log(`killed ${killAfter} ms after ${killOn ?? "its start"}`);
      const { signal } = boot({ first: [NVME0, EDU], second: [OTHER_NVME] }, "lab=load,wait", { killAfter, killOn });
      expect(signal).toBe("SIGKILL");
    }
    nothingLeft(before);
    const booted = boot({ first: [NVME0, EDU], second: [OTHER_NVME] }, "lab=sums");
    ended(booted);
    expect(booted.console).toContain(`sum 0000:09:00.0 ${lab.diskSum("nvme1.img", 8 * MiB)}`);
  }, nightly ? 28_800_000 : 3_600_000);
});
