/**
 * The shape of VMSAv8-64 tables with 8-byte descriptors, 48-bit addresses, without FEAT_LPA2 and FEAT_TTST
 * (Arm DDI 0487 D8.2).
 */

/** log2 of the granules in bytes. */
export type GranuleBits = 12 | 14 | 16;

/** log2 of the bytes that a descriptor at `level` maps or covers. */
export function levelShift(granuleBits: number, level: number): number {
  return granuleBits + (granuleBits - 3) * (3 - level);
}

/** Level of a stage-1 walk's first lookup for `inputBits` = 64 - TxSZ: as few levels as resolve them (DDI 0487 D8.2.6 to D8.2.8). */
export function stage1StartLevel(granuleBits: GranuleBits, inputBits: number): number {
  return 4 - Math.ceil((inputBits - granuleBits) / (granuleBits - 3));
}

/**
 * Level of a stage-2 walk's first lookup by S2SL0, or -1 where the architecture makes the combination
 * invalid: a reserved S2SL0, a level that needs larger physical addresses than `physicalBits`, or an input
 * size that is not resolved from that level with at most 16 concatenated tables (DDI 0487 D8.2.6 to D8.2.8).
 */
export function stage2StartLevel(granuleBits: GranuleBits, sl0: number, inputBits: number, physicalBits: number): number {
  if (sl0 === 3) {
    return -1;
  }
  if (sl0 === 2 && physicalBits < (granuleBits === 14 ? 42 : 44)) {
    return -1;
  }
  const level = (granuleBits === 12 ? 2 : 3) - sl0;
  const resolvedBelow = levelShift(granuleBits, level);
  const most = resolvedBelow + granuleBits - 3 + 4;
  return inputBits > resolvedBelow && inputBits <= most ? level : -1;
}

/**
 * Which half of a stage-1 address space an address lies in: 0 for TTB0, 1 for TTB1, -1 where its top bits
 * belong to neither (a translation fault; IHI 0070 3.4.1). Bit 55 chooses; the bits from the range's size
 * up to 63 must equal it, or up to 55 where the range's top byte is ignored.
 *
 * @param t0sz,t1sz 64 minus the bits of each range
 * @param tbi0,tbi1 top byte ignored (CD.TBI)
 */
export function selectStage1Range(
  addressHigh: number,
  addressLow: number,
  t0sz: number,
  t1sz: number,
  tbi0: boolean,
  tbi1: boolean,
): 0 | 1 | -1 {
  const upper = (addressHigh & 0x0080_0000) !== 0;
  const size = upper ? t1sz : t0sz;
  const high = (upper ? ~addressHigh : addressHigh) & ((upper ? tbi1 : tbi0) ? 0x00ff_ffff : -1);
  const low = upper ? ~addressLow : addressLow;
  const beyond = size >= 32 ? high | (size === 32 ? 0 : low >>> (64 - size)) : high >>> (32 - size);
  return beyond !== 0 ? -1 : upper ? 1 : 0;
}
