/** Invalidation by registers (Intel VT-d 5.x, 6.5.1): CCMD and IOTLB, for units without an invalidation queue. */
import { get, getWide, pack } from "../../support/index.js";
import { CCMD, CONTEXT_CACHE_DESC, DESCRIPTOR_TYPE, IOTLB_DESC, IOTLB_REG, IOTLB_REG_OFFSET, IVA, REG, descriptorType } from "../../vtd/spec/index.js";
import { GuestFailure } from "../failure.js";
import { fromQword, toQwords } from "../iommu/words.js";
import type { VtdRegisters } from "./registers.js";

const POLLS = 1000;
const BUSY = 1n << 63n;

/** Does what the descriptors say, one after the other; context-cache and IOTLB descriptors only. `iotlb`: offset of IVA. */
export async function invalidateByRegisters(registers: VtdRegisters, iotlb: number, descriptors: readonly Int32Array[]): Promise<void> {
  for (const one of descriptors) {
    const type = descriptorType(one[0]);
    if (type === DESCRIPTOR_TYPE.CONTEXT_CACHE) {
      const ccmd = pack(CCMD, new Int32Array(2), {
        ICC: 1,
        CIRG: get(one, CONTEXT_CACHE_DESC.G),
        DID: get(one, CONTEXT_CACHE_DESC.DID),
        SID: get(one, CONTEXT_CACHE_DESC.SID),
        FM: get(one, CONTEXT_CACHE_DESC.FM),
      });
      await run(registers, REG.CCMD, toQwords(ccmd)[0]);
    } else if (type === DESCRIPTOR_TYPE.IOTLB) {
      const address = pack(IVA, new Int32Array(2), { ADDR: getWide(one, IOTLB_DESC.ADDR), AM: get(one, IOTLB_DESC.AM), IH: get(one, IOTLB_DESC.IH) });
      await registers.write64(iotlb, toQwords(address)[0]);
      const command = pack(IOTLB_REG, new Int32Array(2), {
        IVT: 1,
        IIRG: get(one, IOTLB_DESC.G),
        DR: get(one, IOTLB_DESC.DR),
        DW: get(one, IOTLB_DESC.DW),
        DID: get(one, IOTLB_DESC.DID),
      });
      await run(registers, iotlb + IOTLB_REG_OFFSET, toQwords(command)[0]);
    } else {
      throw new GuestFailure(`${registers.name}: no register does what a descriptor of type ${type} says`);
    }
  }
}

/** Both registers are busy while bit 63 is set. What was performed may be more than what was asked for, not less. */
async function run(registers: VtdRegisters, register: number, value: bigint): Promise<void> {
  await registers.write64(register, value);
  for (let i = 0; i < POLLS; i++) {
    const now = await registers.read64(register);
    if ((now & BUSY) === 0n) {
      const { CIRG, CAIG } = CCMD;
      const asked = register === REG.CCMD ? get(fromQword(value), CIRG) : get(fromQword(value), IOTLB_REG.IIRG);
      const done = register === REG.CCMD ? get(fromQword(now), CAIG) : get(fromQword(now), IOTLB_REG.IAIG);
      if (done === 0 || done > asked) {
        throw new GuestFailure(`${registers.name}: register 0x${register.toString(16)} performed granularity ${done}, ${asked} was asked for`);
      }
      return;
    }
  }
  throw new GuestFailure(`${registers.name}: the invalidation by register 0x${register.toString(16)} does not end`);
}
