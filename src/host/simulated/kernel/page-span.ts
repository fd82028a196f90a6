/**
 * The smallest naturally aligned power of two of 4-KiB pages that holds a range, as invalidations take it
 * (PCIe 10.3.8; IHI 0070 4.5.1; Intel VT-d 6.5.2).
 *
 * @param first number of the range's first page, below 2^52
 * @param last of its last page
 */
export function spanOf(first: number, last: number): { readonly page: number; readonly bits: number } {
  let bits = 0;
  while (Math.floor(first / 2 ** bits) !== Math.floor(last / 2 ** bits)) {
    bits++;
  }
  return { page: first - (first % 2 ** bits), bits };
}
