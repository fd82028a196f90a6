import { capabilityRegister, DEFAULT_VTD_PROPERTIES, extendedCapabilityRegister } from "../src/vtd/index.js";
import { DescriptorRules } from "../src/vtd/lookup/index.js";
import { DESCRIPTOR_TYPE, descriptorType, PASID_IOTLB_DESC, PASID_IOTLB_PAGE, TTM_SCALABLE, WIDE_DESCRIPTOR_WORDS } from "../src/vtd/spec/index.js";
import { PasidIotlbBatch } from "../src/vtd/accel/batch.js";
import { compare, processorTime, type Round } from "./measure.js";
import { xorshift32 } from "./random.js";
import type { Bench } from "./registry.js";

/** Descriptors in the queue; bench/c/descriptor.c makes the same ones. */
export const DESCRIPTORS = 1 << 14;
const PASSES = 64;

const PASID_IOTLB = DESCRIPTOR_TYPE.PASID_IOTLB;
const GRANULARITY = PASID_IOTLB_DESC.G.inPlace;
const PAGE = PASID_IOTLB_PAGE << PASID_IOTLB_DESC.G.shift;
const ADDRESS = PASID_IOTLB_DESC.ADDR.lowMask;
const ADDRESS_MASK = PASID_IOTLB_DESC.AM.mask;
const HINT = PASID_IOTLB_DESC.IH.inPlace;

/**
 * What a drain of VT-d's invalidation queue does with a descriptor of 256 bits before anything acts on it: fetch,
 * judge, and put PASID-based IOTLB invalidations into the host's entries.
 */
export const descriptorBench: Bench = {
  name: "descriptor",
  title: "decoding of invalidation descriptors",
  async run(context) {
    const queue = makeDescriptors();
    const properties = { ...DEFAULT_VTD_PROPERTIES, scalableMode: true, fsts: true, pasidBits: 20, deviceIotlb: true };
    const rules = new DescriptorRules(capabilityRegister(properties), extendedCapabilityRegister(properties));
    const batch = new PasidIotlbBatch();
    const js = (): Round => {
      let sum = 0;
      const start = processorTime();
      for (let pass = 0; pass < PASSES; pass++) {
        sum = decodeAll(queue, rules, batch, sum);
      }
      return { figure: ((processorTime() - start) * 1e6) / (DESCRIPTORS * PASSES), checksum: String(sum >>> 0) };
    };
    const program = await context.startC("descriptor");
    return compare([{ name: "descriptorDecode", unit: "ns/descriptor", target: 2.2, js, question: "decode" }], program, context.rounds);
  },
};

/** Decodes the whole queue; returns `sum` with the results mixed in. */
function decodeAll(queue: Int32Array, rules: DescriptorRules, batch: PasidIotlbBatch, sum: number): number {
  let bad = 0;
  batch.clear();
  for (let from = 0; from < queue.length; from += WIDE_DESCRIPTOR_WORDS) {
    const w0 = queue[from];
    const w1 = queue[from + 1];
    const w2 = queue[from + 2];
    const w3 = queue[from + 3];
    const upper = queue[from + 4] | queue[from + 5] | queue[from + 6] | queue[from + 7];
    const type = descriptorType(w0);
    if (rules.problem(w0, w1, w2, w3, upper, type, TTM_SCALABLE) !== 0) {
      bad++;
    } else if (type === PASID_IOTLB) {
      batch.add(from, w3, w2 & ADDRESS, (w0 & GRANULARITY) === PAGE ? w2 & ADDRESS_MASK : -1, (w2 & HINT) !== 0);
    } else {
      sum = (Math.imul(sum, 31) + w1) | 0;
    }
  }
  return (Math.imul(sum, 31) + batch.pending + bad) | 0;
}

/** A queue as Linux fills it: mostly page-selective invalidations with their device-TLB ones, waits, now and then a wrong one. */
export function makeDescriptors(): Int32Array {
  const queue = new Int32Array(DESCRIPTORS * WIDE_DESCRIPTOR_WORDS);
  const random = xorshift32(12_345);
  for (let n = 0; n < DESCRIPTORS; n++) {
    const kind = random() % 16;
    const low = random();
    const high = random();
    const at = n * WIDE_DESCRIPTOR_WORDS;
    if (kind < 8) {
      queue[at] = 0x36 | (low & 0xffff_0000);
      queue[at + 1] = high & 0xf_ffff;
      queue[at + 2] = (low & ~0xfff) | (high & 0x4f & ~0x20);
      queue[at + 3] = high & 0xffff;
    } else if (kind < 11) {
      queue[at] = 0x8 | (low & 0xffff_0000);
      queue[at + 1] = high & 0xf_ffff;
      queue[at + 2] = low & ~0xfff;
    } else if (kind < 14) {
      queue[at] = 0x25;
      queue[at + 1] = low;
      queue[at + 2] = high & ~3;
    } else if (kind === 14) {
      queue[at] = 0x17 | (low & 0xffff_0000);
      queue[at + 1] = high & 0xf_ffff;
    } else {
      queue[at] = 0x1f | (low & 0xffff_0000);
    }
  }
  return queue;
}
