import { describe, expect, it } from "vitest";
import { xorshift32 } from "../../bench/random.js";
import { E1000e, Edu, Nvme, VirtioNetPci } from "../../src/devices/index.js";
import { PcieRootPort, PciePciBridge, plugFunction, PxbPcie, setupIommu, X3130Upstream, Xio3130Downstream } from "../../src/pci/index.js";
import { ECAM_BASE, makeMachine } from "./machine.js";

const operations = process.env.VIOMMU_FUZZ === "nightly" ? 200_000 : 4_000;

describe("any configuration write", () => {
  for (const seed of [1, 20_260, 0x5eed]) {
    it(`never throws, and the hierarchy stays sound (seed ${seed})`, () => {
      const next = xorshift32(seed);
      const machine = makeMachine();
      const { root, memory } = machine;
      let notified = 0;
      setupIommu(root.bus, { getAddressSpace: () => memory, busNumbersChanged: () => void notified++ });
      const port = new PcieRootPort({ id: "r", chassis: 1 });
      plugFunction(port, root.bus, 8);
      const upstream = new X3130Upstream({ id: "u" });
      plugFunction(upstream, port.secondary, 0);
      for (const chassis of [2, 3]) {
        const down = new Xio3130Downstream({ id: `d${chassis}`, chassis });
        plugFunction(down, upstream.secondary, null);
        plugFunction(chassis === 2 ? new Nvme() : new VirtioNetPci(), down.secondary, null);
      }
      const bridge = new PciePciBridge({ id: "pb" });
      plugFunction(bridge, root.bus, null);
      plugFunction(new Edu(), bridge.secondary, null);
      const pxb = new PxbPcie({ busNr: 0x40 });
      plugFunction(pxb, root.bus, null);
      const far = new PcieRootPort({ id: "far", chassis: 9 });
      plugFunction(far, pxb.expanderBus, null);
      plugFunction(new E1000e(), far.secondary, null);

      // A hierarchy that reaches everything, then disorder.
      root.configWrite(8, 0x18, 4, 0x00ff_0100);
      root.configWrite(0x100, 0x18, 4, 0x00ff_0201);
      root.configWrite(0x200, 0x18, 4, 0x0003_0302);
      root.configWrite(0x208, 0x18, 4, 0x0004_0402);
      root.configWrite(0x4000, 0x18, 4, 0x0041_4140);
      const buses = [0, 0, 1, 2, 3, 4, 0x40, 0x41];
      const devices = [0, 8, 16, 24, 8, 0];
      // Link and BAR registers get more than their share.
      const hot = [0x04, 0x10, 0x14, 0x18, 0x19, 0x1a, 0x20, 0x24, 0x28, 0x3e, 0x40, 0x48, 0x4a, 0x6c, 0x6e, 0x70, 0x8c, 0xa8, 0xaa];
      for (let i = 0; i < operations; i++) {
        const bus = next() % 8 === 0 ? next() % 256 : buses[next() % buses.length];
        const devfn = next() % 8 === 0 ? next() % 256 : devices[next() % devices.length];
        const size = [1, 2, 4, 8][next() % 4];
        const offset = next() % 3 === 0 ? next() % 4096 : hot[next() % hot.length];
        const at = ECAM_BASE + bus * 0x10_0000 + devfn * 0x1000 + (offset & ~(size - 1));
        const value = BigInt(next()) | (BigInt(next()) << 32n);
        const word = value & ((1n << BigInt(8 * size)) - 1n);
        memory.writeWord(at, size, next() % 4 === 0 ? word & 0x0706_0504_0302_0107n : word);
        expect(memory.readWord(at, size) >> BigInt(8 * size)).toBe(0n);
      }
      expect(notified).toBeLessThanOrEqual(operations);
      for (const fn of root.allFunctions()) {
        // Identity cannot be written; what is mapped is what is decoded.
        expect(fn.config.get16(0)).not.toBe(0xffff);
        for (const bar of fn.bars) {
          const places = root.mapper.placesOf(bar);
          if (!fn.decodesMemory) {
            expect(places).toEqual([]);
          }
          for (const place of places) {
            expect(place.size).toBeLessThanOrEqual(bar.size);
            expect(place.address).toBeGreaterThan(0);
          }
        }
      }
      // Sections of system memory are disjoint and in order.
      let end = 0;
      for (const section of memory.sections()) {
        expect(section.address).toBeGreaterThanOrEqual(end);
        end = section.address + section.size;
      }
      root.reset();
      expect([...root.allFunctions()].every((fn) => fn.bars.every((bar) => root.mapper.placesOf(bar).length === 0))).toBe(true);
    });
  }
});
