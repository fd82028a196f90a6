/** Whole runs through the command line and whole machines: what several parts have to do together. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { linux } from "../../src/guest/index.js";
import { createSimulatedHost, describeHost, type SimulatedHost } from "../../src/host/simulated/index.js";
import { HostObserver, observeHost } from "../../src/host/instruments/index.js";
import { parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { reportSchema, type RunReport } from "../../src/run/report/index.js";
import { Log, Refusal } from "../../src/support/index.js";
import { viommu } from "../cli/streams.js";
import { hostInput } from "../machine/build.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Runs a file of arguments, or a text of them, and returns the account. */
async function account(words: readonly string[]): Promise<RunReport> {
  const { code, out, err } = await viommu("run", "--json", ...words);
  const report = reportSchema.parse(JSON.parse(out));
  expect({ failure: report.failure, code, err }).toEqual({ failure: null, code: 0, err: "" });
  return report;
}

async function accountOf(text: string, ...options: string[]): Promise<RunReport> {
  const folder = mkdtempSync(join(tmpdir(), "viommu-acceptance-"));
  try {
    const file = join(folder, "machine.args");
    writeFileSync(file, text);
    return await account([...options, file]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Functions that are no bridges, by their places: one that was plugged again is the last in the account. */
const endpoints = (report: RunReport): RunReport["machine"]["functions"] =>
  report.machine.functions.filter((fn) => !/^(?:pxb|pcie-|x)/.test(fn.model)).sort((a, b) => (a.bdf < b.bdf ? -1 : 1));
const failedSteps = (report: { steps: ReadonlyArray<{ name: string; ok: boolean; detail: string }> }): string[] =>
  report.steps.filter((step) => !step.ok).map((step) => `${step.name}: ${step.detail}`);

describe("npm start", () => {
  it("runs two accelerated SMMUs on two expander buses, four functions of a host with as many SMMUs, and a card on pcie.0", async () => {
    const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };
    const file = / run (\S+)$/.exec(scripts.start)![1];
    expect(file).toBe("examples/grace-two-smmus.args");
    const report = await account([join(root, file)]);
    const { machine, dma, events, msi, invalidation, hostCalls, hostObjects, warnings, ok } = report;

    expect(machine.iommus.map((iommu) => [iommu.id, iommu.bus, iommu.accel])).toEqual([
      ["smmu1", "pcie.1", true],
      ["smmu2", "pcie.2", true],
    ]);
    expect(new Set(machine.iommus.map((iommu) => iommu.hostIommu)).size).toBe(2);
    expect(machine.iommus.every((iommu) => iommu.hostIommu !== null)).toBe(true);
    expect(machine.functions.filter((fn) => fn.model === "pxb-pcie").map((fn) => fn.id)).toEqual(["pcie.1", "pcie.2"]);
    const passed = endpoints(report).filter((fn) => fn.host !== null);
    expect(passed.map((fn) => [fn.id, fn.iommu, fn.addressSpace])).toEqual([
      ["gpu0", "smmu1", "smmuv3-accel-as-sysmem"],
      ["nic0", "smmu1", "smmuv3-accel-as-sysmem"],
      ["gpu1", "smmu2", "smmuv3-accel-as-sysmem"],
      ["nic1", "smmu2", "smmuv3-accel-as-sysmem"],
    ]);
    for (const fn of passed) {
      const [bus, slot, number] = fn.bdf.split(/[:.]/).map((part) => Number.parseInt(part, 16));
      expect(fn.streamId).toBe((bus << 8) | (slot << 3) | number);
    }
    const emulated = endpoints(report).filter((fn) => fn.host === null);
    expect(emulated.map((fn) => [fn.bus, fn.iommu, fn.streamId, fn.addressSpace])).toEqual([["pcie.0", null, null, "memory"]]);

    expect(dma.transactions).toBeGreaterThan(passed.length);
    expect(dma.bytes).toBeGreaterThan(2 ** 20);
    expect(dma.faults).toBeGreaterThanOrEqual(events.length);
    expect(new Set(events.map((event) => event.iommu))).toEqual(new Set(["smmu1", "smmu2"]));
    // The doorbell is told by the SMMU: an address other than the one that the guest wrote.
    expect(msi.routes.map((route) => route.function)).toEqual(expect.arrayContaining(passed.map((fn) => fn.id)));
    expect(msi.routes.every((route) => route.doorbell === "0x8090040" && route.iova !== route.doorbell && route.direct && route.delivered > 0)).toBe(true);
    expect(invalidation.forwarded).toBeGreaterThan(0);
    expect(invalidation.forwarded).toBeLessThanOrEqual(invalidation.guestCommands);
    expect(invalidation.hostCalls).toBe(hostCalls.HWPT_INVALIDATE);
    // Two vSMMUs on two physical SMMUs: one IOAS.
    expect(hostCalls).toMatchObject({ IOAS_ALLOC: 1, VIOMMU_ALLOC: 2 });
    expect(hostObjects).toEqual({ created: hostObjects.created, freed: hostObjects.created, alive: 0 });
    expect(hostObjects.created).toBeGreaterThan(20);
    expect(warnings).toEqual([]);
    expect(ok).toBe(true);
  });

  it("says the same of the machine when the guest boots by ACPI, with any page size", async () => {
    const file = join(root, "examples/grace-two-smmus.args");
    for (const options of [
      ["--firmware", "acpi"],
      ["--firmware", "acpi", "--granule", "64K"],
      ["--granule", "16K"],
    ]) {
      const report = await account([...options, file]);
      expect(report.guest!.steps[0].detail).toContain(options.includes("acpi") ? "ACPI, 16384 MiB of RAM, 2 SMMUv3s" : "device tree");
      expect(report.guest!.steps.filter((step) => step.skipped !== null)).toEqual([]);
      expect(report.warnings).toEqual([]);
    }
  });
});

describe("command lines that others have written, with functions of the host's", () => {
  it("libvirt's, in JSON: addresses with 0x, a port that is function 1 of its slot, strings for enums", async () => {
    const report = await accountOf(`LC_ALL=C \\
PATH=/bin \\
USER=test \\
/usr/bin/qemu-system-aarch64 \\
-name guest=vm,debug-threads=on \\
-S \\
-object '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/tmp/master-key.aes"}' \\
-machine virt,usb=off,gic-version=3,dump-guest-core=off,memory-backend=mach-virt.ram,acpi=on \\
-accel kvm \\
-cpu host \\
-m size=1048576k \\
-object '{"qom-type":"memory-backend-ram","id":"mach-virt.ram","size":1073741824}' \\
-overcommit mem-lock=off \\
-smp 2,sockets=2,cores=1,threads=1 \\
-object '{"qom-type":"iommufd","id":"iommufd0","fd":"24"}' \\
-uuid 1ccfd97d-5eb4-478a-bbe6-88d254c16db7 \\
-display none \\
-no-user-config \\
-nodefaults \\
-chardev socket,id=charmonitor,fd=@mon-fd@,server=on,wait=off \\
-object '{"qom-type":"monitor-qmp","id":"monitor","chardev":"charmonitor"}' \\
-rtc base=utc \\
-no-shutdown \\
-boot strict=on \\
-device '{"driver":"pxb-pcie","bus_nr":252,"id":"pci.1","bus":"pcie.0","addr":"0x1"}' \\
-device '{"driver":"pxb-pcie","bus_nr":248,"id":"pci.2","bus":"pcie.0","addr":"0x2"}' \\
-device '{"driver":"pcie-root-port","port":0,"chassis":21,"id":"pci.3","bus":"pci.1","multifunction":true,"addr":"0x0"}' \\
-device '{"driver":"pcie-root-port","port":1,"chassis":22,"id":"pci.4","bus":"pci.1","addr":"0x0.0x1"}' \\
-device '{"driver":"pcie-root-port","port":168,"chassis":23,"id":"pci.5","bus":"pci.2","addr":"0x0"}' \\
-device '{"driver":"arm-smmuv3","primary-bus":"pci.1","id":"iommu0","accel":true,"ats":"on","ril":"off","ssidsize":"20","oas":"44"}' \\
-device '{"driver":"arm-smmuv3","primary-bus":"pci.2","id":"iommu1","accel":true,"ats":"on","ril":"off","ssidsize":"20","oas":"44"}' \\
-audiodev '{"id":"audio1","driver":"none"}' \\
-device '{"driver":"vfio-pci","host":"0008:01:00.0","id":"hostdev0","iommufd":"iommufd0","bus":"pci.4","addr":"0x0"}' \\
-device '{"driver":"vfio-pci","host":"0009:01:00.0","id":"hostdev1","iommufd":"iommufd0","bus":"pci.5","addr":"0x0"}' \\
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \\
-msg timestamp=on
`);
    expect(report.machine.functions.find((fn) => fn.id === "pci.4")!.bdf).toBe("fc:00.1");
    expect(report.machine.iommus.map((iommu) => iommu.features)).toEqual(Array.from({ length: 2 }, () => ({ stage: "1", ril: false, ats: true, oas: 44, ssidsize: 20, msi: false })));
    // By bus number: 248 and what is behind it comes first.
    expect(endpoints(report).map((fn) => [fn.id, fn.iommu])).toEqual([
      ["hostdev1", "iommu1"],
      ["hostdev0", "iommu0"],
    ]);
  });

  it("a cover letter's: NUMA nodes without memory, generic initiators, reserved windows, a PASID capability's place", async () => {
    const report = await accountOf(`qemu-system-aarch64 -machine virt,gic-version=3,highmem-mmio-size=2T \\
-cpu host -smp cpus=4 -m size=16G,slots=2,maxmem=66G -nographic \\
-bios QEMU_EFI.fd -object iommufd,id=iommufd0 -enable-kvm \\
-object memory-backend-ram,size=8G,id=m0 -object memory-backend-ram,size=8G,id=m1 \\
-numa node,memdev=m0,cpus=0-3,nodeid=0 -numa node,memdev=m1,nodeid=1 -numa node,nodeid=2 -numa node,nodeid=3 \\
-device pxb-pcie,id=pcie.1,bus_nr=1,bus=pcie.0 \\
-device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.0,accel=on,ats=on,ril=off,ssidsize=20,oas=48 \\
-device pcie-root-port,id=pcie.port1,bus=pcie.1,chassis=1,pref64-reserve=512G \\
-device vfio-pci,host=0008:01:00.0,rombar=0,id=dev0,iommufd=iommufd0,bus=pcie.port1,x-vpasid-cap-offset=0xff8 \\
-object acpi-generic-initiator,id=gi0,pci-dev=dev0,node=2 -object acpi-generic-initiator,id=gi1,pci-dev=dev0,node=3 \\
-device pxb-pcie,id=pcie.2,bus_nr=8,bus=pcie.0 \\
-device arm-smmuv3,primary-bus=pcie.2,id=smmuv3.1,accel=on,ats=on,ril=off,ssidsize=20,oas=48 \\
-device pcie-root-port,id=pcie.port2,bus=pcie.2,chassis=2,pref64-reserve=512G \\
-device vfio-pci,host=0009:01:00.0,rombar=0,id=dev1,iommufd=iommufd0,bus=pcie.port2,x-vpasid-cap-offset=0xff8 \\
-device virtio-blk-pci,drive=fs -drive file=image.qcow2,index=0,media=disk,format=qcow2,if=none,id=fs -net none -nographic
`);
    expect(report.machine.iommus.map((iommu) => [iommu.id, iommu.hostIommu === null])).toEqual([
      ["smmuv3.0", false],
      ["smmuv3.1", false],
    ]);
    expect(report.guest!.steps.find((step) => step.name === "PASIDs")!.skipped).toBeNull();
  });

  it("another's: accelerated SMMUs on pcie.0 and on an expander, one in software on another, all in one machine", async () => {
    const report = await accountOf(`./qemu-system-aarch64 -machine virt,accel=kvm,gic-version=3 -object iommufd,id=iommufd0 -bios QEMU_EFI \\
-cpu host -smp cpus=4 -m size=16G,slots=4,maxmem=256G -nographic -drive if=none,file=ubuntu.img,id=fs -kernel Image \\
-device arm-smmuv3,primary-bus=pcie.0,id=smmuv3.0,accel=on \\
-device vfio-pci,host=0008:01:00.0,bus=pcie.0,iommufd=iommufd0 \\
-device pxb-pcie,id=pcie.1,bus_nr=2,bus=pcie.0 \\
-device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1,accel=on \\
-device pcie-root-port,id=pcie1.port1,chassis=2,bus=pcie.1,pref64-reserve=2M,io-reserve=1K \\
-device vfio-pci,host=0009:01:00.0,bus=pcie1.port1,iommufd=iommufd0,id=net1 \\
-append "rdinit=init console=ttyAMA0 root=/dev/vda rw earlycon=pl011,0x9000000" \\
-device pxb-pcie,id=pcie.2,bus_nr=32,bus=pcie.0 \\
-device arm-smmuv3,primary-bus=pcie.2,id=smmuv3.2 \\
-device pcie-root-port,id=pcie2.port1,chassis=8,bus=pcie.2 \\
-device virtio-blk-pci,drive=fs,bus=pcie2.port1 -net none
`, "--guest", "linux");
    expect(endpoints(report).map((fn) => [fn.bdf.slice(0, 2) === "00", fn.iommu])).toEqual([
      [true, "smmuv3.0"],
      [false, "smmuv3.1"],
      [false, "smmuv3.2"],
    ]);
    expect(report.invalidation.iommus.map((one) => [one.iommu, one.hostCalls > 0])).toEqual([
      ["smmuv3.0", true],
      ["smmuv3.1", true],
      ["smmuv3.2", false],
    ]);
  });

  it("QEMU's documentation's: an expander without bus_nr", async () => {
    const report = await accountOf(`-M virt,gic-version=3 -m 1G -nodefaults -object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M
-numa node,memdev=m0 -numa node,memdev=m1
-device arm-smmuv3,primary-bus=pcie.0,id=smmuv3.0 -device virtio-net-pci
-device pxb-pcie,id=pcie.1,numa_node=1 -device arm-smmuv3,primary-bus=pcie.1,id=smmuv3.1
-device pcie-root-port,id=port,bus=pcie.1,chassis=1 -device nvme,serial=1,bus=port`);
    expect(endpoints(report).map((fn) => fn.iommu)).toEqual(["smmuv3.0", "smmuv3.1"]);
    expect(report.machine.buses.find((bus) => bus.id === "pcie.1")).toMatchObject({ number: 128, numaNode: 1, iommu: "smmuv3.1" });
  });

  it("shows what -trace asks for", async () => {
    const { code, err } = await viommu("run", "--guest", "none", "--", "-M", "virt", "-nodefaults", "-device", "edu", "-trace", "nope_*");
    expect([code, err]).toEqual([0, "viommu: warning: trace event 'nope_*' does not exist\n"]);
    const traced = await viommu("run", "--", "-M", "virt", "-nodefaults", "-device", "arm-smmuv3,primary-bus=pcie.0", "-trace", "enable=smmuv3_cmdq_*");
    expect(traced.err).toMatch(/^smmuv3_cmdq_opcode <--- SMMU_CMD_CFGI_STE_RANGE$/m);
    expect(traced.err).not.toMatch(/^smmuv3_write_mmio/m);
  });
});

const ACCEL =
  "-M virt,accel=kvm -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=16 " +
  "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on";

describe("who sits where", () => {
  it("a function behind a PCIe-to-PCI bridge does DMA with the bridge's requester id: its secondary bus, function 0", async () => {
    for (const firmware of ["dt", "acpi"]) {
      const report = await accountOf(`${ACCEL} -device pcie-pci-bridge,id=br,bus=rp1 -device vfio-pci,host=0009:01:00.0,bus=br,addr=3,id=gpu0,iommufd=iommufd0`, "--firmware", firmware);
      const [gpu] = endpoints(report);
      expect(gpu.bdf).toMatch(/:03\.0$/);
      expect(gpu.streamId).toBe(Number.parseInt(gpu.bdf.slice(0, 2), 16) << 8);
      // The guest enumerates twice, and reads the events with the StreamID of the first time.
      expect(report.events.length).toBeGreaterThan(0);
      expect(new Set(report.events.map((event) => event.streamId & 0xff))).toEqual(new Set([0]));
    }
  });

  it("what may not is refused before the host is asked for anything", () => {
    const wrong = [
      [`${ACCEL} -device virtio-net-pci,bus=rp1`, "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on"],
      [`${ACCEL} -device vfio-pci,host=0009:01:00.0,bus=rp1`, "vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on"],
    ];
    for (const [line, words] of wrong) {
      const { machine, observer, error } = start(line, newHost());
      expect(machine).toBeNull();
      expect(error!.words).toBe(words);
      expect([...observer.calls]).toEqual([]);
    }
  });

  it("two machines share one physical SMMU: each guest's tables, data, faults and interrupts are its own", async () => {
    const host = newHost();
    const [one, two] = [
      start(`${ACCEL} -device vfio-pci,host=0009:01:00.0,bus=rp1,id=a,iommufd=iommufd0`, host),
      start(`${ACCEL} -device vfio-pci,host=0009:02:00.0,bus=rp2,id=b,iommufd=iommufd0`, host),
    ];
    const machines = [one.machine!, two.machine!];
    expect(machines.map((machine) => machine.describe().iommus[0].hostIommu)).toEqual(["smmu3.0x0000000016600000", "smmu3.0x0000000016600000"]);
    // Both guests at the same time: they give the same ASIDs, IOVAs and, but for the slot, StreamIDs.
    const reports = await Promise.all(machines.map((machine, seed) => linux({ port: machine.port(), operator: machine.operator(), say: () => {}, options: { seed: seed + 1, granule: 4096, firmware: "dt", hotplug: machine.hotplugCandidates() } })));
    expect(reports.flatMap(failedSteps)).toEqual([]);
    expect(reports.every((report) => report.dmaChecked > 100_000 && report.events.length > 0)).toBe(true);
    one.machine!.shutdown();
    expect(host.liveObjects().length).toBeGreaterThan(0);
    two.machine!.shutdown();
    expect(host.liveObjects()).toEqual([]);
    host.close();
  });
});

describe("hotplug", () => {
  it("a machine that starts without a function behind its SMMU serves one that is plugged later", async () => {
    const host = newHost();
    const { machine } = start(`${ACCEL},ril=on,ats=on,oas=48,ssidsize=16`, host);
    expect(machine!.describe().iommus[0].hostIommu).toBeNull();
    const guest = (hotplug: ReadonlyArray<{ id: string; argument: string }>) =>
      linux({ port: machine!.port(), operator: machine!.operator(), say: () => {}, options: { seed: 1, granule: 4096, firmware: "dt", hotplug } });
    // What does not fit is refused alone: without iommufd, not on the host, emulated.
    const wrong = ["vfio-pci,host=0009:01:00.0,bus=rp1,id=gpu0", "vfio-pci,host=0009:09:00.0,bus=rp1,id=gpu0,iommufd=iommufd0", "e1000e,bus=rp1,id=gpu0"];
    for (const argument of wrong) {
      await expect(machine!.operator().plug(argument)).rejects.toBeInstanceOf(Refusal);
      expect(await machine!.operator().isPlugged("gpu0")).toBe(false);
    }
    const argument = "vfio-pci,host=0009:01:00.0,bus=rp1,id=gpu0,iommufd=iommufd0";
    await machine!.operator().plug(argument);
    await expect(machine!.operator().plug("vfio-pci,host=0008:01:00.0,bus=rp2,id=other,iommufd=iommufd0")).rejects.toThrow("A vSMMU corresponds to exactly one physical SMMU");
    const report = await guest([{ id: "gpu0", argument }]);
    expect(failedSteps(report)).toEqual([]);
    expect(report.dmaChecked).toBeGreaterThan(100_000);
    expect(report.steps.find((step) => step.name === "unplug and plug")!.skipped).toBeUndefined();
    machine!.shutdown();
    expect(host.liveObjects()).toEqual([]);
    host.close();
  });
});

function newHost(): SimulatedHost {
  return createSimulatedHost(describeHost(hostInput("grace")));
}

/** A started machine, or why there is none. */
function start(line: string, host: SimulatedHost): { machine: Machine | null; observer: HostObserver; error: Refusal | null } {
  const observer = new HostObserver();
  try {
    const machine = new Machine(parseArguments(splitWords(line)), observeHost(host, observer), new Log());
    machine.start();
    return { machine, observer, error: null };
  } catch (error) {
    if (error instanceof Refusal) {
      return { machine: null, observer, error };
    }
    throw error;
  }
}
