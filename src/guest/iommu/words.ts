/** 32-bit words as 64-bit ones, two each. */
export function toQwords(words: Int32Array): bigint[] {
  return Array.from({ length: words.length >> 1 }, (_, i) => (BigInt(words[i * 2 + 1] >>> 0) << 32n) | BigInt(words[i * 2] >>> 0));
}

/** A 64-bit word as two 32-bit ones, the low one first. */
export function fromQword(value: bigint): Int32Array {
  return Int32Array.of(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}
