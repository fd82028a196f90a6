/** The files that a kernel starts from, read before anything is made. */
import { readFileSync } from "node:fs";
import { Refusal, systemWords } from "../support/index.js";

export interface KernelFiles {
  readonly kernel: Uint8Array;
  readonly kernelName: string;
  readonly ramdisk: Uint8Array | null;
  readonly commandLine: string;
}

/** @throws Refusal in QEMU's words where one cannot be read */
export function readKernelFiles(boot: { readonly kernel: string; readonly initrd: string | null; readonly commandLine: string }): KernelFiles {
  return {
    kernel: read(boot.kernel, `could not load kernel '${boot.kernel}'`, "-kernel FILE; --guest linux runs the guest program without a kernel"),
    kernelName: boot.kernel,
    ramdisk: boot.initrd === null ? null : read(boot.initrd, `could not load initrd '${boot.initrd}'`, "-initrd FILE"),
    commandLine: boot.commandLine,
  };
}

function read(path: string, words: string, wouldWork: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Refusal(`${words}`, { found: systemWords(error), wouldWork });
  }
}
