/** What is copied of a function's configuration space: its header, and the capabilities that say something of passing it through. */

/** Bytes of the capabilities that are copied, by id (PCI Code and ID Assignment): power management, MSI, PCI Express, MSI-X. */
const KEPT: ReadonlyMap<number, number> = new Map([
  [0x01, 8],
  [0x05, 24],
  [0x10, 60],
  [0x11, 12],
]);

/** The same of extended capabilities: ACS, ARI, ATS, SR-IOV, page requests, resizable BARs, PASID. */
const KEPT_EXTENDED: ReadonlyMap<number, number> = new Map([
  [0x0d, 8],
  [0x0e, 8],
  [0x0f, 8],
  [0x10, 64],
  [0x13, 16],
  [0x15, 52],
  [0x1b, 8],
]);

const HEADER_BYTES = 64;
const EXTENDED = 0x100;
const SPACE_BYTES = 4096;

/** Where a capability is, whether an extended one. */
export interface Capability {
  readonly id: number;
  readonly offset: number;
  readonly extended: boolean;
}

/** The capabilities that can be read: what is beyond the bytes at hand is not told of. Lists that go in circles end. */
export function capabilitiesOf(space: Uint8Array): Capability[] {
  const found: Capability[] = [];
  const seen = new Set<number>();
  const hasList = space.length > 0x34 && (space[0x06] & 0x10) !== 0;
  let offset = hasList ? space[0x34] & 0xfc : 0;
  while (offset >= HEADER_BYTES && offset + 2 <= Math.min(space.length, EXTENDED) && !seen.has(offset)) {
    seen.add(offset);
    found.push({ id: space[offset], offset, extended: false });
    offset = space[offset + 1] & 0xfc;
  }
  offset = EXTENDED;
  while (offset >= EXTENDED && offset + 4 <= Math.min(space.length, SPACE_BYTES) && !seen.has(offset)) {
    seen.add(offset);
    const header = word(space, offset);
    if (header === 0 || header === 0xffff_ffff) {
      break;
    }
    found.push({ id: header & 0xffff, offset, extended: true });
    offset = (header >>> 20) & 0xffc;
  }
  return found;
}

/** Four bytes, little-endian; what is missing is zero. */
export function word(space: Uint8Array, offset: number): number {
  return ((space[offset] ?? 0) | ((space[offset + 1] ?? 0) << 8) | ((space[offset + 2] ?? 0) << 16) | ((space[offset + 3] ?? 0) << 24)) >>> 0;
}

/**
 * The space with all else zero: of other capabilities the header alone is left, so that no serial number (DSN, VPD),
 * no address of a network and nothing that a vendor has put in there goes with a capture.
 */
export function blanked(space: Uint8Array): Uint8Array {
  const out = new Uint8Array(space.length);
  const keep = (from: number, bytes: number): void => {
    const end = Math.min(space.length, from + bytes);
    if (from < end) {
      out.set(space.subarray(from, end), from);
    }
  };
  keep(0, HEADER_BYTES);
  for (const { id, offset, extended } of capabilitiesOf(space)) {
    keep(offset, extended ? (KEPT_EXTENDED.get(id) ?? 4) : (KEPT.get(id) ?? 2));
  }
  return out;
}
