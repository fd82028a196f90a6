/**
 * Starts Linux on arm64 without firmware: where kernel and initial ramdisk go (Linux Documentation/arch/arm64/booting.rst).
 * What the kernel is told of its machine, a device tree with or without ACPI's tables behind it, is the machine's.
 */
import { Refusal } from "../support/index.js";
import type { Arm64Image } from "./arm64-image.js";

/** The kernel is put at text_offset from a multiple of it; the device tree is no larger. */
const ALIGNMENT = 2 * 2 ** 20;
/** From the start of RAM to an initial ramdisk, or half of RAM where that is less, as QEMU has it. */
const RAMDISK_OFFSET = 128 * 2 ** 20;
const PAGE = 0x1_0000;

/** Bytes of a command line at the most, without its end: COMMAND_LINE_SIZE of Linux's arch/arm64/include/uapi/asm/setup.h, less one. */
export const ARM64_COMMAND_LINE = 2047;

export interface Range {
  readonly base: number;
  readonly size: number;
}

export interface Arm64Placement {
  /** Where the first processor begins. */
  readonly instruction: number;
  /** Null: there is none. */
  readonly ramdisk: Range | null;
}

/**
 * Places kernel and ramdisk. Guest-physical addresses.
 * @param ram in one piece
 * @param reserved bytes at its start that are taken: the machine's tables
 * @throws Refusal where something has no place
 */
export function placeArm64Linux(image: Arm64Image, ramdiskBytes: number, ram: Range, reserved: number): Arm64Placement {
  const up = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
  const end = ram.base + ram.size;
  const instruction = up(ram.base + reserved, ALIGNMENT) + image.textOffset;
  const kernelEnd = instruction + image.bytes;
  if (kernelEnd > end) {
    throw new Refusal("the kernel does not fit into memory", { found: `it needs ${image.bytes} bytes at 0x${instruction.toString(16)}; RAM ends at 0x${end.toString(16)}`, wouldWork: megabytes(kernelEnd - ram.base) });
  }
  if (ramdiskBytes === 0) {
    return { instruction, ramdisk: null };
  }
  const base = Math.max(ram.base + Math.min(up(ram.size / 2, PAGE), RAMDISK_OFFSET), up(kernelEnd, PAGE));
  if (base + ramdiskBytes > end) {
    const need = Math.max(up(kernelEnd, PAGE) - ram.base + ramdiskBytes, Math.min(2 * up(ramdiskBytes, PAGE), RAMDISK_OFFSET + ramdiskBytes));
    throw new Refusal("the initial ramdisk does not fit into memory", { found: `${ramdiskBytes} bytes at 0x${base.toString(16)}; RAM ends at 0x${end.toString(16)}`, wouldWork: `${megabytes(need)}, or a smaller -initrd` });
  }
  return { instruction, ramdisk: { base, size: ramdiskBytes } };
}

const megabytes = (bytes: number): string => `-m ${Math.ceil(bytes / 2 ** 20)}M`;
