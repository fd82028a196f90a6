/** The functions and host bridges that SRAT gives NUMA nodes: acpi-generic-initiator and acpi-generic-port, by QEMU's rules (hw/acpi/pci.c). */
import type { PciFunction } from "../pci/index.js";
import { Refusal } from "../support/index.js";
import type { ObjectArgument } from "./arguments/index.js";
import type { Board } from "./board.js";
import type { NumaDescription } from "./firmware/index.js";
import { hashOrder } from "./hash-order.js";

/** Objects that QEMU makes after the others; a thread-context before. */
const LATE = /^(?:memory-backend-.*|rng-egd|qtest|filter-.*|colo-compare|cryptodev-vhost-user)$/;

/** @throws Refusal in QEMU's words, where `strict`; else what cannot be told is left out */
export function describeAffinity(board: Board, strict: boolean): Pick<NumaDescription, "initiators" | "ports"> {
  const initiators: Array<NumaDescription["initiators"][number]> = [];
  const ports: Array<NumaDescription["ports"][number]> = [];
  for (const object of inOrder(board)) {
    try {
      if (object.initiator !== undefined) {
        const { node, device } = object.initiator;
        checkNode(board, object, node);
        const fn = findFunction(board, device);
        if (fn === null) {
          throw new Refusal("acpi-generic-initiator: Specified device must be a PCI device.", {
            found: `${object.where}; PCI functions with an id: ${board.functions.flatMap(({ argument: { id } }) => (id === "" ? [] : [id])).join(", ") || "none"}`,
            wouldWork: "pci-dev with the id of a -device on a PCI bus",
            rule: "generic-initiator-device",
          });
        }
        initiators.push({ node, bus: fn.bus?.number ?? 0, devfn: fn.devfn });
      } else if (object.port !== undefined) {
        checkNode(board, object, object.port.node);
        throw new Refusal("acpi-generic-port: device must be a CXL host bridge.", { found: `${object.where}; there is no pxb-cxl here`, wouldWork: "leaving the object out", rule: "generic-port-bridge" });
      }
    } catch (error) {
      if (strict || !(error instanceof Refusal)) {
        throw error;
      }
    }
  }
  return { initiators, ports };
}

/** QEMU checks when it makes SRAT: where there is none, nothing. @throws Refusal in QEMU's words */
export function checkAffinity(board: Board): void {
  if (board.args.machine.acpi && board.args.numa.nodes.length > 0) {
    describeAffinity(board, true);
  }
}

function checkNode(board: Board, { typeName, where }: ObjectArgument, node: number): void {
  const { length } = board.args.numa.nodes;
  if (node >= length) {
    const words = typeName === "acpi-generic-port" ? `node ${node} is invalid.` : `Specified node ${node} is invalid.`;
    throw new Refusal(`${typeName}: ${words}`, { found: `${where}; a machine with ${length} NUMA node(s)`, wouldWork: `node=0 to ${length - 1}, or more -numa node`, rule: "generic-initiator-node" });
  }
}

/** A function by its id, or by its QOM path or the end of one. */
function findFunction(board: Board, path: string): PciFunction | null {
  const found = board.functions.filter(({ fn }) => {
    const own = board.names.pathOf(fn);
    return path !== "" && own !== "" && (path.startsWith("/") ? own === path : own.endsWith(`/${path}`));
  });
  return found.length === 1 ? found[0].fn : null;
}

/** The objects in the order in which QEMU meets them in its table of them, with RAM that has no backend of the user's. */
function inOrder(board: Board): ObjectArgument[] {
  const { args, objects, ramName } = board;
  const all = objects.list();
  const made = [
    ...all.filter(({ typeName }) => typeName === "thread-context"),
    ...all.filter(({ typeName }) => typeName !== "thread-context" && !LATE.test(typeName)),
    ...all.filter(({ typeName }) => LATE.test(typeName)),
  ];
  const ids = made.map(({ id }) => id);
  if (args.machine.memoryBackend === null && args.numa.nodes.every(({ memdev }) => memdev === null)) {
    ids.push(ramName);
  }
  const byId = new Map(made.map((object) => [object.id, object]));
  return hashOrder(ids).flatMap((id) => byId.get(id) ?? []);
}
