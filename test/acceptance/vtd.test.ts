/** Whole q35 machines with an intel-iommu, on the hosts that come with the package: what several parts have to do together. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { checkTransfer, type Device, fillBuffers, type GuestOptions, type GuestReport, type Kernel, linux, makeBuffers, Random } from "../../src/guest/index.js";
import type { SimulatedHost } from "../../src/host/simulated/index.js";
import type { Machine } from "../../src/machine/index.js";
import { reportSchema, type RunReport } from "../../src/run/report/index.js";
import { Refusal } from "../../src/support/index.js";
import { ACCESS_READ } from "../../src/translation/index.js";
import type { VfioPci } from "../../src/vfio/index.js";
import { viommu } from "../cli/streams.js";
import { vtdArchitecture } from "../fuzz/vtd-intent.js";
import { bootKernel } from "../fuzz/world.js";
import { build, type Built } from "../machine/build.js";

const HOST = "two-socket-spr";
const Q35 = "-M q35,accel=kvm,kernel-irqchip=split -m 64M -nodefaults -object iommufd,id=iommufd0 -object iommufd,id=iommufd1";
const FIRST_STAGE = `${Q35} -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=10,device-iotlb=on,caching-mode=on`;
const LEGACY = `${Q35} -device intel-iommu,id=iommu0,caching-mode=on`;
/** Without the erratum; with it; not snooped. */
const [SOUND, SOUND_TOO, ERRATIC, UNSNOOPED] = ["0000:97:00.0", "0000:97:00.1", "0000:6a:01.0", "0000:e2:00.0"];

const port = (n: number): string => `-device pcie-root-port,id=rp${n},chassis=${n}`;
const passed = (n: number, host: string, iommufd = 0): string => `${port(n)} -device vfio-pci,host=${host},bus=rp${n},id=dev${n},iommufd=iommufd${iommufd}`;

function started(line: string, host = HOST): Built {
  const built = build(line, host);
  built.machine.start();
  return built;
}

function ended({ machine, host }: Built): void {
  machine.shutdown();
  expect(host.liveObjects()).toEqual([]);
}

const failed = (report: GuestReport): string[] => report.steps.filter((step) => !step.ok).map((step) => `${step.name}: ${step.detail}`);

function run(machine: Machine, options: Partial<GuestOptions> = {}): Promise<GuestReport> {
  return linux({
    port: machine.port(),
    operator: machine.operator(),
    say: () => {},
    options: { seed: 5, granule: 4096, firmware: "acpi", tolerate: vtdArchitecture.tolerate, hotplug: machine.hotplugCandidates(), ...options },
  });
}

function refusalOf(act: () => unknown): Refusal {
  try {
    act();
  } catch (error) {
    if (error instanceof Refusal) {
      return error;
    }
    throw error;
  }
  throw new Error("it was not refused");
}

describe("examples/spr-first-stage.args", () => {
  it("runs from the command line: two sockets, two iommufds, an emulated card beside them; nothing is left", async () => {
    const file = fileURLToPath(new URL("../../examples/spr-first-stage.args", import.meta.url));
    const { code, out, err } = await viommu("run", "--json", "--host", HOST, file);
    const report: RunReport = reportSchema.parse(JSON.parse(out));
    expect({ failure: report.failure, code, err }).toEqual({ failure: null, code: 0, err: "" });
    const { machine, guest, dma, events, msi, invalidation, hostCalls, hostObjects, warnings } = report;

    expect(machine.iommus.map(({ id, accel, hostIommu }) => [id, accel, hostIommu])).toEqual([["iommu0", true, "dmar1, dmar2"]]);
    expect(guest!.steps.filter(({ skipped }) => skipped !== null)).toEqual([]);
    expect(guest!.steps.find(({ name }) => name === "enable IOMMUs")!.detail).toContain("scalable mode, first stage, pasid 16");
    // Tables of the guest's: bound, and bound anew by reset, kexec and hotplug; the erratum's IOAS apart.
    expect(hostCalls.IOAS_ALLOC).toBeGreaterThanOrEqual(2);
    expect(hostCalls.HWPT_ALLOC).toBeGreaterThan(10);
    expect(hostCalls).not.toHaveProperty("VIOMMU_ALLOC");
    expect(hostObjects).toEqual({ created: hostObjects.created, freed: hostObjects.created, alive: 0 });
    // Functions of the host's and the emulated one do DMA, and their faults are in the guest's records.
    expect(dma.functions.map(({ function: id }) => id).sort()).toEqual(["dlb0", "net0", "nic1"]);
    expect(dma.functions.every(({ bytes }) => bytes > 2 ** 18)).toBe(true);
    expect(new Set(events.map(({ streamId }) => streamId))).toEqual(new Set([0x100, 0x200, 0x18]));
    expect(msi.routes.every(({ iova }) => BigInt(iova) >> 20n === 0xfeen)).toBe(true);
    expect(new Set(msi.routes.map(({ function: id }) => id))).toEqual(new Set(["dlb0", "nic1"]));
    expect(invalidation.forwarded).toBeGreaterThan(0);
    expect(invalidation.hostCalls).toBe(hostCalls.HWPT_INVALIDATE);
    expect(Object.keys(invalidation.iommus[0].commands)).toEqual(expect.arrayContaining(["pasid-cache", "pasid-iotlb", "pasid-device-tlb", "context-cache", "interrupt-entry-cache", "wait"]));
    // Once for each IOAS that is made so: at the start, and where the function comes back.
    expect([...new Set(warnings.filter((text) => text.includes("772415")))]).toEqual([expect.stringContaining("pc.bios at 0xfffc0000 (0x40000 bytes)")]);
  });
});

