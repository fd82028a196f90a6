import { describe, expect, it } from "vitest";
import { Kernel, linux, type GuestOptions, type GuestStep } from "../../src/guest/index.js";
import { contextFor, machineOf, runLinux } from "./end-to-end.js";

const GRACE =
  "-M virt,accel=kvm,gic-version=3 -m 2G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10,bus=pcie.0 " +
  "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=20 " +
  "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2 " +
  "-device vfio-pci,host=0008:01:00.0,bus=rp1,iommufd=iommufd0,id=gpu0 -device vfio-pci,host=0008:02:00.0,bus=rp2,iommufd=iommufd0,id=nic0 -device e1000e";
const GRACE_PLUG = { hotplug: [{ id: "nic0", argument: "vfio-pci,host=0008:02:00.0,bus=rp2,iommufd=iommufd0,id=nic0" }] };
const SMALL =
  "-M virt,accel=kvm,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on " +
  "-device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:01:00.0,bus=rp1,iommufd=iommufd0,id=nic0 -device pcie-root-port,id=rp2,chassis=2";
const SMALL_PLUG = { hotplug: [{ id: "nic0", argument: "vfio-pci,host=0000:01:00.0,bus=rp1,iommufd=iommufd0,id=nic0" }] };
/** Emulated functions of every kind, on the root bus, behind a port and behind a conventional bridge. */
const EMULATED =
  "-nodefaults -m 512 -device e1000e,id=n0 -device edu -device iommu-testdev -device pcie-root-port,id=rp1,chassis=1 -device nvme,serial=1,bus=rp1,id=d0 " +
  "-device pcie-pci-bridge,id=br,bus=pcie.0 -device edu,bus=br,addr=1 -device edu,bus=br,addr=2 -device virtio-net-pci -device virtio-blk-pci";
const EMULATED_PLUG = { hotplug: [{ id: "d0", argument: "nvme,serial=1,bus=rp1,id=d0" }] };

/** Name of each step that was skipped. */
const skipped = (steps: readonly GuestStep[]): string[] => steps.filter((step) => step.skipped !== undefined).map((step) => step.name);

