import { describe, expect, it } from "vitest";
import { type DmaAttributes, type RamWordMemory, type WordMemory } from "../../../src/memory/index.js";
import { PciBus } from "../../../src/pci/index.js";
import { CMDQ, EVENTQ, R, RAM_BASE, RecordingBackend, Rig } from "./rig.js";

/** Numbers from a seed (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * below);
  };
}

/** Counts what is read, and lets writes into the event queue only. */
class CountingMemory implements WordMemory {
  readonly flat = new Int32Array(0);
  readonly flatBase = 0;
  readonly flatBytes = 0;
  loads = 0;
  /** Bytes [from, to) that may be written. */
  writable: () => [number, number] = () => [0, 0];

  constructor(private readonly words: RamWordMemory) {}

  get loadedLow(): number {
    return this.words.loadedLow;
  }

  get loadedHigh(): number {
    return this.words.loadedHigh;
  }

  load64(high: number, low: number): number {
    this.loads++;
    return this.words.load64(high, low);
  }

  store64(high: number, low: number, valueHigh: number, valueLow: number): number {
    const address = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
    const [from, to] = this.writable();
    expect(address >= from && address < to).toBe(true);
    return this.words.store64(high, low, valueHigh, valueLow);
  }

  compareExchange64(): number {
    throw new Error("an SMMU without HTTU exchanges nothing");
  }
}

const STEPS = process.env.VIOMMU_FUZZ === "nightly" ? 400_000 : 3000;
const OFFSETS = [...Object.values(R), 0x48, 0x70, 0x84, 0x94, 0xa4, 0xa8, 0xac, 0xb8, 0xc0, 0xd0, 0x100, 0x1ffff, 0x20000];
const OPCODES = [1, 2, 3, 4, 5, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x18, 0x20, 0x28, 0x2a, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46, 0x46, 0x46, 0x99];

