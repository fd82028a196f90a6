import { describe, expect, it } from "vitest";
import { E1000e, EmulatedEndpoint, type EngineEndpoint, Nvme, VirtioBlkPci, VirtioNetPci } from "../../src/devices/index.js";
import { AddressSpace, type DmaAttributes, type DmaSpace, MemoryRegion, type MmioHandler, RamBlock } from "../../src/memory/index.js";
import { findCapability, findExtendedCapability, PcieRootPort, PciePciBridge, PciRoot, plugFunction, setupIommu } from "../../src/pci/index.js";

const RAM = 0x4000_0000;

/** System memory, but for pages that fault; keeps what each access carried. */
class Guarded implements DmaSpace {
  readonly name = "guarded";
  readonly kind = "iommu";
  readonly faulting = new Set<bigint>();
  readonly seen: DmaAttributes[] = [];
  constructor(private readonly memory: AddressSpace) {}
  private check(iova: bigint, attributes: DmaAttributes): boolean {
    this.seen.push(attributes);
    return !this.faulting.has(iova >> 12n);
  }
  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number {
    return this.check(iova, attributes) ? this.memory.read(iova, out, attributes) : -1;
  }
  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number {
    return this.check(iova, attributes) ? this.memory.write(iova, data, attributes) : -1;
  }
  translate(iova: bigint): number | null {
    return Number(iova);
  }
}

function make(create: () => EngineEndpoint = () => new Nvme({ id: "n" })) {
  const system = MemoryRegion.container("system", 2 ** 52);
  system.add(RAM, MemoryRegion.ram("ram", new RamBlock("ram", 4 << 20, 0x7000_0000_0000)));
  const memory = new AddressSpace("memory", system);
  const root = new PciRoot({ systemMemory: memory });
  system.add(0x1000_0000, MemoryRegion.alias("pci", root.memory, 0x1000_0000, 0x1000_0000));
  const space = new Guarded(memory);
  setupIommu(root.bus, { getAddressSpace: () => space });
  const port = new PcieRootPort({ id: "r" });
  plugFunction(port, root.bus, 8);
  root.configWrite(8, 0x18, 4, 0x0001_0100);
  root.configWrite(8, 0x20, 4, 0x1ff0_1000);
  root.configWrite(8, 4, 2, 6);
  const fn = create();
  plugFunction(fn, port.secondary, 0);
  return { system, memory, root, space, port, fn, ...driver(root, memory, 0x100) };
}

/** A driver that finds the engine by the vendor capability alone. */
function driver(root: PciRoot, memory: AddressSpace, bdf: number) {
  const config = (offset: number, size = 4): number => root.configRead(bdf, offset, size);
  let at = config(0x34, 1);
  while (at !== 0 && !(config(at, 1) === 0x09 && config(at + 3, 1) === 0x44)) {
    at = config(at + 1, 1);
  }
  expect(config(at + 2, 1)).toBe(12);
  const bar = config(at + 4);
  root.configWrite(bdf, 0x10 + 4 * bar, 4, 0x1000_0000);
  root.configWrite(bdf, 4, 2, 6);
  const base = 0x1000_0000 + config(at + 8);
  const read = (offset: number, size = 4): number => Number(memory.readWord(base + offset, size));
  const write = (offset: number, value: number | bigint, size = 4): void => memory.writeWord(base + offset, size, BigInt(value));
  const run = (options: { control: number; source?: number; target?: number; length: number }): number => {
    write(0x08, BigInt(options.source ?? 0), 8);
    write(0x10, BigInt(options.target ?? 0), 8);
    write(0x18, options.length);
    write(0x1c, options.control | 1);
    return read(0x24);
  };
  return { base, read, write, run, config };
}

const COPY = 0 << 1;
const TO_BUFFER = 1 << 1;
const FROM_BUFFER = 2 << 1;
const FILL = 3 << 1;

