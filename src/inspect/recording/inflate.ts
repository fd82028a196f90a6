/** Undoes zlib's compression (RFC 1950), in Node.js and in browsers. */

/** @returns null: it is damaged, or does not come to exactly `size` bytes; no more than those are held */
export async function inflate(bytes: Uint8Array, size: number): Promise<Uint8Array | null> {
  const out = new Uint8Array(size);
  let filled = 0;
  try {
    const stream = new Blob([Uint8Array.from(bytes)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const reader = stream.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      if (filled + piece.value.length > size) {
        await reader.cancel();
        return null;
      }
      out.set(piece.value, filled);
      filled += piece.value.length;
    }
  } catch {
    return null;
  }
  return filled === size ? out : null;
}
