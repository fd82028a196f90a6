import { describe, expect, it } from "vitest";
import { Nvme } from "../../src/devices/index.js";
import { AddressSpace, type DmaAttributes, type DmaSpace, MemoryRegion } from "../../src/memory/index.js";
import { Gicv2mFrame, type InterruptSink, ItsDoorbell, MsiRouter } from "../../src/msi/index.js";
import { type IommuOps, PcieRootPort, PciePciBridge, PciRoot, plugFunction, setupIommu } from "../../src/pci/index.js";
import { Log } from "../../src/support/index.js";

const DOORBELL = 0x0809_0040;

/** An IOMMU's address space: pages of IOVA to guest-physical addresses; counts its look-ups. */
class Translated implements DmaSpace {
  readonly name = "translated";
  readonly kind = "iommu";
  translations = 0;
  readonly pages = new Map<bigint, number>();
  constructor(private readonly memory: AddressSpace) {}
  translate(iova: bigint): number | null {
    this.translations++;
    const page = this.pages.get(iova >> 12n);
    return page === undefined ? null : page + Number(iova & 0xfffn);
  }
  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number {
    const at = this.translate(iova);
    return at === null ? -1 : this.memory.readBytes(at, out, attributes);
  }
  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number {
    const at = this.translate(iova);
    return at === null ? -1 : this.memory.writeBytes(at, data, attributes);
  }
}

function machine(extra: Partial<IommuOps> = {}) {
  const log = new Log();
  const interrupts: string[] = [];
  const sink: InterruptSink = {
    message: (deviceId, eventId) => void interrupts.push(`${deviceId.toString(16)}:${eventId}`),
    spi: (intid) => void interrupts.push(`spi ${intid}`),
  };
  const system = MemoryRegion.container("system", 2 ** 52);
  const its = new ItsDoorbell(sink, log);
  system.add(0x0809_0000, MemoryRegion.mmio("its", 0x1_0000, its));
  const memory = new AddressSpace("memory", system);
  const root = new PciRoot({ systemMemory: memory });
  const space = new Translated(memory);
  setupIommu(root.bus, { getAddressSpace: () => space, ...extra });
  const port = new PcieRootPort({ id: "rp" });
  plugFunction(port, root.bus, 8);
  root.configWrite(8, 0x18, 4, 0x0005_0500);
  const nvme = new Nvme({ id: "nvme0" });
  plugFunction(nvme, port.secondary, 0);
  return { log, interrupts, its, system, memory, root, space, port, nvme, router: new MsiRouter(memory, log) };
}

