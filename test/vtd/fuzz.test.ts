import { describe, expect, it } from "vitest";
import { xorshift32 } from "../../bench/random.js";
import { QUEUE, R, Rig } from "./rig.js";

const KINDS = [{}, { scalableMode: true }, { scalableMode: true, fsts: true, pasidBits: 20, deviceIotlb: true, svm: true }, { eim: true, cachingMode: true }];
const PLACES = [R.GCMD, R.RTADDR, R.CCMD, R.FSTS, R.FECTL, R.IQT, R.IQA, R.ICS, R.IECTL, R.IRTA, R.IVA, R.IOTLB, R.IOTLB + 4, R.FRCD + 12];

describe.each(KINDS.map((properties, kind) => ({ kind, properties })))("whatever a guest writes, unit $kind", ({ kind, properties }) => {
  it.each([1, 2, 3, 4])("is answered with bounded work, and the unit goes on (seed %i)", (seed) => {
    const rig = new Rig(properties, 4);
    const next = xorshift32(seed * 7919 + kind);
    const bytes = new Uint8Array(0x1_0000);
    const fill = (address: number): void => {
      for (let i = 0; i < bytes.length; i += 16) {
        // Descriptors that are nearly in order are met more often than noise.
        const type = next() % 12;
        const view = new DataView(bytes.buffer, i, 16);
        view.setUint32(0, next() % 4 === 0 ? next() : type | ((next() % 16) << 4) | ((next() & 0xffff) << 16), true);
        view.setUint32(4, next() % 4 === 0 ? next() : 0, true);
        view.setUint32(8, next() % 3 === 0 ? next() : (next() % 0x400) << 12, true);
        view.setUint32(12, next() % 8 === 0 ? next() : 0, true);
      }
      rig.ram.write(address, bytes);
    };
    fill(QUEUE);
    fill(0x10_0000);
    rig.onMessage = () => {
      if (next() % 4 === 0) {
        rig.write(PLACES[next() % PLACES.length], next());
      }
    };
    for (let step = 0; step < 3000; step++) {
      const offset = next() % 8 === 0 ? (next() % 0x260) & ~3 : PLACES[next() % PLACES.length];
      const pointer = BigInt(next() % 2 === 0 ? QUEUE : 0x10_0000) | BigInt(next() & 0xcff);
      const value = next() % 3 === 0 ? pointer : (BigInt(next()) << 32n) | BigInt(next() % 2 === 0 ? next() : (next() % 64) << 4);
      rig.vtd.write(offset, next() % 2 === 0 ? 8 : 4, next() % 2 === 0 ? value : BigInt.asUintN(32, value));
      if (step % 7 === 0) {
        rig.vtd.remapInterrupt(next() & 0xffff, BigInt(0xfee0_0000 | (next() & 0xf_fffc)), next());
        rig.vtd.translator.translate(next() & 0xffff, next() % 3 === 0 ? next() & 0xf_ffff : -1, next() & 0xffff, next() | 0, 1 + (next() % 3));
      }
    }
    // After a reset everything works as at the start.
    rig.onMessage = () => {};
    rig.vtd.reset();
    rig.wide = false;
    rig.tail = 0;
    rig.startQueue();
    rig.run((0x1234n << 32n) | 0x25n, 0x2_0000n);
    expect([rig.load32(0x2_0000), rig.read(R.FSTS)]).toEqual([0x1234, 0]);
  });
});
