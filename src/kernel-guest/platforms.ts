/** The platform of a machine's board. */
import { type Machine, Q35Board } from "../machine/index.js";
import { Refusal } from "../support/index.js";
import type { KernelFiles } from "./files.js";
import type { KernelPlatform } from "./platform.js";
import { X86Platform } from "./x86/platform.js";

/** @throws Refusal where a kernel cannot run on the board */
export function platformOf({ board }: Machine, files: KernelFiles): KernelPlatform {
  if (board instanceof Q35Board) {
    return new X86Platform(board, files);
  }
  throw new Refusal("-kernel is for q35 machines on x86", { found: `a ${board.kind} machine`, wouldWork: "-machine q35,accel=kvm; --guest linux on other boards" });
}
