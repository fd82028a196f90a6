/** Copies of hosts of different kinds, made by us, true to how such trees look. */
import type { Snapshot } from "../../../src/host/sysfs/index.js";
import { altra, ampere, grace } from "./arm.js";
import { desktop, epyc, xeon } from "./x86.js";

export { SECRET, HostMaker } from "./maker.js";

export const captures = { grace, ampere, altra, xeon, epyc, desktop } as const satisfies Record<string, () => Snapshot>;

export type CaptureName = keyof typeof captures;

export const CAPTURES = Object.keys(captures) as CaptureName[];
