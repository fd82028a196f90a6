/** What boards have of themselves in the object tree, at the paths that QEMU 11.1 gives it. */
import { type Board, Q35Board, q35Numbers, VirtBoard, virtNumbers } from "../../machine/index.js";
import type { PciBus } from "../../pci/index.js";
import { busNode, iommuNode, type TreePaths } from "./device-node.js";
import { leaf, type QomNode, type QomProperty } from "./node.js";

const UNATTACHED = "/machine/unattached";

type Nodes = Array<readonly [string, QomNode]>;

export interface BoardObjects {
  /** Of /machine. */
  readonly properties: Map<string, QomProperty>;
  rootBusPath(bus: PciBus): string;
  /** Of /machine, by their names. */
  children(paths: TreePaths): Nodes;
  /** Of /machine/unattached. */
  unattached(paths: TreePaths): Nodes;
}

/** @param expanders root buses of pxb-pcie in the order in which they came */
export function boardObjects(board: Board, expanders: readonly PciBus[]): BoardObjects {
  if (board instanceof VirtBoard) {
    return virtObjects(board, expanders);
  }
  if (board instanceof Q35Board) {
    return q35Objects(board, expanders);
  }
  throw new Error(`no objects are known of the board ${board.kind}`);
}

const flag = (value: boolean): QomProperty => ({ type: "bool", value });
const text = (value: string): QomProperty => ({ type: "string", value });
const size = (value: number): QomProperty => ({ type: "size", value });

function host(type: string, bus: PciBus, paths: TreePaths): QomNode {
  return { type, properties: new Map(), children: new Map([[bus.id, busNode(bus, paths)]]) };
}

function expanderHosts(expanders: readonly PciBus[], first: number, paths: TreePaths): Nodes {
  return expanders.map((bus, index) => [`device[${first + index}]`, host("pxb-host", bus, paths)]);
}

function commonProperties(board: Board): Array<readonly [string, QomProperty]> {
  const { machine } = board.args;
  return [
    ["acpi", { type: "OnOffAuto", value: machine.acpi ? "on" : "off" }],
    ["default-bus-bypass-iommu", flag(machine.bypassIommu)],
  ];
}

function virtObjects(board: VirtBoard, expanders: readonly PciBus[]): BoardObjects {
  const { machine } = board.args;
  const legacy = board.smmus.all.find((smmu) => smmu.legacy) ?? null;
  const numbers = virtNumbers(board.args.smp.cpus, board.msiController !== "none", legacy !== null);
  return {
    properties: new Map([
      ...commonProperties(board),
      ["gic-version", text(String(board.gicVersion))],
      ["its", flag(machine.its)],
      ["msi", text(machine.msi)],
      ["iommu", text(machine.iommu)],
      ["highmem", flag(machine.highmem)],
      ["highmem-ecam", flag(machine.highmemEcam)],
      ["highmem-mmio", flag(machine.highmemMmio)],
      ["highmem-mmio-size", size(machine.highmemMmioSize)],
      ["highmem-redists", flag(machine.highmemRedists)],
      ["compact-highmem", flag(machine.compactHighmem)],
    ]),
    rootBusPath: (bus) => `${UNATTACHED}/device[${bus.bridge === null ? numbers.hostBridge : numbers.firstExpander + expanders.indexOf(bus)}]/${bus.id}`,
    children: () => [],
    unattached: (paths) => {
      const nodes: Nodes = [
        [`device[${numbers.interruptController}]`, leaf(board.gicVersion === 2 ? "arm_gic" : "arm-gicv3")],
        [`device[${numbers.hostBridge}]`, host("gpex-pcihost", board.pci.bus, paths)],
        ...expanderHosts(expanders, numbers.firstExpander, paths),
      ];
      if (numbers.msiController !== null) {
        nodes.push([`device[${numbers.msiController}]`, leaf(board.msiController === "its" ? "arm-gicv3-its" : "arm-gicv2m")]);
      }
      if (numbers.smmu !== null && legacy !== null) {
        nodes.push([`device[${numbers.smmu}]`, iommuNode(legacy, paths)]);
      }
      return nodes;
    },
  };
}

function q35Objects(board: Q35Board, expanders: readonly PciBus[]): BoardObjects {
  const { machine, smp } = board.args;
  const numbers = q35Numbers(smp.cpus, machine.sata, machine.smbus);
  return {
    properties: new Map([
      ...commonProperties(board),
      ["max-ram-below-4g", size(machine.maxRamBelow4g)],
      ["sata", flag(machine.sata)],
      ["smbus", flag(machine.smbus)],
    ]),
    rootBusPath: (bus) => (bus.bridge === null ? `/machine/q35/${bus.id}` : `${UNATTACHED}/device[${numbers.firstExpander + expanders.indexOf(bus)}]/${bus.id}`),
    children: (paths) => {
      const { lowRam, highRam } = board.map;
      const { ecam } = board.mch;
      const q35: QomNode = {
        type: "q35-pcihost",
        properties: new Map([
          ["below-4g-mem-size", size(lowRam.size)],
          ["above-4g-mem-size", size(highRam?.size ?? 0)],
          // All ones while configuration space is not mapped.
          ["MCFG", { type: "uint64", value: ecam === null ? 18446744073709551615n : ecam.base }],
          ["mcfg_size", { type: "uint64", value: ecam?.size ?? 0 }],
        ]),
        children: new Map([
          ["ioapic", leaf("ioapic", [["version", { type: "uint8", value: 0x20 }]])],
          ["mch", leaf("mch")],
          [board.pci.bus.id, busNode(board.pci.bus, paths)],
        ]),
      };
      return [["q35", q35], ["fw_cfg", leaf("fw_cfg_io")]];
    },
    unattached: (paths) => [
      [`device[${numbers.lpc}]`, leaf("ICH9-LPC")],
      ...(numbers.ahci === null ? [] : [[`device[${numbers.ahci}]`, leaf("ich9-ahci")] as const]),
      ...(numbers.smbus === null ? [] : [[`device[${numbers.smbus}]`, leaf("ICH9-SMB")] as const]),
      ...expanderHosts(expanders, numbers.firstExpander, paths),
    ],
  };
}
