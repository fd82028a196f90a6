/** Configuration space of a placed function as its properties have it: sizes of BARs, vectors. */
import type { InertSpace } from "../devices/index.js";
import type { DeviceArgument } from "./arguments/index.js";

const MIB = 2 ** 20;

interface SizedBar {
  readonly bar: number;
  /** Bytes for each unit of the property. */
  readonly unit: number;
  /** The least. */
  readonly least: number;
}

/** Properties that say how large a BAR is, by the functions that have them (QEMU's hw/display and hw/misc). */
const SIZES: Readonly<Record<string, Readonly<Record<string, SizedBar>>>> = {
  ...Object.fromEntries(["VGA", "secondary-vga", "ati-vga", "virtio-vga", "virtio-vga-gl"].map((name) => [name, { vgamem_mb: { bar: 0, unit: MIB, least: MIB } }])),
  "bochs-display": { vgamem: { bar: 0, unit: 1, least: 4 * MIB } },
  "vmware-svga": { vgamem_mb: { bar: 1, unit: MIB, least: MIB } },
  ...Object.fromEntries(
    ["qxl", "qxl-vga"].map((name) => [
      name,
      { ram_size: { bar: 0, unit: 1, least: 16 * MIB }, ram_size_mb: { bar: 0, unit: MIB, least: 16 * MIB }, vram_size: { bar: 1, unit: 1, least: 4096 }, vram_size_mb: { bar: 1, unit: MIB, least: 4096 } },
    ]),
  ),
  "pci-testdev": { membar: { bar: 2, unit: 1, least: 4096 } },
};

const BARS = 0x10;
const CAPABILITIES_POINTER = 0x34;
const CAP_MSIX = 0x11;
/** Where a virtio function's pending bits are, behind a table of as many vectors. */
const MOST_VECTORS = 128;

/** Space of the record with what is said of BARs and vectors. */
export function spaceOf(device: DeviceArgument, recorded: InertSpace): InertSpace {
  const space = { size: recorded.size, image: recorded.image.slice(), mask: recorded.mask.slice() };
  for (const [name, { bar, unit, least }] of Object.entries(SIZES[device.model.name] ?? {})) {
    const value = device.properties.get(name);
    const bytes = value === undefined ? Number.NaN : Number(value as number | bigint) * unit;
    if (bytes > 0 && bytes < 2 ** 40) {
      resizeBar(space, bar, 2 ** Math.ceil(Math.log2(Math.max(bytes, least))));
    }
  }
  const vectors = device.properties.get("vectors");
  if (typeof vectors === "number" && vectors <= MOST_VECTORS && device.model.properties.has("disable-legacy")) {
    setVectors(space, vectors);
  }
  return space;
}

/** Of a memory BAR that is there, whose address has 64 bits where the size asks for more than 32. */
function resizeBar({ image, mask }: InertSpace, bar: number, bytes: number): void {
  const at = BARS + 4 * bar;
  const low = new DataView(mask.buffer);
  const is64 = (image[at] & 4) !== 0;
  if (low.getUint32(at, true) === 0 || (!is64 && bytes > 2 ** 31)) {
    return;
  }
  const writable = -BigInt(bytes);
  low.setUint32(at, Number(BigInt.asUintN(32, writable)) & ~0xf, true);
  if (is64) {
    low.setUint32(at + 4, Number(BigInt.asUintN(32, writable >> 32n)), true);
  }
}

/** 0: the function has no MSI-X. */
function setVectors({ image, mask }: InertSpace, vectors: number): void {
  let link = CAPABILITIES_POINTER;
  for (let hops = 0; image[link] !== 0 && hops < 48; hops++) {
    const at = image[link];
    if (image[at] !== CAP_MSIX) {
      link = at + 1;
      continue;
    }
    if (vectors === 0) {
      image[link] = image[at + 1];
      image.fill(0, at, at + 12);
      mask.fill(0, at, at + 12);
    } else {
      image[at + 2] = (vectors - 1) & 0xff;
      image[at + 3] = (image[at + 3] & 0xf8) | ((vectors - 1) >> 8);
    }
    return;
  }
}
