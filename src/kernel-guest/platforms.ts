/** The platform of a machine's board. */
import { type Machine, Q35Board, VirtBoard } from "../machine/index.js";
import { Refusal } from "../support/index.js";
import { Arm64Platform } from "./arm64/platform.js";
import { prepareTables } from "./arm64/tables.js";
import type { KernelFiles } from "./files.js";
import type { KernelPlatform } from "./platform.js";
import { X86Platform } from "./x86/platform.js";

/** Node.js' names of the processors that a board's machine has. */
const PROCESSORS = { q35: "x64", virt: "arm64" } as const;

/** @throws Refusal where a kernel cannot run on the board, or the board's processors not on this machine */
export function platformOf({ board }: Machine, files: KernelFiles): KernelPlatform {
  const processor = PROCESSORS[board.kind];
  if (process.arch !== processor) {
    throw new Refusal("invalid accelerator kvm", {
      found: `a ${board.kind} machine, whose processors are ${processor}, on a host of ${process.arch}`,
      wouldWork: `a host of ${processor}; --guest linux, which needs no vCPUs, everywhere`,
    });
  }
  if (board instanceof Q35Board) {
    return new X86Platform(board, files);
  }
  if (board instanceof VirtBoard) {
    return new Arm64Platform(board, files);
  }
  throw new Refusal("a kernel does not run on this board", { found: board.kind, wouldWork: "q35, virt" });
}

/** Has the machine's tables be those that the kernel would get, where they differ from others' (virt). @throws Refusal */
export function tablesFor({ board }: Machine, files: KernelFiles): void {
  if (board instanceof VirtBoard) {
    prepareTables(board, files);
  }
}
