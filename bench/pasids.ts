import { AddressSpace, MemoryRegion, RamBlock, RamWordMemory } from "../src/memory/index.js";
import { PciRoot } from "../src/pci/index.js";
import { Log, pack } from "../src/support/index.js";
import { VtdAcceleration, VtdDevice } from "../src/vtd/index.js";
import { IQA, PASID_CACHE_DESC, PASID_CACHE_PASID, PASID_ENTRY, PGTT_FIRST_STAGE, REG, SM_CONTEXT, TTM_SCALABLE } from "../src/vtd/spec/index.js";
import { hollowDevice } from "../test/vtd/accel/hollow.js";
import { median, processorTime } from "./measure.js";
import type { Bench, BenchResult } from "./registry.js";

const FEW = 1_000;
const MANY = 100_000;
const INVALIDATIONS = 1_000;

/** Guest-physical places. */
const ROOT = 0x1_0000;
const CONTEXTS = 0x1_1000;
const DIRECTORY = 0x10_0000;
const TABLES = 0x20_0000;
const QUEUE = 0x8_0000;

/** log2 of the pages of the queue: it holds the invalidations at once. */
const QUEUE_SIZE = 4;

/** A unit with a function of which `pasids` PASIDs are bound, and memory that they cost on the heap. */
function bound(pasids: number): { vtd: VtdDevice; acceleration: VtdAcceleration; words: RamWordMemory; bytesPerPasid: number } {
  const ram = new RamBlock("ram", 0x1000_0000, 0x1_0000_0000);
  const words = new RamWordMemory();
  words.place(0, ram);
  const system = MemoryRegion.container("system", 2 ** 48);
  system.add(0, MemoryRegion.ram("ram", ram));
  const memory = new AddressSpace("memory", system);
  const properties = { scalableMode: true, fsts: true, pasidBits: 20, cachingMode: true };
  const vtd = new VtdDevice({ id: "iommu0", properties, memory, words, sendMessage: () => {}, log: new Log() });
  const acceleration = (vtd.backend = new VtdAcceleration(vtd, new Log()));
  const store = (address: number, values: Int32Array): void => ram.write(address, new Uint8Array(values.buffer));
  store(ROOT, Int32Array.of(CONTEXTS | 1, 0, 0, 0));
  store(CONTEXTS, pack(SM_CONTEXT, new Int32Array(8), { P: 1, PASIDE: 1, PDTS: 7, PASIDDIRPTR: DIRECTORY }));
  for (let pasid = 0; pasid < pasids; pasid++) {
    const table = TABLES + (pasid >> 6) * 0x1000;
    if ((pasid & 63) === 0) {
      store(DIRECTORY + (pasid >> 6) * 8, Int32Array.of(table | 1, 0));
    }
    store(table + (pasid & 63) * 64, entry(pasid, 0));
  }
  vtd.write(REG.IQA, 8, BigInt(QUEUE) | BigInt(IQA.DW.inPlace) | BigInt(QUEUE_SIZE));
  vtd.write(REG.GCMD, 4, 0x0400_0000n);
  vtd.write(REG.RTADDR, 8, BigInt(ROOT) | BigInt(TTM_SCALABLE << 10));
  vtd.write(REG.GCMD, 4, 0x4400_0000n);
  vtd.write(REG.GCMD, 4, 0x8400_0000n);
  const before = process.memoryUsage().heapUsed;
  acceleration.addFunction(new PciRoot({ systemMemory: memory }).bus, 0, hollowDevice().device);
  while (acceleration.progress === "working") {
    acceleration.proceed();
  }
  const bytesPerPasid = (process.memoryUsage().heapUsed - before) / pasids;
  return { vtd, acceleration, words, bytesPerPasid };
}

function entry(pasid: number, version: number): Int32Array {
  return pack(PASID_ENTRY, new Int32Array(16), { P: 1, PGTT: PGTT_FIRST_STAGE, DID: 1, FSPTPTR: 0x1000 * (pasid + 1 + version) });
}

/** Microseconds of processor time for an invalidation whose entry has changed, of a thousand spread over the PASIDs. */
function invalidate(unit: ReturnType<typeof bound>, pasids: number, version: number): number {
  const { vtd, acceleration, words } = unit;
  const flat = words.flat;
  for (let n = 0; n < INVALIDATIONS; n++) {
    const pasid = Math.floor((n * pasids) / INVALIDATIONS);
    flat.set(entry(pasid, version), (TABLES + (pasid >> 6) * 0x1000 + (pasid & 63) * 64) / 4);
    flat[QUEUE / 4 + 8 * n] = 7 | (PASID_CACHE_PASID << PASID_CACHE_DESC.G.shift) | (1 << 16);
    flat[QUEUE / 4 + 8 * n + 1] = pasid;
  }
  // Head and tail back to the start of the queue.
  vtd.write(REG.GCMD, 4, 0x8000_0000n);
  vtd.write(REG.IQT, 8, 0n);
  vtd.write(REG.GCMD, 4, 0x8400_0000n);
  const start = processorTime();
  const tail = BigInt(32 * INVALIDATIONS);
  vtd.write(REG.IQT, 8, tail);
  // A drain does bounded work: a look at the head has it go on.
  for (let looks = 0; vtd.read(REG.IQH, 8) !== tail && looks < 10 * INVALIDATIONS; looks++);
  const figure = ((processorTime() - start) * 1e3) / INVALIDATIONS;
  if (acceleration.bindingCount !== pasids || acceleration.counts.replaced !== version * INVALIDATIONS) {
    throw new Error(`${acceleration.counts.replaced} bindings were replaced in ${version} rounds`);
  }
  return figure;
}

/** What a PASID-selective invalidation costs beside few and beside many bound PASIDs, and what a bound PASID costs. */
export const pasidBench: Bench = {
  name: "pasids",
  title: "bound PASIDs",
  run(context): Promise<BenchResult[]> {
    const few = bound(FEW);
    const many = bound(MANY);
    const figures = { few: [] as number[], many: [] as number[], ratio: [] as number[] };
    for (let round = -3; round < context.rounds; round++) {
      // From 1 on: each round changes its entries.
      const version = round + 4;
      const one = invalidate(few, FEW, version);
      const other = invalidate(many, MANY, version);
      if (round >= 0) {
        figures.few.push(one);
        figures.many.push(other);
        figures.ratio.push(other / one);
      }
    }
    return Promise.resolve([
      { name: "pasidInvalidation.of1000", unit: "us", value: median(figures.few) },
      { name: "pasidInvalidation.of100000", unit: "us", value: median(figures.many) },
      { name: "pasidInvalidation.manyToFew", unit: "ratio", value: median(figures.ratio), target: 2 },
      { name: "bytesPerBoundPasid", unit: "bytes", value: many.bytesPerPasid, target: 512 },
    ]);
  },
};
