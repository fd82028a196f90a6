/** Where functions of QEMU are not as those placed here. Ids: docs/differences.md. */
import type { Rule } from "../agreement.js";
import { atLeast } from "../find-qemu.js";
import type { Placement } from "./config-spaces.js";

/** A chipset function, or a bridge that is modelled: they have rows of their own. */
const OTHERS = /^00:(?:00\.0|1f\.\d)|000e1b36|000c1b36/;

export const placementRules: ReadonlyArray<Rule<Placement>> = [
  // The chipset's I/O BARs, and hot-plug controllers of bridges.
  { id: "F-10", explains: ({ key }) => key.startsWith("00:1f.") || key.startsWith("00:00.0") },
  { id: "F-12", explains: ({ key }) => key.includes(" 000e1b36 ") },
  // Functions are QEMU 11.1's, whose capabilities and revisions an older one has not; nor has its balloon vectors.
  { id: "F-23", versions: (version) => !atLeast(version, 11, 0), explains: ({ key }) => !OTHERS.test(key) && /capability|MSI-X|class|subsystem|10021af4 BAR at 14/.test(key) },
];
