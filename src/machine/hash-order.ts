/**
 * The order in which GLib's hash table (2.60 and newer) goes through names that were put into it one after the other,
 * which is the order of what QEMU makes of its objects. The table has a power of two of places; a name starts at its
 * hash modulo a prime and goes on by steps that grow. A table that grows moves each name once, in place: one that stands
 * where another belongs gives way and is moved next (ghash.c, resize_map).
 */

/** The largest prime below each power of two. */
const PRIMES = [1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521];
const SMALLEST_SHIFT = 3;
/** Hashes of empty and of deleted places, which no name may have. */
const FIRST_HASH = 2;
const SPREAD = 11;
/** How much room a table has that is made anew. */
const ROOM = 1.333;

/** g_str_hash: Bernstein's, of 32 bits. */
function hashOf(name: string): number {
  let hash = 5381;
  for (const byte of new TextEncoder().encode(name)) {
    hash = (Math.imul(hash, 33) + ((byte << 24) >> 24)) >>> 0;
  }
  return Math.max(hash, FIRST_HASH);
}

class NameTable {
  private places: Array<{ readonly name: string; readonly hash: number } | undefined> = [];
  private prime = 0;
  private count = 0;

  constructor() {
    this.resize(SMALLEST_SHIFT);
  }

  add(name: string): void {
    const hash = hashOf(name);
    this.places[this.freePlace(hash, (place) => this.places[place] !== undefined)] = { name, hash };
    this.count++;
    const size = this.places.length;
    if (size <= this.count + Math.floor(this.count / 16)) {
      let shift = 0;
      for (let rest = Math.floor(this.count * ROOM); rest > 0; rest >>>= 1) {
        shift++;
      }
      this.resize(Math.max(shift, SMALLEST_SHIFT));
    }
  }

  names(): string[] {
    return Array.from(this.places).flatMap((place) => place?.name ?? []);
  }

  private resize(shift: number): void {
    const { places } = this;
    const old = places.length;
    this.prime = PRIMES[shift];
    places.length = 2 ** shift;
    const moved = new Set<number>();
    for (let from = 0; from < old; from++) {
      if (moved.has(from)) {
        continue;
      }
      let entry = places[from];
      places[from] = undefined;
      while (entry !== undefined) {
        const at = this.freePlace(entry.hash, (place) => moved.has(place));
        moved.add(at);
        [places[at], entry] = [entry, places[at]];
      }
    }
  }

  private freePlace(hash: number, isTaken: (place: number) => boolean): number {
    // The product is of 32 bits, as the hash is.
    let at = (Math.imul(hash, SPREAD) >>> 0) % this.prime;
    for (let step = 1; isTaken(at); step++) {
      at = (at + step) & (this.places.length - 1);
    }
    return at;
  }
}

/** @param names each once, in the order of their coming, up to 50000 */
export function hashOrder(names: readonly string[]): string[] {
  const table = new NameTable();
  names.forEach((name) => table.add(name));
  return table.names();
}