describe("the endpoint models", () => {
  it.each([
    ["virtio-net-pci", () => new VirtioNetPci(), 0x1041_1af4, 0x020000, 2, 4],
    ["virtio-blk-pci", () => new VirtioBlkPci(), 0x1042_1af4, 0x010000, 2, 2],
    ["nvme", () => new Nvme(), 0x0010_1b36, 0x010802, 2, 65],
    ["e1000e", () => new E1000e(), 0x10d3_8086, 0x020000, 4, 5],
  ] as const)("%s is found with its ids, MSI-X vectors and engine", (name, create, id, classCode, bar, vectors) => {
    const { fn, config, read } = make(create);
    expect(fn.model).toBe(name);
    expect(config(0)).toBe(id);
    expect(config(8) >>> 8).toBe(classCode);
    const vendor = findCapability(fn.config, 0x09);
    expect(fn.config.get32(vendor + 4)).toBe(bar);
    expect((fn.config.get16(findCapability(fn.config, 0x11) + 2) & 0x7ff) + 1).toBe(vectors);
    expect(read(0)).toBe(0x4d4d_4f49);
    expect(read(4)).toBe(0);
  });

  it("are integrated endpoints on a root bus, and have no PCI Express capability on conventional PCI", () => {
    const { root, fn } = make();
    const type = (bdf: number, at: number): number => (root.configRead(bdf, at + 2, 2) >> 4) & 0xf;
    expect(type(0x100, 0x80)).toBe(0);
    const integrated = new Nvme();
    plugFunction(integrated, root.bus, 0x50);
    expect(type(0x50, 0x80)).toBe(9);
    const bridge = new PciePciBridge({ id: "pb" });
    plugFunction(bridge, root.bus, 0x58);
    const conventional = new Nvme();
    plugFunction(conventional, bridge.secondary, null);
    expect(findCapability(conventional.config, 0x10)).toBe(0);
    expect(findCapability(conventional.config, 0x11)).not.toBe(0);
    expect(findCapability(fn.config, 0x10)).toBe(0x80);
  });

  it("have an ATS capability when asked to", () => {
    expect(findExtendedCapability(new VirtioNetPci({ ats: true }).config, 0x0f)).toBe(0x100);
    expect(findExtendedCapability(new VirtioNetPci().config, 0x0f)).toBe(0);
  });
});

