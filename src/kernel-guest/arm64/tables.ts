/** What the virt board's tables tell a kernel, which depends on where it and its ramdisk are put. */
import { ARM64_COMMAND_LINE, type Arm64Image, type Arm64Placement, placeArm64Linux, readArm64Image } from "../../boot/index.js";
import type { VirtBoard } from "../../machine/index.js";
import { Refusal } from "../../support/index.js";
import type { KernelFiles } from "../files.js";

/** Tells the board of the kernel that these files are: its tables are for that one from then on. @throws Refusal */
export function prepareTables(board: VirtBoard, { kernel, kernelName, ramdisk, commandLine }: KernelFiles): void {
  placeKernel(board, readArm64Image(kernel, kernelName), ramdisk?.length ?? 0, commandLine);
}

/** Tells the board of its kernel, and where that and its ramdisk go. @throws Refusal */
export function placeKernel(board: VirtBoard, image: Arm64Image, ramdiskBytes: number, commandLine: string): Arm64Placement {
  const { ram } = board.map;
  const length = new TextEncoder().encode(commandLine).length;
  if (length > ARM64_COMMAND_LINE) {
    throw new Refusal("the kernel's command line is too long", { found: `${length} bytes`, wouldWork: `${ARM64_COMMAND_LINE} bytes at the most, which a kernel for arm64 takes` });
  }
  // The tables take the same room wherever the ramdisk is.
  board.kernelBoot = { commandLine, ramdisk: ramdiskBytes === 0 ? null : { base: 0, size: ramdiskBytes } };
  const { deviceTree, acpi, efi } = board.buildTables();
  const end = Math.max(...[deviceTree, acpi, efi].map((table) => (table === null || table === undefined ? 0 : table.address + table.bytes.length)));
  const place = placeArm64Linux(image, ramdiskBytes, ram, end - ram.base);
  board.kernelBoot = { commandLine, ramdisk: place.ramdisk };
  return place;
}