describe("MSI routes", () => {
  it("hold the translated doorbell where the IOMMU does not tell one", () => {
    const { router, nvme, space, interrupts } = machine();
    space.pages.set(0xffff_fn, 0x0809_0000);
    const route = router.update(nvme, 2, 0xffff_f040n, 17);
    expect(route).toMatchObject({ vector: 2, iova: 0xffff_f040n, data: 17, doorbell: DOORBELL, direct: false });
    expect(router.deliver(nvme, 2)).toBe(true);
    expect(interrupts).toEqual(["500:17"]);
    expect(route.delivered).toBe(1);
    // A route that is made anew counts anew.
    expect(router.update(nvme, 2, 0xffff_f040n, 18).delivered).toBe(0);
    expect(route.delivered).toBe(1);
  });

  it("ignore what the guest wrote where the IOMMU tells the doorbell, and never translate", () => {
    const asked: string[] = [];
    const { router, nvme, space, interrupts } = machine({
      getMsiDirectGpa: (bus, devfn) => {
        asked.push(`${bus.id} ${devfn}`);
        return DOORBELL;
      },
    });
    const route = router.update(nvme, 0, 0xdead_b000n, 3);
    expect(route).toMatchObject({ iova: 0xdead_b000n, doorbell: DOORBELL, direct: true });
    expect(asked).toEqual(["rp 0"]);
    expect(space.translations).toBe(0);
    router.deliver(nvme, 0);
    expect(interrupts).toEqual(["500:3"]);
  });

  it("fall back to translation where the callback has no address", () => {
    const { router, nvme, space } = machine({ getMsiDirectGpa: () => null });
    space.pages.set(0x8090n, 0x0809_0000);
    expect(router.update(nvme, 0, 0x0809_0040n, 0)).toMatchObject({ doorbell: DOORBELL, direct: false });
  });

  it("deliver nothing where the address does not translate, say so, and come to life when it is rewritten", () => {
    const { router, nvme, space, interrupts, log } = machine();
    expect(router.update(nvme, 0, 0x1000_0040n, 1).doorbell).toBeNull();
    expect(log.lines.map((line) => line.text)).toEqual(["MSI route of nvme 'nvme0', vector 0: 0x10000040 does not translate; nothing will be delivered"]);
    expect(router.deliver(nvme, 0)).toBe(false);
    space.pages.set(0x10000n, 0x0809_0000);
    router.update(nvme, 0, 0x1000_0040n, 1);
    expect(router.deliver(nvme, 0)).toBe(true);
    expect(interrupts).toEqual(["500:1"]);
    // A page that is gone again does not matter until the guest rewrites the vector.
    space.pages.clear();
    expect(router.deliver(nvme, 0)).toBe(true);
  });

  it("carry the requester id of the moment: a renumbered bus, a bridge's", () => {
    const { router, nvme, root, interrupts } = machine({ getMsiDirectGpa: () => DOORBELL });
    router.update(nvme, 0, 0n, 9);
    router.deliver(nvme, 0);
    root.configWrite(8, 0x18, 4, 0x0009_0900);
    router.deliver(nvme, 0);
    const bridge = new PciePciBridge({ id: "pb" });
    plugFunction(bridge, root.bus, 16);
    root.configWrite(16, 0x18, 4, 0x0012_1200);
    const behind = new Nvme({ id: "b" });
    plugFunction(behind, bridge.secondary, null);
    router.update(behind, 0, 0n, 9);
    router.deliver(behind, 0);
    expect(interrupts).toEqual(["500:9", "900:9", "1200:9"]);
  });

  it("go one by one and with the function; a doorbell where nothing answers is told", () => {
    const { router, nvme, log } = machine({ getMsiDirectGpa: () => 0x0700_0000 });
    router.update(nvme, 0, 0n, 1);
    router.update(nvme, 1, 0n, 2);
    expect(router.deliver(nvme, 1)).toBe(false);
    expect(log.lines.at(-1)!.text).toMatch(/nothing answers at 0x7000000/);
    router.remove(nvme, 0);
    log.lines.length = 0;
    expect([router.deliver(nvme, 0), router.deliver(nvme, 1)]).toEqual([false, false]);
    expect(log.lines).toHaveLength(1);
    router.removeAll(nvme);
    log.lines.length = 0;
    expect([router.deliver(nvme, 0), router.deliver(nvme, 1)]).toEqual([false, false]);
    expect(log.lines).toEqual([]);
  });

  it("log a guest's bad vectors a bounded number of times", () => {
    const { router, nvme, log } = machine();
    for (let i = 0; i < 10_000; i++) {
      router.update(nvme, i % 65, BigInt(i) << 12n, i);
    }
    expect(log.lines.length).toBeLessThanOrEqual(Log.linesPerKind);
  });
});

describe("an emulated function's own messages", () => {
  it("go through its IOMMU as DMA writes, to the ITS with its requester id", () => {
    const { nvme, root, space, interrupts } = machine();
    space.pages.set(0xfeen, 0x0809_0000);
    root.configWrite(0x500, 4, 2, 6);
    root.configWrite(0x500, 0x42, 2, 0x8000);
    root.configWrite(0x500, 0x10, 4, 0x1000_0000);
    const table = nvme.bars[0].region.handler!;
    table.write(0x2000 + 16, 8, 0xfe_e040n);
    table.write(0x2000 + 24, 8, 0x21n);
    nvme.raiseInterrupt(1);
    expect(interrupts).toEqual(["500:33"]);
    space.pages.clear();
    nvme.raiseInterrupt(1);
    expect(interrupts.length).toBe(1);
  });
});

describe("doorbells", () => {
  it("ITS: takes 16- and 32-bit writes at GITS_TRANSLATER from devices only", () => {
    const { its, interrupts, log } = machine();
    const from = { requesterId: 0x1234, pasid: -1, execute: false, privileged: false };
    its.write(0x40, 4, 0x1_0005n, from);
    its.write(0x40, 2, 7n, from);
    its.write(0x40, 8, 7n, from);
    its.write(0x44, 4, 7n, from);
    its.write(0x40, 4, 7n);
    expect(its.read()).toBe(0n);
    expect(interrupts).toEqual(["1234:65541", "1234:7"]);
    expect(log.lines.length).toBe(3);
  });

  it("GICv2m: tells its range and raises the SPIs in it", () => {
    const spis: number[] = [];
    const frame = new Gicv2mFrame({ message: () => {}, spi: (intid) => void spis.push(intid) }, 80, 64);
    expect(frame.read(0x008, 4)).toBe(0x0050_0040n);
    expect(frame.read(0xfcc, 4)).toBe(0x0510_0000n);
    expect(frame.read(0xfd0, 4)).toBe(0n);
    expect(frame.read(0x008, 8)).toBe(0n);
    for (const value of [80n, 143n, 144n, 79n, 0x450n]) {
      frame.write(0x040, 4, value);
    }
    frame.write(0x044, 4, 80n);
    frame.write(0x040, 8, 80n);
    // The INTID is bits 9:0.
    expect(spis).toEqual([80, 143, 80]);
  });
});
