/** Seeded numbers and patterns (xorshift32), so that a run can be repeated. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 0x9e37_79b9;
  }

  /** 32 unsigned bits. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }

  /** From 0 to `limit` - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i += 4) {
      const word = this.next();
      for (let b = 0; b < 4 && i + b < length; b++) {
        out[i + b] = word >>> (8 * b);
      }
    }
    return out;
  }
}