describe("stage-2 tables of seed 003's diagram", () => {
  it("are three IOASes with four tables: shared where they can be, apart by iommufd, coherency and erratum", () => {
    const built = started(
      `${FIRST_STAGE} ${passed(1, SOUND)} ${passed(2, SOUND_TOO)} ${passed(3, UNSNOOPED)} ${passed(4, "0000:99:00.0", 1)} ${passed(5, ERRATIC)} ${passed(6, "0000:6b:00.0")}`,
    );
    const { machine, host, log } = built;
    const fn = (id: string): VfioPci => machine.board.find(id)!.fn as VfioPci;
    const tables = [1, 2, 3, 4, 5, 6].map((n) => fn(`dev${n}`)).map((one) => `${one.passthrough.iommufd} IOAS ${one.ioasId} HWPT ${one.parentHwptId}`);
    const [cc, same, unsnooped, otherIommufd, erratic, alike] = tables;
    expect(same).toBe(cc);
    expect(alike).toBe(erratic);
    expect(new Set(tables).size).toBe(4);
    expect(fn("dev3").ioasId).toBe(fn("dev1").ioasId);
    expect(unsnooped).not.toBe(cc);
    expect(otherIommufd).toContain("iommufd1");
    expect(fn("dev5").ioasId).not.toBe(fn("dev1").ioasId);
    const count = (type: string): number => host.liveObjects().filter((object) => object.type === type).length;
    expect([count("iommufd"), count("ioas"), count("hwpt-paging")]).toEqual([2, 3, 4]);
    // The ROM is out of reach for those with the erratum, and for no other.
    const readsRom = (address: string): boolean => host.hardware.functions.get(address)!.readMemory(0, 0xfffc_0000 | 0, new Uint8Array(8), -1, ACCESS_READ, false);
    expect([SOUND, SOUND_TOO, UNSNOOPED, "0000:99:00.0", ERRATIC, "0000:6b:00.0"].map(readsRom)).toEqual([true, true, true, true, false, false]);
    expect(log.warnings().filter((text) => text.includes("772415"))).toEqual([expect.stringMatching(/pc\.rom at 0xc0000 .*pc\.bios at 0xfffc0000/)]);
    ended(built);
  });
});

