import { describe, expect, it } from "vitest";
import { AddressSpace, DMA_DECODE_ERROR, DMA_OK, MemoryRegion, type MemorySection, RamBlock } from "../../src/memory/index.js";

const PAGE = 0x1000;

/** Registers that answer with a constant byte. */
const constant = (byte: bigint) => ({
  read: (_offset: number, size: number): bigint => Array.from({ length: size }).reduce<bigint>((value) => (value << 8n) | byte, 0n),
  write: (): void => {},
});

/** Small repeatable generator (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A listener that keeps what it was told, and fails on what it was told wrongly. */
function follower(): { listener: { add(s: MemorySection): void; remove(s: MemorySection): void }; told: Map<number, MemorySection> } {
  const told = new Map<number, MemorySection>();
  return {
    told,
    listener: {
      add: (section) => {
        for (const other of told.values()) {
          expect(section.address >= other.address + other.size || section.address + section.size <= other.address, "overlap").toBe(true);
        }
        told.set(section.address, section);
      },
      remove: (section) => {
        expect(told.get(section.address)).toEqual(section);
        told.delete(section.address);
      },
    },
  };
}

describe("AddressSpace", () => {
  it("renders overlaps as priority, then order of addition, say", () => {
    const root = MemoryRegion.container("root", 16 * PAGE);
    const space = new AddressSpace("test", root);
    const low = MemoryRegion.mmio("low", 8 * PAGE, constant(1n));
    const high = MemoryRegion.mmio("high", 2 * PAGE, constant(2n));
    const late = MemoryRegion.mmio("late", 2 * PAGE, constant(3n));
    root.add(2 * PAGE, high, 5);
    root.add(0, low);
    root.add(3 * PAGE, late);
    expect(space.sections().map((s) => [s.region.name, s.address / PAGE, s.size / PAGE, s.offset / PAGE])).toEqual([
      ["low", 0, 2, 0],
      ["high", 2, 2, 0],
      ["late", 4, 1, 1],
      ["low", 5, 3, 5],
    ]);
    high.enabled = false;
    expect(space.readWord(3 * PAGE, 4)).toBe(0x03030303n);
    root.remove(late);
    expect(space.sections()).toHaveLength(1);
  });

  it("follows aliases, and aliases follow their target", () => {
    const root = MemoryRegion.container("root", 64 * PAGE);
    const inner = MemoryRegion.container("inner", 32 * PAGE);
    root.add(32 * PAGE, MemoryRegion.alias("window", inner, 8 * PAGE, 8 * PAGE));
    const space = new AddressSpace("test", root);
    const other = new AddressSpace("other", MemoryRegion.alias("all", root, 0, root.size));
    inner.add(12 * PAGE, MemoryRegion.mmio("device", 8 * PAGE, constant(9n)));
    for (const view of [space, other]) {
      expect(view.sections().map((s) => [s.address / PAGE, s.size / PAGE, s.offset])).toEqual([[36, 4, 0]]);
      expect(view.readWord(36 * PAGE, 1)).toBe(9n);
    }
  });

  it("splits accesses at section borders and tells where nothing answers", () => {
    const root = MemoryRegion.container("root", 16 * PAGE);
    const ram = new RamBlock("ram", 2 * PAGE, 0x10000);
    root.add(0, MemoryRegion.ram("ram", ram));
    root.add(2 * PAGE, MemoryRegion.rom("rom", new RamBlock("rom", PAGE, 0x20000)));
    const space = new AddressSpace("test", root);
    const data = Uint8Array.from({ length: 16 }, (_u, i) => i + 1);
    expect(space.writeBytes(2 * PAGE - 8, data)).toBe(DMA_OK);
    const back = new Uint8Array(16);
    expect(space.readBytes(2 * PAGE - 8, back)).toBe(DMA_OK);
    expect([...back]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(space.readBytes(3 * PAGE - 8, back)).toBe(DMA_DECODE_ERROR);
    expect(space.read(2n ** 60n, back)).toBe(DMA_DECODE_ERROR);
  });

  it("takes a listener off again that refuses a section, and undoes what it was told", () => {
    const root = MemoryRegion.container("root", 16 * PAGE);
    root.add(0, MemoryRegion.ram("a", new RamBlock("a", PAGE, 0x1000)));
    root.add(4 * PAGE, MemoryRegion.ram("b", new RamBlock("b", PAGE, 0x9000)));
    const space = new AddressSpace("test", root);
    const told: string[] = [];
    expect(() =>
      space.addListener({
        add: (s) => {
          if (s.region.name === "b") {
            throw new Error("no");
          }
          told.push(`+${s.region.name}`);
        },
        remove: (s) => told.push(`-${s.region.name}`),
      }),
    ).toThrow("no");
    expect(told).toEqual(["+a", "-a"]);
    root.add(8 * PAGE, MemoryRegion.ram("c", new RamBlock("c", PAGE, 0x19000)));
    expect(told).toHaveLength(2);
  });

  it.each([1, 2, 3, 4])("seed %i: sections equal a page-by-page drawing, and listeners are told just what changes", (seed) => {
    const next = random(seed);
    const pages = 64;
    const root = MemoryRegion.container("root", pages * PAGE);
    const space = new AddressSpace("test", root);
    const { listener, told } = follower();
    space.addListener(listener);
    let placed: Array<{ page: number; size: number; priority: number; region: MemoryRegion; order: number }> = [];
    for (let step = 0; step < 300; step++) {
      const choice = next();
      if (choice < 0.6 || placed.length === 0) {
        const size = 1 + Math.floor(next() * 12);
        const page = Math.floor(next() * pages);
        const priority = Math.floor(next() * 3);
        const region = MemoryRegion.mmio(`r${step}`, size * PAGE, constant(0n));
        root.add(page * PAGE, region, priority);
        placed.push({ page, size, priority, region, order: step });
      } else {
        const victim = placed[Math.floor(next() * placed.length)];
        if (choice < 0.8) {
          victim.region.enabled = !victim.region.enabled;
        } else {
          root.remove(victim.region);
          placed = placed.filter((one) => one !== victim);
        }
      }
      const drawn = new Array<MemoryRegion | null>(pages).fill(null);
      for (const one of [...placed].sort((a, b) => a.priority - b.priority || a.order - b.order)) {
        for (let page = one.page; one.region.enabled && page < Math.min(pages, one.page + one.size); page++) {
          drawn[page] = one.region;
        }
      }
      for (let page = 0; page < pages; page++) {
        expect(space.find(page * PAGE)?.region ?? null).toBe(drawn[page]);
      }
      expect([...told.values()].sort((a, b) => a.address - b.address)).toEqual([...space.sections()]);
    }
  });
});

describe("RAM that can be discarded", () => {
  function board() {
    const root = MemoryRegion.container("root", 64 * PAGE);
    const block = new RamBlock("m", 8 * PAGE, 0x10_0000);
    const region = MemoryRegion.discardableRam("m", block, 2 * PAGE);
    const space = new AddressSpace("test", root);
    const told: string[] = [];
    const name = (s: MemorySection) => `${s.region.name} ${s.address / PAGE}+${s.size / PAGE}@${s.offset / PAGE}`;
    const refusing = { page: -1, required: false };
    space.addListener({
      add: (s, required) => {
        if (s.address / PAGE === refusing.page) {
          refusing.required = required;
          throw new Error(`no ${name(s)}`);
        }
        told.push(`+${name(s)}`);
      },
      remove: (s) => told.push(`-${name(s)}`),
    });
    const take = () => told.splice(0);
    return { root, region, space, refusing, take };
  }

  it("goes and comes granule by granule for listeners, and stays for a CPU", () => {
    const { root, region, space, take } = board();
    root.add(10 * PAGE, region);
    expect(take()).toEqual(["+m 10+2@0", "+m 12+2@2", "+m 14+2@4", "+m 16+2@6"]);
    expect(space.sections()).toHaveLength(1);
    space.writeWord(12 * PAGE, 4, 0x1234n);
    region.discard(2 * PAGE, 4 * PAGE);
    expect(take()).toEqual(["-m 14+2@4", "-m 12+2@2"]);
    expect(region.isDiscarded(3 * PAGE)).toBe(true);
    expect(space.readWord(12 * PAGE, 4)).toBe(0x1234n);
    expect(space.findPopulated(13 * PAGE)).toBeNull();
    expect(space.findPopulated(10 * PAGE)).toMatchObject({ size: 2 * PAGE });
    region.discard(2 * PAGE, 2 * PAGE);
    expect(take()).toEqual([]);
    // A listener that comes now, and an overlay on half a granule.
    const rom = MemoryRegion.rom("r", new RamBlock("r", PAGE, 0x90_0000));
    root.add(11 * PAGE, rom, 1);
    expect(take()).toEqual(["-m 10+2@0", "+m 10+1@0", "+r 11+1@0"]);
    root.remove(rom);
    expect(take()).toEqual(["-r 11+1@0", "-m 10+1@0", "+m 10+2@0"]);
    region.populate(0, 8 * PAGE);
    expect(take()).toEqual(["+m 12+2@2", "+m 14+2@4"]);
    root.remove(region);
    expect(take()).toEqual(["-m 16+2@6", "-m 14+2@4", "-m 12+2@2", "-m 10+2@0"]);
  });

  it("is as before where a listener cannot take it back, or what is added whole", () => {
    const { root, region, space, refusing, take } = board();
    refusing.page = 14;
    expect(() => root.addWhole(10 * PAGE, region)).toThrow("no m 14+2@4");
    expect(refusing.required).toBe(true);
    expect(take()).toEqual(["+m 10+2@0", "+m 12+2@2", "-m 12+2@2", "-m 10+2@0"]);
    expect(space.sections()).toHaveLength(0);
    refusing.page = -1;
    root.addWhole(10 * PAGE, region);
    region.discard(0, 8 * PAGE);
    take();
    refusing.page = 14;
    expect(() => region.populate(2 * PAGE, 6 * PAGE)).toThrow("no m 14+2@4");
    expect(take()).toEqual(["+m 12+2@2", "-m 12+2@2"]);
    expect(space.populatedSections()).toEqual([]);
    refusing.page = -1;
    region.populate(2 * PAGE, 2 * PAGE);
    expect(take()).toEqual(["+m 12+2@2"]);
  });

  it("is said by whole granules, and is RAM that was made so", () => {
    const { region } = board();
    for (const [offset, bytes] of [[PAGE, 2 * PAGE], [0, PAGE], [-2 * PAGE, 2 * PAGE], [8 * PAGE, 2 * PAGE], [0, 0], [NaN, 2 * PAGE]]) {
      expect(() => region.discard(offset, bytes)).toThrow(RangeError);
    }
    expect(() => MemoryRegion.ram("p", new RamBlock("p", PAGE, 0x1000)).discard(0, PAGE)).toThrow("p is not RAM that can be discarded");
    expect(() => MemoryRegion.discardableRam("q", new RamBlock("q", 3 * PAGE, 0x1000), 2 * PAGE)).toThrow(RangeError);
  });
});
