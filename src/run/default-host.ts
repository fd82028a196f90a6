import { DEFAULT_HOSTS } from "../host/shipped/index.js";
import type { MachineArguments } from "../machine/arguments/index.js";

/** The host of a machine for which none is named: one with its architecture's IOMMUs. */
export function defaultHost({ machine }: MachineArguments): string {
  return DEFAULT_HOSTS[machine.board];
}
