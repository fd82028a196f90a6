/** What a case puts into memory, whatever the architecture. */

/** 64-bit words of memory by address (a multiple of 8). */
export type Words = Map<number, bigint>;

/** Takes aligned memory: bytes, alignment. */
export type Allocator = (bytes: number, alignment: number) => number;

/** Takes memory of a pool, lowest address first. */
export function allocatorOf(pool: { readonly base: number; readonly size: number }): Allocator {
  let next = pool.base;
  return (bytes, alignment) => {
    const at = Math.ceil(next / alignment) * alignment;
    next = at + bytes;
    if (next > pool.base + pool.size) {
      throw new Error("the pool of tables is too small");
    }
    return at;
  };
}

/** Puts 32-bit words at an address. */
export function putWords(words: Words, address: number, image: ArrayLike<number>): void {
  for (let n = 0; n < image.length; n += 2) {
    words.set(address + 4 * n, (BigInt(image[n + 1] >>> 0) << 32n) | BigInt(image[n] >>> 0));
  }
}

/** Bytes from an address on that hold, at each multiple of 4, the low half of their own address. */
export function ownAddresses(address: number, length: number): Uint8Array {
  const words = new Uint32Array(length / 4);
  for (let n = 0; n < words.length; n++) {
    words[n] = address + 4 * n;
  }
  return new Uint8Array(words.buffer);
}

/** The words as runs of neighbouring ones, lowest address first. */
export function runs(words: ReadonlyMap<number, bigint>): Array<[number, Uint8Array]> {
  const out: Array<[number, Uint8Array]> = [];
  const addresses = [...words.keys()].sort((a, b) => a - b);
  for (let from = 0; from < addresses.length; ) {
    let to = from + 1;
    while (to < addresses.length && addresses[to] === addresses[to - 1] + 8) {
      to++;
    }
    const values = BigUint64Array.from(addresses.slice(from, to), (address) => words.get(address) ?? 0n);
    out.push([addresses[from], new Uint8Array(values.buffer)]);
    from = to;
  }
  return out;
}
