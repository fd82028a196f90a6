/** Memory above 4 GiB for the BARs of functions. */
import { crowdedBridges, type Machine, roomyWindow, VirtBoard, wideBarBytes } from "../../machine/index.js";
import type { Raised, Subject } from "../subject.js";

const GIB = 2 ** 30;
const gibibytes = (bytes: number): string => `${Math.ceil((10 * bytes) / GIB) / 10} GiB`;
/** What QEMU's q35 has where nobody says. */
const Q35_HOLE = 32 * GIB;

export function windows(subject: Subject, { board }: Machine): Raised[] {
  const roots = board.pci.rootBuses();
  const demands = roots.map(wideBarBytes);
  const wanted = demands.reduce((sum, demand) => sum + demand, 0);
  if (wanted === 0) {
    return [];
  }
  return board instanceof VirtBoard ? onVirt(subject, board, demands, wanted) : onQ35(subject, demands, wanted);
}

function onVirt(subject: Subject, board: VirtBoard, demands: readonly number[], wanted: number): Raised[] {
  const window = board.map.mmio64?.size ?? 0;
  const machine = subject.lastOption("machine", "M");
  const crowded = board.kernelBoot === null ? [] : crowdedBridges(board);
  if (wanted <= window && crowded.length === 0) {
    return [];
  }
  const value = `${roomyWindow(demands, 512 * GIB) / GIB}G`;
  const off = machine === null ? undefined : ["highmem", "highmem-mmio"].find((name) => ["off", "no", "false"].includes(subject.line.said(machine, name) ?? ""));
  const property = window === 0 && off !== undefined ? off : "highmem-mmio-size";
  return [
    {
      rule: "window-too-small",
      words: `BARs of functions want ${gibibytes(wanted)} of 64-bit memory, and there are ${gibibytes(window)}`,
      found: crowded[0]?.split("; would work")[0] ?? (window === 0 ? "no window above 4 GiB" : "highmem-mmio-size, of which bridges get aligned parts"),
      wouldWork: property === off ? `${off}=on` : `-machine highmem-mmio-size=${value}`,
      spot: machine === null ? null : { option: machine, property: subject.line.said(machine, property) === undefined ? "type" : property },
      mend: machine === null ? undefined : [{ kind: "set", option: machine, property, value: property === off ? "on" : value }],
    },
  ];
}

/** What a q35 keeps for 64-bit BARs, and the option that says so; null: none does. */
export function pciHole({ line, left }: Subject): { readonly option: number | null; readonly bytes: number } {
  const option = line.options.findLastIndex(({ name, value }, at) => name === "global" && !left.has(at) && /^q35-pcihost\.pci-hole64-size=/.test(value));
  const bytes = option < 0 ? null : sizeOf(line.options[option].value.split("=")[1]);
  return bytes === null ? { option: null, bytes: Q35_HOLE } : { option, bytes };
}

function onQ35(subject: Subject, demands: readonly number[], wanted: number): Raised[] {
  const { line, left } = subject;
  const { option, bytes: hole } = pciHole(subject);
  if (wanted <= hole) {
    return [];
  }
  const value = `${roomyWindow(demands, Q35_HOLE) / GIB}G`;
  const first = line.options.findIndex(({ name }, at) => name === "device" && !left.has(at));
  return [
    {
      rule: "window-too-small",
      level: "note",
      words: `BARs of functions want ${gibibytes(wanted)} of 64-bit memory, and pci-hole64-size is ${gibibytes(hole)}`,
      found: "firmware that keeps to it leaves some of them without an address; others take what the processor addresses",
      wouldWork: `-global q35-pcihost.pci-hole64-size=${value}`,
      spot: option === null ? { option: subject.lastOption("machine", "M") ?? first, property: "type" } : { option },
    },
  ];
}

function sizeOf(text: string): number | null {
  const found = /^(0x[0-9a-f]+|\d+(?:\.\d+)?)([bkmgtpe]?)/i.exec(text);
  return found === null ? null : Number(found[1]) * 1024 ** "bkmgtpe".indexOf(found[2].toLowerCase() || "b");
}
