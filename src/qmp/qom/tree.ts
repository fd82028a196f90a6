/** The machine's objects: /machine with what the user plugged and what the board has, /objects, /chardevs. */
import { Q35Board } from "../../machine/index.js";
import type { PciBus } from "../../pci/index.js";
import type { MonitorTarget } from "../target.js";
import { boardObjects } from "./boards.js";
import { deviceNode, dimmNode, functionNode, iommuNode, type TreePaths } from "./device-node.js";
import { container, leaf, type QomNode } from "./node.js";

export function qomTree(target: MonitorTarget): QomNode {
  const { machine } = target;
  const { board } = machine;
  const { args } = board;
  const expanders = board.pci.rootBuses().filter((bus) => bus.bridge !== null);
  expanders.sort((a, b) => position(target, a) - position(target, b));
  const own = boardObjects(board, expanders);
  const paths: TreePaths = {
    device: (device) => board.names.pathOf(device),
    bus: (bus) => (bus.isRoot ? own.rootBusPath(bus) : `${bus.bridge === null ? "" : board.names.pathOf(bus.bridge)}/${bus.id}`),
  };
  const devices = (kind: "peripheral" | "peripheral-anon"): QomNode =>
    container(
      [...board.names.in(kind)].map(([name, device]) => {
        const plugged = board.functions.find(({ fn }) => fn === device);
        const iommu = board.iommus.find((one) => one.device === device);
        const dimm = board.memoryDevices.list.find((one) => one === device);
        const other = board.otherDevices.list.find((one) => one === device);
        if (other !== undefined) {
          return [name, deviceNode(other.argument, [])] as const;
        }
        const pvpanic = board instanceof Q35Board && board.pvpanic?.byte === device ? board.pvpanic : null;
        if (pvpanic !== null) {
          return [name, deviceNode(pvpanic.argument, [["pvpanic", 1]])] as const;
        }
        return [name, dimm !== undefined ? dimmNode(dimm) : plugged !== undefined ? functionNode(plugged.fn, plugged.argument, paths) : iommu !== undefined ? iommuNode(iommu, paths) : container()] as const;
      }),
    );
  return container([
    [
      "machine",
      {
        type: `${args.machine.type}-machine`,
        properties: own.properties,
        children: new Map([
          ["peripheral", devices("peripheral")],
          ["peripheral-anon", devices("peripheral-anon")],
          ...own.children(paths),
          ["unattached", container([["system[0]", leaf("memory-region", [["size", { type: "uint64", value: 18446744073709551615n }]])], ...own.unattached(paths)])],
        ]),
      },
    ],
    ["objects", objects(target)],
    ["chardevs", container(args.control.monitors.map(({ label, spec }) => [label, leaf(spec.kind === "stdio" ? "chardev-stdio" : spec.kind === "null" ? "chardev-null" : "chardev-socket")] as const))],
  ]);
}

/** Place of an expander among what was plugged. */
function position(target: MonitorTarget, bus: PciBus): number {
  return target.machine.board.functions.findIndex(({ fn }) => fn === bus.bridge);
}

function objects(target: MonitorTarget): QomNode {
  const { board, args } = target.machine;
  const own = args.machine.memoryBackend === null && args.numa.nodes.every(({ memdev }) => memdev === null) ? board.ramBlocks : [];
  return container([
    ...own.map((block) => [block.name, leaf("memory-backend-ram", [["size", { type: "int", value: block.size }]])] as const),
    ...board.objects
      .list()
      .map(({ id, type, typeName, size }) => [id, leaf(typeName, type === "iommufd" ? [["fd", { type: "string", value: "" }]] : type === "memory-backend" ? [["size", { type: "int", value: size }]] : [])] as const),
    ...args.control.monitors.map(({ label, mode }) => [label, leaf(mode === "control" ? "monitor-qmp" : "monitor-hmp")] as const),
  ]);
}
