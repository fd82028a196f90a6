/** The smallest naturally aligned power of two of 4 KiB pages that covers a range: log2 of the pages, and where it starts. */
export function coveringBlock(iova: bigint, size: number): { readonly start: bigint; readonly order: number } {
  const first = iova >> 12n;
  const last = (iova + BigInt(size) - 1n) >> 12n;
  let order = 0;
  while (first >> BigInt(order) !== last >> BigInt(order)) {
    order++;
  }
  return { start: ((first >> BigInt(order)) << BigInt(order)) << 12n, order };
}