describe("the linux guest, from the firmware's tables to a kexec", () => {
  it.each<[string, string, string, Partial<GuestOptions>, string[]]>([
    ["an accelerated SMMU", "grace", GRACE, GRACE_PLUG, []],
    ["an accelerated SMMU described by ACPI", "grace", GRACE, { ...GRACE_PLUG, firmware: "acpi" }, []],
    ["64 KiB pages", "grace", GRACE, { ...GRACE_PLUG, granule: 65536 }, []],
    ["16 KiB pages, CMD_SYNC without a signal", "grace", GRACE, { ...GRACE_PLUG, granule: 16384, sync: "none" }, []],
    ["CMD_SYNC by interrupt", "grace", GRACE, { ...GRACE_PLUG, sync: "irq" }, []],
    ["a host without range invalidation", "arm-small", SMALL, SMALL_PLUG, ["PASIDs", "ATS"]],
    ["emulated functions behind the legacy SMMU", "board", `-M virt,iommu=smmuv3,gic-version=3 ${EMULATED}`, EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["a GICv2m frame", "board", `-M virt,iommu=smmuv3,gic-version=2 ${EMULATED}`, EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["a GICv2m frame of which so many SPIs are used that they reach the SMMU's own", "board", `-M virt,iommu=smmuv3,gic-version=2 ${EMULATED}${" -device e1000e".repeat(5)}`, EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["stage 2 alone", "board", `-M virt,gic-version=3 ${EMULATED} -device arm-smmuv3,primary-bus=pcie.0,stage=2`, EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["both stages, 64 KiB pages", "board", `-M virt,gic-version=3 ${EMULATED} -device arm-smmuv3,primary-bus=pcie.0,stage=nested`, { ...EMULATED_PLUG, granule: 65536, firmware: "acpi" }, ["PASIDs", "ATS"]],
  ])("goes well with %s", async (_what, host, line, options, left) => {
    const ran = await runLinux(host, line, options);
    expect(ran.report.steps.filter((step) => !step.ok)).toEqual([]);
    expect(ran.report.ok).toBe(true);
    expect(skipped(ran.report.steps)).toEqual(left);
    expect(ran.left).toBe(0);
    expect(ran.report.dmaChecked).toBeGreaterThan(100_000);
    // Each function's unmapped page, one write to a page for reading only, and two substreams each where they are offered.
    const names = ran.report.events.map((event) => event.name);
    expect(names.filter((name) => name === "F_PERMISSION")).toHaveLength(1);
    expect(new Set(names)).toEqual(new Set(left.includes("PASIDs") ? ["F_TRANSLATION", "F_PERMISSION"] : ["F_TRANSLATION", "F_PERMISSION", "C_BAD_CD"]));
  });

  it("does DMA, takes messages and replugs where there is no SMMU at all", async () => {
    const { report, left } = await runLinux("board", `-M virt,gic-version=3 ${EMULATED}`, EMULATED_PLUG);
    expect(report).toMatchObject({ ok: true, events: [] });
    expect(report.dmaChecked).toBeGreaterThan(100_000);
    expect(report.steps.find((step) => step.name === "messages")?.detail).toContain("msix x3");
    expect(report.steps.find((step) => step.name === "unplug and plug")?.detail).toContain("d0: ");
    expect(skipped(report.steps)).toContain("own tables");
    expect(left).toBe(0);
  });

  it.each([
    ["accelerated", "grace", GRACE, GRACE_PLUG],
    ["in software", "board", `-M virt,iommu=smmuv3,gic-version=3 ${EMULATED}`, EMULATED_PLUG],
  ])("polls slots and leaves messages out where the machine has no MSI controller, %s", async (_what, host, line, options) => {
    const { report, left } = await runLinux(host, line.replace("gic-version=3", "gic-version=3,its=off"), options);
    expect(report.steps.filter((step) => !step.ok)).toEqual([]);
    expect(report.steps.find((step) => step.name === "messages")?.skipped).toBe("the machine has no MSI controller");
    expect(report.steps.find((step) => step.name === "unplug and plug")?.detail).toContain("plugged");
    expect(left).toBe(0);
  });

  it("says what an empty machine has nothing for", async () => {
    const { report } = await runLinux("board", "-M virt -nodefaults");
    expect(report.ok).toBe(true);
    expect(report.steps.find((step) => step.name === "enable IOMMUs")?.skipped).toBe("the firmware describes no IOMMU");
    expect(report.steps.find((step) => step.name === "identity DMA")?.skipped).toBe("no function does DMA");
  });

  it("gives other bus numbers, so other StreamIDs, after the reset, and takes over an enabled SMMU at kexec", async () => {
    const { report } = await runLinux("grace", GRACE, GRACE_PLUG);
    const detail = (name: string): string => report.steps.find((step) => step.name === name)?.detail ?? "";
    expect(detail("enumerate PCI")).toContain("11:00.0 (StreamID 0x1100)");
    expect(detail("second boot: enumerate PCI")).toContain("12:00.0 (StreamID 0x1200)");
    expect(detail("kexec: take-over")).toBe("smmuv3@c000000 found enabled, aborted and set up anew");
    expect(detail("PASIDs")).toMatch(/PASID 1 .*PASID 1048575 .*C_BAD_CD/);
    expect(detail("unplug and plug")).toMatch(/^nic0: 12:00.0 unplugged, 12:00.0 plugged/);
    expect(detail("nothing else")).toMatch(/^7 events, all provoked/);
    expect(detail("tear down")).toContain("their functions bypass, as their reserved window demands");
  });

  it("kexecs into RAM that the kernel before does not use: queues and tables are elsewhere", async () => {
    const { machine, end } = machineOf("grace", GRACE);
    const context = contextFor(machine);
    const bases: bigint[][] = [];
    const write = context.port.write.bind(context.port);
    context.port.write = (address, size, value) => {
      // STRTAB_BASE, CMDQ_BASE, EVENTQ_BASE.
      if (size === 8 && [0x80, 0x90, 0xa0].includes(address - 0xc00_0000)) {
        if (address === 0xc00_0080) {
          bases.push([]);
        }
        bases.at(-1)!.push(value & 0xf_ffff_ffff_ffe0n);
      }
      return write(address, size, value);
    };
    expect((await linux(context)).ok).toBe(true);
    end();
    expect(bases.map((boot) => boot.length)).toEqual([3, 3, 3]);
    expect(bases[1].filter((base) => bases[2].includes(base))).toEqual([]);
  });

  it("hands out no IOVA that a reserved window or another function's BAR has", async () => {
    const { machine, end } = machineOf("grace", GRACE);
    const kernel = new Kernel(machine.port(), { granule: 12, firmware: "dt" });
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    const device = kernel.devices.find((one) => one.dma !== null && one.master !== null)!;
    const { iovas } = await kernel.createDomain(device);
    const windows = [...kernel.windowsOf(device), ...device.bridge.description.windows.map((window) => ({ base: window.pciBase, size: window.size }))];
    expect(windows.length).toBeGreaterThan(1);
    for (const { base, size } of windows) {
      const iova = Number(iovas.allocate(0x1000, base + size));
      expect(windows.filter((window) => iova >= window.base && iova < window.base + window.size)).toEqual([]);
    }
    end();
  });

  it("is the same with the same seed, and other with another", async () => {
    const runs = await Promise.all([1, 1, 2].map((seed) => runLinux("board", `-M virt,iommu=smmuv3 ${EMULATED}`, { seed })));
    expect(runs[0].said).toEqual(runs[1].said);
    expect(runs[0].report.dmaChecked).not.toBe(runs[2].report.dmaChecked);
  });
});

describe("a machine that does wrong is found out", () => {
  async function failing(change: (context: ReturnType<typeof contextFor>) => void): Promise<GuestStep> {
    const { machine, end } = machineOf("grace", GRACE);
    const context = contextFor(machine, GRACE_PLUG);
    change(context);
    const report = await linux(context);
    end();
    expect(report.ok).toBe(false);
    const failed = report.steps.filter((step) => !step.ok);
    expect(failed).toHaveLength(1);
    expect(report.steps.at(-1)).toBe(failed[0]);
    return failed[0];
  }

  it.each([
    ["CMD_TLBI_NH_VA", 0x12, "ATS", /expected a fault, found STATUS 0x2/],
    ["CMD_TLBI_NH_ASID", 0x11, "PASIDs", /expected 0x[0-9a-f]{2} at byte 0 of the destination, found/],
    ["CMD_ATC_INV", 0x40, "ATS", /expected a fault, found STATUS 0x2/],
  ])("where %s gets lost and a stale translation stays", async (_what, opcode, name, detail) => {
    const step = await failing((context) => {
      const write = context.port.writeMemory.bind(context.port);
      context.port.writeMemory = (address, data) => {
        // A command and its CMD_SYNC: the invalidation becomes another CMD_SYNC.
        if (data.length === 32 && data[0] === opcode && data[16] === 0x46) {
          const lost = data.slice();
          lost.set(data.subarray(16), 0);
          return write(address, lost);
        }
        return write(address, data);
      };
    });
    expect(step.name).toBe(name);
    expect(step.detail).toMatch(detail);
  });

  it("where a byte arrives changed", async () => {
    let transfers = 0;
    const step = await failing((context) => {
      const read = context.port.readMemory.bind(context.port);
      context.port.readMemory = async (address, length) => {
        const data = await read(address, length);
        if (length > 40_000 && ++transfers === 4) {
          data[1000] ^= 0x10;
        }
        return data;
      };
    });
    expect(step.name).toBe("identity DMA");
    expect(step.detail).toMatch(/expected 0x[0-9a-f]{2} at byte 1000 of the destination, found 0x[0-9a-f]{2}/);
  });

  it("where messages do not arrive", async () => {
    const step = await failing((context) => {
      const take = context.port.interrupts.bind(context.port);
      context.port.interrupts = async () => (await take()).filter((interrupt) => interrupt.kind !== "msi");
    });
    expect(step).toMatchObject({ name: "messages", ok: false });
    expect(step.detail).toContain("waited in vain for message 0 of");
  });

  it("where an interrupt comes that nobody asked for", async () => {
    let once = true;
    const step = await failing((context) => {
      const take = context.port.interrupts.bind(context.port);
      context.port.interrupts = async () => {
        const stray = once ? [{ kind: "spi" as const, intid: 77 }] : [];
        once = false;
        return [...stray, ...(await take())];
      };
    });
    expect(step).toMatchObject({ name: "nothing else", detail: "expected nothing else, found interrupt 77" });
  });

  it("where the operator refuses to plug", async () => {
    const { machine, end } = machineOf("grace", GRACE);
    const report = await linux(contextFor(machine, { hotplug: [{ id: "nic0", argument: "vfio-pci,host=0008:02:00.0,bus=nowhere,iommufd=iommufd0,id=nic0" }] }));
    end();
    expect(report.steps.at(-1)).toMatchObject({ name: "unplug and plug", ok: false });
    expect(report.steps.at(-1)?.detail).toContain("Bus 'nowhere' not found");
  });
});
