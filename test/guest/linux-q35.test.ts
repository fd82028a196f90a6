import { describe, expect, it } from "vitest";
import { Kernel, PciFunction, configAccess, linux, type GuestOptions, type GuestStep } from "../../src/guest/index.js";
import { contextFor, machineOf, runLinux } from "./end-to-end.js";

/** A socket with erratum 772415, one without, and an emulated network card. */
const SPR = (properties: string): string =>
  `-M q35,kernel-irqchip=split -m 1G -nodefaults -device intel-iommu,scalable-mode=on,fsts=on${properties} -object iommufd,id=iommufd0 -object iommufd,id=iommufd1 ` +
  "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:6a:01.0,bus=rp0,id=dsa0,iommufd=iommufd0 " +
  "-device pcie-root-port,id=rp1,chassis=2 -device vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd1 -device virtio-net-pci";
const FULL = ",pasid-bits=16,device-iotlb=on,caching-mode=on";
const PLUG = { hotplug: [{ id: "nic1", argument: "vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd1" }] };
const SILENT = { tolerate: ["unreported-fault"] as const };
/** Emulated functions on the root bus, behind a port, behind a conventional bridge, and on an expander bus. */
const EMULATED = (properties: string): string =>
  `-M q35 -nodefaults -m 512 -device intel-iommu${properties} -device e1000e,id=n0 -device edu -device iommu-testdev -device pcie-root-port,id=rp1,chassis=1 -device nvme,serial=1,bus=rp1,id=d0 ` +
  "-device pcie-pci-bridge,id=br,bus=pcie.0 -device edu,bus=br,addr=1 -device edu,bus=br,addr=2 -device pxb-pcie,id=p1,bus_nr=8,bus=pcie.0 -device pcie-root-port,id=rp2,bus=p1,chassis=2 -device nvme,serial=1,bus=rp2";
const EMULATED_PLUG = { hotplug: [{ id: "d0", argument: "nvme,serial=1,bus=rp1,id=d0" }] };

const skipped = (steps: readonly GuestStep[]): string[] => steps.filter((step) => step.skipped !== undefined).map((step) => step.name);

