import { Q35Board } from "../../machine/index.js";
import { describePci, formatPci } from "../pci-info.js";
import { findEvents } from "../commands/trace.js";
import type { CommandContext } from "../command.js";
import { findNode, type QomNode } from "../qom/node.js";
import { qomTree } from "../qom/tree.js";
import { isTraced, traceEvents } from "../../support/index.js";
import { QEMU_VERSION } from "../version.js";
import type { HmpCommand, HmpParameter } from "./command.js";
import { withoutPrefix } from "./commands.js";
import { formatIommus } from "./info-iommu.js";
import { formatFlatView, formatMemoryTree } from "./info-mtree.js";
import { formatDeviceTree } from "./info-qtree.js";

function info(name: string, help: string, run: (context: CommandContext) => string): HmpCommand {
  return { name, parameters: [], usage: "", help, run: (_args, context) => run(context) };
}

const flags = (letters: string): HmpParameter => ({ name: "flags", type: "flags", letters });

/** What `info` shows, with QEMU's names and forms; `info iommu` is of this program alone. */
export const infoCommands: readonly HmpCommand[] = [
  info("status", "show the current VM status (running|paused)", ({ target }) => {
    const { status, running } = target.machine.runState;
    return `VM status: ${running ? "running" : "paused"}${status === "running" || status === "paused" ? "" : ` (${status})`}\n`;
  }),
  info("version", "show the version of QEMU", ({ target }) => `${QEMU_VERSION.major}.${QEMU_VERSION.minor}.${QEMU_VERSION.micro}${target.packageName}\n`),
  info("name", "show the current VM name", ({ target }) => (target.machine.args.name === null ? "" : `${target.machine.args.name}\n`)),
  info("uuid", "show the current VM UUID", ({ target }) => `${target.machine.args.uuid ?? "00000000-0000-0000-0000-000000000000"}\n`),
  info("kvm", "show KVM information", ({ target }) => `kvm support: ${target.machine.args.machine.accelerator === "kvm" ? "enabled" : "not compiled"}\n`),
  info("chardev", "show the character devices", ({ target }) => target.chardevs().map(({ label, filename }) => `${label}: filename=${filename}\n`).join("")),
  info("pci", "show PCI info", ({ target }) => formatPci(describePci(target.machine.board.pci))),
  info("memory-devices", "show memory devices", ({ target }) =>
    target.machine.board.memoryDevices
      .inOrder()
      .map((dimm) => `Memory device [dimm]: "${dimm.id}"\n  addr: 0x${dimm.address.toString(16)}\n  slot: ${dimm.slot}\n  node: ${dimm.node}\n  size: ${dimm.size}\n  memdev: /objects/${dimm.memdev}\n  hotplugged: ${dimm.hotplugged}\n  hotpluggable: true\n`)
      .join("")),
  info("memory_size_summary", "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.", ({ target }) => `base memory: ${target.machine.board.ramSize}\nplugged memory: ${target.machine.board.memoryDevices.size}\n`),
  info("iommu", "show each function's address space: its SMMU, StreamID, tables and vDEVICE", ({ target }) => formatIommus(target.machine.board)),
  {
    name: "lapic",
    parameters: [{ name: "apic-id", type: "word", optional: true }],
    usage: "[apic-id]",
    help: "show what waits at a local APIC (apic-id: default 0); its registers are not modelled",
    run: (args, { target }) => {
      const { board } = target.machine;
      if (!(board instanceof Q35Board)) {
        return "this machine has no local APICs\n";
      }
      const id = Number(args["apic-id"] ?? 0);
      if (!Number.isInteger(id) || id < 0 || id >= board.args.smp.cpus) {
        return "No CPU available\n";
      }
      const vectors = board.interrupts.pendingVectors(id);
      return `dumping local APIC state for CPU ${id} \n\nISR\t (none)\nIRR\t ${vectors.length === 0 ? "(none)" : vectors.map((vector) => `${vector} `).join("")}\n`;
    },
  },
  {
    name: "mtree",
    parameters: [flags("fdoD")],
    usage: "[-f][-d][-o][-D]",
    help: "show memory tree (-f: dump flat view for address spaces;-d: dump dispatch tree, valid with -f only);-o: dump region owners/parents;-D: dump disabled regions",
    run: (args, { target }) => {
      const { memory } = target.machine.board;
      return args.f === undefined ? formatMemoryTree(memory, args.D !== undefined) : formatFlatView(memory);
    },
  },
  {
    name: "qtree",
    parameters: [flags("b")],
    usage: "[-b]",
    help: "show device tree (-b: brief, omit properties)",
    run: (args, { target }) => formatDeviceTree(target, args.b !== undefined),
  },
  {
    name: "qom-tree",
    parameters: [{ name: "path", type: "word", optional: true }],
    usage: "[path]",
    help: "show QOM composition tree",
    run: ({ path }, { target }) => {
      const found = findNode(qomTree(target), path ?? "/machine");
      return qomLines(found.node, found.path.split("/").at(-1)!, 0);
    },
  },
  {
    name: "trace-events",
    parameters: [{ name: "name", type: "word", optional: true }],
    usage: "[name]",
    help: "show available trace-events & their state (name: event name pattern)",
    run: ({ name }) => withoutPrefix(() => (name === undefined ? traceEvents() : findEvents(name)).map((event) => `${event.name} : state ${isTraced(event) ? 1 : 0}\n`).join("")),
  },
];

function qomLines(node: QomNode, name: string, depth: number): string {
  const below = [...node.children].sort(([a], [b]) => (a < b ? -1 : 1));
  return `${"  ".repeat(depth)}/${name} (${node.type})\n${below.map(([child, one]) => qomLines(one, child, depth + 1)).join("")}`;
}
