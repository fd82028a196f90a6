import type { OutsideCounts } from "../inspect/timeline/index.js";
import type { Machine } from "../machine/index.js";

/** A character device as query-chardev tells it. */
export interface ChardevState {
  readonly label: string;
  readonly filename: string;
  /** A peer is connected. */
  readonly open: boolean;
}

/** What a monitor works on. */
export interface MonitorTarget {
  readonly machine: Machine;
  /** This program's name and version, told as QEMU's `package`. */
  readonly packageName: string;
  /** What is counted beside the machine; left out: nothing is. */
  readonly counts?: OutsideCounts;
  chardevs(): ChardevState[];
  /** Ends the run once what has been said is sent. */
  quit(): void;
}