describe("the linux guest on q35", () => {
  it.each<[string, string, Partial<GuestOptions>, string[]]>([
    ["first stages walked by two hosts' units", SPR(FULL), { ...PLUG, ...SILENT }, []],
    ["PASID entries taken down before others come", SPR(FULL), { ...PLUG, ...SILENT, vtd: { tearDownPasids: true } }, []],
    ["kernels of both modes one after the other", SPR(FULL), { ...SILENT, kexecs: [{ scalable: false }, {}] }, ["unplug and plug"]],
    ["emulated functions in scalable mode", EMULATED(",scalable-mode=on,fsts=on"), EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["the second stage", EMULATED(",scalable-mode=on,caching-mode=on"), EMULATED_PLUG, ["PASIDs", "ATS"]],
    ["legacy mode", EMULATED(",aw-bits=39"), { ...EMULATED_PLUG, vtd: { interruptRemapping: false } }, ["PASIDs", "ATS"]],
    ["legacy mode by choice, registers instead of a queue", EMULATED(",scalable-mode=on,fsts=on"), { ...EMULATED_PLUG, vtd: { scalable: false, queued: false } }, ["PASIDs", "ATS"]],
  ])("goes well with %s", async (_what, line, options, left) => {
    const ran = await runLinux("two-socket-spr", line, options);
    expect(ran.report.steps.filter((step) => !step.ok)).toEqual([]);
    expect(ran.report.ok).toBe(true);
    expect(ran.report.steps.at(-1)?.name).toMatch(/nothing else$/);
    expect(skipped(ran.report.steps)).toEqual(left);
    expect(ran.report.dmaChecked).toBeGreaterThan(10_000);
    expect(ran.left).toBe(0);
  });

  it("shares a domain among functions of one requester id, and finds those of expander buses in DMAR's scopes", async () => {
    const { report } = await runLinux("two-socket-spr", EMULATED(",scalable-mode=on,fsts=on"), EMULATED_PLUG);
    const detail = (name: string): string => report.steps.find((step) => step.name === name)?.detail ?? "";
    // Both behind the bridge carry its secondary bus, devfn 0.
    expect([...detail("enumerate PCI").matchAll(/(\S+) \(source-id 0x200\)/g)].map(([, name]) => name)).toEqual(["02:01.0", "02:02.0"]);
    const dids = [...detail("own tables").matchAll(/02:0[12]\.0 DID (\d+)/g)].map(([, did]) => did);
    expect(dids[0]).toBe(dids[1]);
    expect(detail("enumerate PCI")).toMatch(/root buses 00 08.*09:00\.0 \(source-id 0x900\)/);
  });

  it("reaches configuration space by ports as by ECAM", async () => {
    const { machine, end } = machineOf("two-socket-spr", EMULATED(""));
    const kernel = new Kernel(machine.port(), { granule: 12 });
    await kernel.readFirmware();
    const [bridge] = kernel.bridges;
    const ports = configAccess(kernel.port, { ...bridge.description, ecamBase: null });
    expect([ports.extended, bridge.config.extended]).toEqual([false, true]);
    for (const found of bridge.roots[0].functions) {
      const fn = new PciFunction(ports, found.bus, found.devfn, null);
      expect(await fn.probe()).toBe(true);
      expect([fn.ids, fn.classCode, [...fn.capabilities.keys()]]).toEqual([found.ids, found.classCode, [...found.capabilities.keys()]]);
      expect(fn.extendedCapabilities.size).toBe(0);
    }
    const nothing = new PciFunction(ports, 0, 0x1e << 3, null);
    expect(await nothing.probe()).toBe(false);
    end();
  });
});

describe("a machine that does wrong is found out", () => {
  async function failing(change: (context: ReturnType<typeof contextFor>) => void, options: Partial<GuestOptions> = {}): Promise<GuestStep> {
    const { machine, end } = machineOf("two-socket-spr", SPR(FULL));
    const context = contextFor(machine, { ...PLUG, ...SILENT, ...options });
    change(context);
    const report = await linux(context);
    end();
    const failed = report.steps.filter((step) => !step.ok);
    expect(failed).toHaveLength(1);
    return failed[0];
  }

  it.each([
    ["PASID-based IOTLB invalidations of pages", [0x36], "ATS", /expected a fault, found STATUS 0x2/],
    ["PASID-cache invalidations", [0x17], "identity DMA", /expected success, found|expected 0x/],
  ])("where %s get lost", async (_what, firsts, name, detail) => {
    const step = await failing((context) => {
      const write = context.port.writeMemory.bind(context.port);
      context.port.writeMemory = (address, data) => {
        // A descriptor of 256 bits becomes an interrupt-entry one.
        if (data.length === 32 && firsts.includes(data[0] & 0x3f) && data.subarray(16).every((byte) => byte === 0)) {
          const lost = new Uint8Array(32);
          lost[0] = 4;
          return write(address, lost);
        }
        return write(address, data);
      };
    });
    expect(step.name).toBe(name);
    expect(step.detail).toMatch(detail);
  });

  it("where messages do not arrive", async () => {
    const step = await failing((context) => {
      const take = context.port.interrupts.bind(context.port);
      context.port.interrupts = async () => (await take()).filter((interrupt) => interrupt.kind !== "vector" || interrupt.vector < 0x34);
    });
    expect(step).toMatchObject({ name: "messages", ok: false });
    expect(step.detail).toContain("waited in vain for message 0 of");
  });

  it("where messages do not arrive after a function level reset", async () => {
    const step = await failing((context) => {
      let lost = false;
      Object.assign(context, { say: (text: string) => (lost ||= text.includes("provoked fault")) });
      const take = context.port.interrupts.bind(context.port);
      context.port.interrupts = async () => (await take()).filter((interrupt) => !lost || interrupt.kind !== "vector" || interrupt.vector < 0x34);
    });
    expect(step).toMatchObject({ name: "function level reset", ok: false });
    expect(step.detail).toContain("waited in vain for message 0 of");
  });
});
