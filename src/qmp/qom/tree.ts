/** The machine's objects: /machine with what the user plugged and what the board has, /objects, /chardevs. */
import { boardNumbers, type MachineSmmu } from "../../machine/index.js";
import type { PciBus } from "../../pci/index.js";
import type { MonitorTarget } from "../target.js";
import { busNode, functionNode, smmuNode, type TreePaths } from "./device-node.js";
import { container, type QomNode, type QomProperty } from "./node.js";

const UNATTACHED = "/machine/unattached";

export function qomTree(target: MonitorTarget): QomNode {
  const { machine } = target;
  const { board } = machine;
  const { args } = board;
  const legacy = board.smmus.all.find((smmu) => smmu.legacy) ?? null;
  const numbers = boardNumbers(args.smp.cpus, board.msiController !== "none", legacy !== null);
  const expanders = board.pci.rootBuses().filter((bus) => bus.bridge !== null);
  expanders.sort((a, b) => position(target, a) - position(target, b));
  const rootBusPath = (bus: PciBus): string =>
    `${UNATTACHED}/device[${bus.bridge === null ? numbers.hostBridge : numbers.firstExpander + expanders.indexOf(bus)}]/${bus.id}`;
  const paths: TreePaths = {
    device: (device) => board.names.pathOf(device),
    bus: (bus) => (bus.isRoot ? rootBusPath(bus) : `${bus.bridge === null ? "" : board.names.pathOf(bus.bridge)}/${bus.id}`),
  };
  const devices = (kind: "peripheral" | "peripheral-anon"): QomNode =>
    container(
      [...board.names.in(kind)].map(([name, device]) => {
        const plugged = board.functions.find(({ fn }) => fn === device);
        const smmu = board.smmus.all.find((one) => one.device === device);
        return [name, plugged !== undefined ? functionNode(plugged.fn, plugged.argument, paths) : smmu !== undefined ? smmuNode(smmu, paths) : container()] as const;
      }),
    );
  const root = container([
    [
      "machine",
      {
        type: `${args.machine.type}-machine`,
        properties: machineProperties(target),
        children: new Map([
          ["peripheral", devices("peripheral")],
          ["peripheral-anon", devices("peripheral-anon")],
          ["unattached", unattached(target, numbers, expanders, legacy, paths)],
        ]),
      },
    ],
    ["objects", objects(target)],
    ["chardevs", container(args.control.monitors.map(({ label, spec }) => [label, leaf(spec.kind === "stdio" ? "chardev-stdio" : spec.kind === "null" ? "chardev-null" : "chardev-socket")] as const))],
  ]);
  return root;
}

/** Place of an expander among what was plugged. */
function position(target: MonitorTarget, bus: PciBus): number {
  return target.machine.board.functions.findIndex(({ fn }) => fn === bus.bridge);
}

function leaf(type: string, properties: Iterable<readonly [string, QomProperty]> = []): QomNode {
  return { type, properties: new Map(properties), children: new Map() };
}

function unattached(target: MonitorTarget, numbers: ReturnType<typeof boardNumbers>, expanders: readonly PciBus[], legacy: MachineSmmu | null, paths: TreePaths): QomNode {
  const { board } = target.machine;
  const host = (type: string, bus: PciBus): QomNode => ({ type, properties: new Map(), children: new Map([[bus.id, busNode(bus, paths)]]) });
  const children: Array<readonly [string, QomNode]> = [
    ["system[0]", leaf("memory-region", [["size", { type: "uint64", value: 18446744073709551615n }]])],
    [`device[${numbers.interruptController}]`, leaf(board.gicVersion === 2 ? "arm_gic" : "arm-gicv3")],
    [`device[${numbers.hostBridge}]`, host("gpex-pcihost", board.pci.bus)],
    ...expanders.map((bus, index) => [`device[${numbers.firstExpander + index}]`, host("pxb-host", bus)] as const),
  ];
  if (numbers.msiController !== null) {
    children.push([`device[${numbers.msiController}]`, leaf(board.msiController === "its" ? "arm-gicv3-its" : "arm-gicv2m")]);
  }
  if (numbers.smmu !== null && legacy !== null) {
    children.push([`device[${numbers.smmu}]`, smmuNode(legacy, paths)]);
  }
  return container(children);
}

function machineProperties(target: MonitorTarget): Map<string, QomProperty> {
  const { board, args } = target.machine;
  const { machine } = args;
  const flag = (value: boolean): QomProperty => ({ type: "bool", value });
  const text = (value: string): QomProperty => ({ type: "string", value });
  return new Map<string, QomProperty>([
    ["gic-version", text(String(board.gicVersion))],
    ["its", flag(machine.its)],
    ["msi", text(machine.msi)],
    ["acpi", { type: "OnOffAuto", value: machine.acpi ? "on" : "off" }],
    ["iommu", text(machine.iommu)],
    ["highmem", flag(machine.highmem)],
    ["highmem-ecam", flag(machine.highmemEcam)],
    ["highmem-mmio", flag(machine.highmemMmio)],
    ["highmem-mmio-size", { type: "size", value: machine.highmemMmioSize }],
    ["highmem-redists", flag(machine.highmemRedists)],
    ["compact-highmem", flag(machine.compactHighmem)],
    ["default-bus-bypass-iommu", flag(machine.bypassIommu)],
  ]);
}

function objects(target: MonitorTarget): QomNode {
  const { board, args } = target.machine;
  const own = args.machine.memoryBackend === null && args.numa.nodes.every(({ memdev }) => memdev === null) ? board.ram : [];
  return container([
    ...own.map(({ block }) => [block.name, leaf("memory-backend-ram", [["size", { type: "int", value: block.size }]])] as const),
    ...board.objects
      .list()
      .map(({ id, type, typeName, size }) => [id, leaf(typeName, type === "iommufd" ? [["fd", { type: "string", value: "" }]] : type === "memory-backend" ? [["size", { type: "int", value: size }]] : [])] as const),
    ...args.control.monitors.map(({ label, mode }) => [label, leaf(mode === "control" ? "monitor-qmp" : "monitor-hmp")] as const),
  ]);
}