describe("a guest that starts another kernel", () => {
  it.each([
    ["a host without the erratum", SOUND],
    ["a host with it", ERRATIC],
  ])("from scalable to legacy mode and back has the right tables, on %s", async (_name, address) => {
    const built = started(`${FIRST_STAGE} ${passed(1, address)} -device virtio-net-pci,id=net0`);
    const report = await run(built.machine, { kexecs: [{ scalable: false }, {}] });
    expect(failed(report)).toEqual([]);
    const traits = report.steps.filter(({ name }) => /enable IOMMUs$/.test(name)).map(({ detail }) => /(scalable|legacy) mode/.exec(detail)?.[1]);
    expect(traits).toEqual(["scalable", "scalable", "legacy", "scalable"]);
    ended(built);
  });

  it("in legacy mode is blocked, with the reason, where nesting is required", async () => {
    const built = started(`${FIRST_STAGE},x-require-nesting=on ${passed(1, SOUND)}`);
    const report = await run(built.machine, { kexecs: [{ scalable: false }] });
    expect(failed(report)).toHaveLength(1);
    expect(failed(report)[0]).toMatch(/^kexec: /);
    expect(built.log.lines.map(({ text }) => text).join("\n")).toMatch(/blocked: the guest's second-stage tables would have to be mirrored, which x-require-nesting=on forbids/);
    ended(built);
  });
});

interface Traffic {
  readonly kernel: Kernel;
  readonly move: (device: Device) => Promise<void>;
}

/** A guest whose functions have tables of their own, and moves data of each. */
async function traffic(machine: Machine): Promise<Traffic> {
  const kernel = await bootKernel(machine);
  const random = new Random(11);
  const move = async (device: Device): Promise<void> => {
    const domain = await kernel.useOwnDomain(device);
    const buffers = await makeBuffers(kernel, random, 8192);
    const source = await domain.mapBuffer(buffers.source, 8192, { read: true });
    const destination = await domain.mapBuffer(buffers.destination, 8192, { read: true, write: true });
    await fillBuffers(kernel, buffers, random);
    await checkTransfer(kernel, device.dma!, buffers, { source, destination, length: 6000 });
  };
  return { kernel, move };
}

const movers = (kernel: Kernel): Device[] => kernel.devices.filter((device) => device.dma !== null && device.master !== null);
const walked = (host: SimulatedHost, address: string): number => vtdArchitecture.walks(host, address);

describe("the series' own list of tests", () => {
  const line = `${FIRST_STAGE} ${passed(1, ERRATIC, 0)} ${passed(2, SOUND, 1)} -device virtio-net-pci,id=net0`;

  it("functions of two iommufds and an emulated card move data beside one another, each through its own tables", async () => {
    const built = started(line);
    const { machine, host } = built;
    const { kernel, move } = await traffic(machine);
    const before = [ERRATIC, SOUND].map((address) => walked(host, address));
    expect(movers(kernel)).toHaveLength(3);
    for (let round = 0; round < 2; round++) {
      for (const device of movers(kernel)) {
        await move(device);
      }
    }
    // The hardware walked for those of the host's; the emulated one is not behind any.
    expect([ERRATIC, SOUND].every((address, n) => walked(host, address) > before[n])).toBe(true);
    expect([ERRATIC, SOUND].map((address) => vtdArchitecture.host(host, address).table)).toEqual(["nested", "nested"]);
    expect(kernel.events).toEqual([]);
    ended(built);
  });

  it("a function comes and goes while the others move data", async () => {
    const built = started(line);
    const { machine, host } = built;
    const { kernel, move } = await traffic(machine);
    const [first, second, card] = movers(kernel);
    for (const device of [first, second, card]) {
      await move(device);
    }
    const { argument } = machine.hotplugCandidates().find(({ id }) => id === "dev2")!;
    for (let round = 0; round < 3; round++) {
      const gone = machine.operator().requestUnplug("dev2");
      // The guest turns the slot's power off (Slot Control, PCIe 7.5.3.10).
      const { devfn } = machine.board.find("rp2")!.fn;
      machine.board.memory.writeWord(machine.board.map.ecam.base + devfn * 0x1000 + 0x6c, 2, 0x07c0n);
      await gone;
      expect(machine.board.find("dev2")).toBeNull();
      expect(vtdArchitecture.host(host, SOUND).table).toBe("abort");
      expect(host.liveObjects().filter(({ type }) => type === "iommufd")).toHaveLength(1);
      // The others are as they were.
      if (round === 0) {
        await move(first);
        await move(card);
      }
      await machine.operator().plug(argument);
      machine.reset();
      const again = await traffic(machine);
      expect(movers(again.kernel)).toHaveLength(3);
      for (const device of movers(again.kernel)) {
        await again.move(device);
      }
    }
    ended(built);
  });
});

describe("who sits where", () => {
  const bridge = `${port(1)} -device pcie-pci-bridge,id=pci.1,bus=rp1`;

  it("a function of the host's below a PCIe-to-PCI bridge is refused with the first stage, where requester ids are the bridge's", () => {
    const refusal = refusalOf(() => build(`${FIRST_STAGE} ${bridge} -device vfio-pci,host=${SOUND},bus=pci.1,addr=1,iommufd=iommufd0`, HOST));
    expect(refusal.message).toMatch(/Host device downstream to a PCI bridge is unsupported when fsts=on[\s\S]*found: [\s\S]*would work: /);
  });

  it("with mirrored tables it may be there alone; not with an emulated one beside it, in either order", () => {
    const vfio = `-device vfio-pci,host=${SOUND},bus=pci.1,addr=1,iommufd=iommufd0`;
    const built = started(`${LEGACY} ${bridge} ${vfio}`);
    expect(vtdArchitecture.host(built.host, SOUND).table).not.toBe("abort");
    ended(built);
    for (const both of [`${vfio} -device e1000e,bus=pci.1,addr=2`, `-device e1000e,bus=pci.1,addr=2 ${vfio}`]) {
      expect(refusalOf(() => build(`${LEGACY} ${bridge} ${both}`, HOST)).message).toMatch(/bridge/);
    }
  });

  it("a function that does not fit is refused alone: the machine goes on, and others can be plugged", async () => {
    const built = started(`${FIRST_STAGE} ${passed(1, SOUND)} ${port(2)}`);
    const { machine } = built;
    await expect(machine.operator().plug("vfio-pci,host=0000:97:00.1,bus=rp2,id=dev2")).rejects.toThrow(/Need IOMMUFD backend when fsts=on/);
    expect(machine.board.find("dev2")).toBeNull();
    await machine.operator().plug("vfio-pci,host=0000:97:00.1,bus=rp2,id=dev2,iommufd=iommufd1");
    // Its slot has power from now on.
    machine.reset();
    const { kernel, move } = await traffic(machine);
    for (const device of movers(kernel)) {
      await move(device);
    }
    expect(movers(kernel)).toHaveLength(2);
    ended(built);
  });
});

describe("an intel-iommu without caching mode", () => {
  const LINE = "-M q35,accel=kvm,kernel-irqchip=split -m 128M -nodefaults -object iommufd,id=iommufd0";
  /** With the older names of scalable-mode and fsts; with ATS and PASIDs. */
  const SEED = `${LINE} -device intel-iommu,x-scalable-mode=on,x-flts=on ${passed(1, SOUND)}`;
  const PASIDS = `${LINE} -device intel-iommu,scalable-mode=on,fsts=on,device-iotlb=on,pasid-bits=10 ${passed(1, SOUND)}`;

  async function accountOf(line: string, ...options: string[]): Promise<{ code: number; report: RunReport }> {
    const { code, out } = await viommu("run", "--host", HOST, "--json", ...options, "--", ...line.split(" "));
    return { code, report: reportSchema.parse(JSON.parse(out)) };
  }

  it.each([
    ["the seed's line", SEED, "no function and IOMMU offer PASID together"],
    ["ATS and PASIDs", PASIDS, "caching-mode=on is needed: vtd@fed90000 is not told of a PASID entry that has become present"],
  ])("serves Linux's order at a function level reset with %s, and names the property", async (_what, line, pasids) => {
    const { code, report } = await accountOf(line);
    expect([code, report.failure]).toEqual([0, null]);
    const step = (name: string): unknown => report.guest!.steps.find((candidate) => candidate.name === name);
    expect(step("function level reset")).toMatchObject({ ok: true, skipped: null, detail: "01:00.0: DMA and messages as before" });
    expect(step("PASIDs")).toMatchObject({ skipped: pasids });
    expect(report.warnings.filter((text) => text.includes("caching-mode=on"))).toHaveLength(1);
  });

  it("has nothing to say with caching mode", async () => {
    const { code, report } = await accountOf(PASIDS.replace("pasid-bits", "caching-mode=on,pasid-bits"));
    expect(code).toBe(0);
    expect(report.warnings.filter((text) => text.includes("caching-mode"))).toEqual([]);
    expect(report.guest!.steps.find(({ name }) => name === "PASIDs")?.skipped).toBeNull();
  });
});