describe("whatever a guest does", () => {
  it.each([1, 2, 3, 4, 5, 6])("work is bounded and the state holds together, seed %i", (seed) => {
    const random = numbers(seed);
    let memory!: CountingMemory;
    const rig = new Rig(
      {
        stage: seed % 3 === 0 ? "nested" : "1",
        msi: seed % 2 === 0,
        ats: seed > 2,
        ril: seed !== 4,
        ssidsize: seed > 3 ? 8 : 0,
        oas: 48,
      },
      4,
      (words) => (memory = new CountingMemory(words)),
    );
    const { smmu } = rig;
    const backend = new RecordingBackend(5);
    if (seed !== 3) {
      smmu.backend = backend;
    }
    backend.strangers.add(7);
    backend.judge = () => (random(12) === 0 ? 1 + random(3) : 0);
    backend.installCode = () => (random(12) === 0 ? 1 : 0);
    const bytes = (log2: number): number => Math.max(32, 32 << log2);
    memory.writable = () => {
      const base = smmu.registers.queueBase(R.EVENTQ_BASE, smmu.eventQueueLog2Size + 5);
      return [base, base + bytes(smmu.eventQueueLog2Size)];
    };
    // Messages may hit the SMMU's own registers, or nothing.
    rig.messageLimit = 2 ** 47;
    rig.onMessage = (address, data) => {
      if (address % 3 === 0) {
        smmu.write(OFFSETS[address % OFFSETS.length] & ~3, 4, BigInt(data));
      }
    };
    const bus = new PciBus("pcie.0", null, { isRoot: true, isExpress: true });
    const space = smmu.softwareSpace(bus, 0);
    const word32 = (): number => {
      switch (random(6)) {
        case 0:
          return random(64);
        case 1:
          return 0xf & random(0x1_0000_0000);
        case 2:
          return (1 << random(32)) >>> 0;
        case 3:
          return (RAM_BASE + random(0x40_0000)) >>> 0;
        case 4:
          return (0xffff_ffff - random(16)) >>> 0;
        default:
          return random(0x1_0000_0000);
      }
    };
    rig.start(4, 3, 0xd);
    smmu.write(R.STRTAB_BASE, 8, BigInt(RAM_BASE));
    for (let step = 0; step < STEPS; step++) {
      memory.loads = 0;
      const fetches = smmu.commands.fetches;
      const entries = 2 ** 19;
      const what = random(16);
      let bound = 2 * entries;
      if (what < 4) {
        const offset = OFFSETS[random(OFFSETS.length)] + (random(8) === 0 ? random(8) : 0);
        const size = [4, 4, 4, 8, 1, 2][random(6)];
        smmu.write(offset, size, BigInt(word32()) | (BigInt(random(4) === 0 ? word32() : 0) << 32n));
        bound = 3 * 2 * 2 ** smmu.registers.commandQueueLog2Size + 16;
      } else if (what < 5) {
        smmu.read(OFFSETS[random(OFFSETS.length)], [4, 8, 1][random(3)]);
      } else if (what < 8) {
        // Some commands at the queue's place, and a step of PROD.
        const log2 = smmu.registers.commandQueueLog2Size;
        const base = smmu.registers.queueBase(R.CMDQ_BASE, log2 + 4);
        const prod = smmu.registers.word(R.CMDQ_PROD);
        const count = 1 + random(6);
        for (let n = 0; n < count; n++) {
          const at = base + ((prod + n) & ((1 << log2) - 1)) * 16;
          const flags = random(3) === 0 ? (word32() & 0xffff_ff00) >>> 0 : random(5) === 0 ? 0x1000 : 0;
          rig.store(
            at,
            BigInt(OPCODES[random(OPCODES.length)] | flags) | (BigInt(random(4) === 0 ? word32() : random(16)) << 32n),
            BigInt(random(2) === 0 ? word32() : random(32)),
          );
        }
        smmu.write(R.CMDQ_PROD, 4, BigInt(prod + count));
      } else if (what < 10) {
        rig.set(R.GERRORN, smmu.registers.word(0x60));
      } else if (what < 12) {
        // A device's DMA, and tables made of noise.
        rig.store(RAM_BASE + random(0x2000) * 8, BigInt(word32()) | (BigInt(random(2) === 0 ? word32() : 0) << 32n));
        const attributes: DmaAttributes = {
          requesterId: random(16),
          pasid: random(3) === 0 ? random(300) : -1,
          execute: random(2) === 0,
          privileged: random(2) === 0,
        };
        const iova = BigInt(random(2) === 0 ? random(0x10000) : RAM_BASE + random(0x40_0000)) | (BigInt(random(3) === 0 ? word32() : 0) << 32n);
        const code = random(2) === 0 ? space.read(iova, new Uint8Array(random(64)), attributes) : space.translate(iova, attributes);
        expect(code === null || typeof code === "number").toBe(true);
        bound = 1000;
      } else if (what < 13) {
        smmu.recordEvent(Int32Array.of(0x10, step, 0, 0, 0, 0, 0, 0));
        bound = 3 * 2 * 2 ** smmu.registers.commandQueueLog2Size + 16;
      } else if (what < 15 && random(4) === 0) {
        rig.set(R.CR0, 0);
        rig.set64(R.CMDQ_BASE, CMDQ + random(6));
        rig.set64(R.EVENTQ_BASE, EVENTQ + random(6));
        rig.set(R.CMDQ_CONS, 0);
        rig.set(R.CMDQ_PROD, 0);
        rig.set(R.CR0, 0xd);
      } else if (random(200) === 0) {
        smmu.reset();
        rig.start(random(6), random(6), 0xd);
      }
      // Bounded: each queue entry once at the most, two loads a command, and the structures of one access.
      expect(memory.loads).toBeLessThanOrEqual(bound);
      expect(smmu.commands.fetches - fetches).toBeLessThanOrEqual(3 * entries);
      expect(backend.pending).toBe(0);
      const cons = rig.get(R.CMDQ_CONS);
      expect(cons & 0x80f0_0000).toBe(0);
      expect((cons & 0xf_ffff) >>> (smmu.registers.commandQueueLog2Size + 1)).toBe(0);
      const errors = smmu.registers.activeErrors;
      expect(errors & ~(seed % 2 === 0 ? 0xb5 : 0x05)).toBe(0);
      expect(rig.get(R.CR0ACK)).toBe(rig.get(R.CR0));
      expect(rig.get(R.GBPA) & ~0x1f_3f1f).toBe(0);
    }
    const counters = smmu.counters();
    expect(counters.commands).toBeGreaterThan(100);
    expect(counters.commandErrors).toBeGreaterThan(10);
    expect(counters.events).toBeGreaterThan(10);
  });
});