describe("the DMA engine", () => {
  it("copies, with page crossings on both sides", () => {
    const { memory, run, read, fn } = make();
    const data = Uint8Array.from({ length: 9000 }, (_unused, i) => (i * 7 + (i >> 8)) & 0xff);
    memory.writeBytes(RAM + 0x123, data);
    expect(run({ control: COPY, source: RAM + 0x123, target: RAM + 0x10_0ff1, length: 9000 })).toBe(2);
    const out = new Uint8Array(9000);
    memory.readBytes(RAM + 0x10_0ff1, out);
    expect(out).toEqual(data);
    expect(read(0x30)).toBe(9000);
    expect(fn.counters.bytes).toBe(18_000);
    expect(fn.counters.faults).toBe(0);
  });

  it("moves memory to its buffer and back, and the buffer is memory-mapped", () => {
    const { memory, run, read, write } = make();
    memory.writeWord(RAM, 8, 0x1122_3344_5566_7788n);
    expect(run({ control: TO_BUFFER, source: RAM, length: 8 })).toBe(2);
    expect(memory.readWord(0x1000_8000, 8)).toBe(0x1122_3344_5566_7788n);
    write(0x8002, 0xaabb, 2);
    expect(run({ control: FROM_BUFFER, target: RAM + 0x100, length: 8 })).toBe(2);
    expect(memory.readWord(RAM + 0x100, 8)).toBe(0x1122_3344_aabb_7788n);
    expect(read(0x8001, 1)).toBe(0x77);
  });

  it("fills with a pattern, from its first byte whatever the alignment", () => {
    const { memory, run, write } = make();
    write(0x34, 0x0403_0201);
    expect(run({ control: FILL, target: RAM + 0xfff, length: 6 })).toBe(2);
    const out = new Uint8Array(7);
    memory.readBytes(RAM + 0xfff, out);
    expect([...out]).toEqual([1, 2, 3, 4, 1, 2, 0]);
  });

  it("stops at the first fault with its address and the bytes done before", () => {
    const { space, run, read, write, fn } = make();
    space.faulting.add(BigInt(RAM + 0x2000) >> 12n);
    expect(run({ control: FILL, target: RAM + 0x800, length: 0x3000 })).toBe(2 | 4);
    expect([read(0x28), read(0x2c), read(0x30)]).toEqual([RAM + 0x2000, 0, 0x1800]);
    expect(fn.counters.faults).toBe(1);
    write(0x24, 4);
    expect(read(0x24)).toBe(2);
    write(0x24, 2);
    expect(read(0x24)).toBe(0);
    // An address where nothing answers is a fault too.
    expect(run({ control: TO_BUFFER, source: 0x2000_0000, length: 4 })).toBe(2 | 4);
  });

  it("carries the requester id that it has at the time, and no PASID", () => {
    const { space, run, root } = make();
    run({ control: TO_BUFFER, source: RAM, length: 4 });
    root.configWrite(8, 0x18, 4, 0x0007_0700);
    run({ control: FROM_BUFFER, target: RAM, length: 4 });
    expect(space.seen).toEqual([
      { requesterId: 0x100, pasid: -1, execute: false, privileged: false },
      { requesterId: 0x700, pasid: -1, execute: false, privileged: false },
    ]);
  });

  it("refuses what it cannot do: too long, PASID, ATS, no bus mastering, past the end of the address space", () => {
    const { run, root, fn, write, read } = make();
    expect(run({ control: COPY, source: RAM, target: RAM, length: 0x10_0001 })).toBe(2 | 8);
    expect(run({ control: TO_BUFFER, source: RAM, length: 0x8001 })).toBe(2 | 8);
    expect(run({ control: FILL | 0x08, target: RAM, length: 4 })).toBe(2 | 8);
    expect(run({ control: FILL | 0x10, target: RAM, length: 4 })).toBe(2 | 8);
    expect(run({ control: FILL | 0x20, target: RAM, length: 4 })).toBe(2 | 8);
    expect(run({ control: TO_BUFFER | 0x40, source: RAM, length: 4 })).toBe(2 | 8);
    write(0x14, 0xffff_ffff);
    write(0x10, 0xffff_fff0);
    write(0x18, 0x20);
    write(0x1c, FILL | 1);
    expect(read(0x24)).toBe(2 | 8);
    root.configWrite(0x100, 4, 2, 2);
    expect(run({ control: FILL, target: RAM, length: 4 })).toBe(2 | 8);
    expect(fn.counters.transactions).toBe(0);
  });

  it("raises its interrupt when done, and when told", () => {
    const { memory, root, fn, run, write } = make();
    const table = fn.bars[0].region.handler as MmioHandler;
    root.configWrite(0x100, 0x42, 2, 0x8000);
    table.write(0x2000 + 5 * 16, 8, BigInt(RAM + 0x500));
    table.write(0x2000 + 5 * 16 + 8, 8, 0x99n);
    const taken = (): boolean => {
      const seen = memory.readWord(RAM + 0x500, 4) === 0x99n;
      memory.writeWord(RAM + 0x500, 4, 0n);
      return seen;
    };
    run({ control: FILL | 0x80 | (5 << 16), target: RAM, length: 4 });
    expect(taken()).toBe(true);
    // However it ended.
    run({ control: FILL | 0x80 | (5 << 16), target: RAM, length: 0x10_0001 });
    expect(taken()).toBe(true);
    run({ control: FILL, target: RAM, length: 4 });
    expect(taken()).toBe(false);
    write(0x38, 5);
    expect(taken()).toBe(true);
    // Messages are not counted as the device's DMA.
    expect(fn.counters.transactions).toBe(2);
  });

  it("is not started, nor its interrupts, by a device's DMA: no access sets off an endless chain", () => {
    const { memory, root, fn, base, run, write, read } = make();
    const table = fn.bars[0].region.handler as MmioHandler;
    root.configWrite(0x100, 0x42, 2, 0x8000);
    // Every interrupt would write the register that raises it.
    table.write(0x2000, 8, BigInt(base + 0x38));
    table.write(0x2008, 8, 0n);
    write(0x38, 0);
    // A fill that would start itself.
    write(0x34, FILL | 1);
    expect(run({ control: FILL, target: base + 0x1c, length: 4 })).toBe(2);
    expect(read(0x30)).toBe(4);
    expect(memory.readWord(base, 4)).toBe(0x4d4d_4f49n);
  });

  it("is reset by a function level reset, which reads back as zero", () => {
    const { root, fn, run } = make();
    run({ control: FILL, target: RAM, length: 4 });
    root.configWrite(0x100, 0x88, 2, 0x8000);
    expect(root.configRead(0x100, 0x88, 2)).toBe(0);
    expect(fn.engine.read(0x18, 4)).toBe(0n);
    expect(fn.command).toBe(0);
    expect(root.mapper.placesOf(fn.bars[1])).toEqual([]);
  });

  it("forgets everything on reset", () => {
    const { run, root, memory, write, fn } = make();
    memory.writeWord(RAM, 4, 5n);
    run({ control: TO_BUFFER, source: RAM, length: 4 });
    root.reset();
    expect(fn.engine.read(0x18, 4)).toBe(0n);
    expect(fn.engine.read(0x24, 4)).toBe(0n);
    expect(fn.engine.read(0x8000, 4)).toBe(0n);
    write(0x18, 1);
    expect(fn.engine.read(0x18, 4)).toBe(0n);
  });

  it("goes on to an end when the function is gone in the middle of it", () => {
    const { fn } = make();
    expect(fn).toBeInstanceOf(EmulatedEndpoint);
    fn.bus!.functions.delete(0);
    fn.bus = null;
    fn.dma = null;
    fn.raiseInterrupt(0);
    expect(fn.dmaWrite(0n, new Uint8Array(4))).not.toBe(0);
  });
});
