/** Where a guest is told that its functions are, and where they are. */
import { type DeviceArgument, deviceLabel, numberProperty } from "../../machine/arguments/index.js";
import { HostFacts } from "../../plan/index.js";
import type { Raised, Subject } from "../subject.js";
import { FIRST_ROOT } from "../topology.js";

const NO_NODE = 128;

/** Nodes of the host that a guest's node has its memory of; null: the line does not say. */
function hostNodes(subject: Subject, node: number): ReadonlySet<number> | null {
  const memdev = subject.args.numa.nodes.find(({ nodeId }) => nodeId === node)?.memdev ?? null;
  const option = memdev === null ? null : subject.objectOption(memdev);
  if (option === null) {
    return null;
  }
  const texts = subject.line.properties(option).filter((name) => /^host-nodes(\.\d+)?$/.test(name)).map((name) => subject.line.said(option, name) ?? "");
  const nodes = texts.flatMap((text) => [...text.matchAll(/(\d+)(?:-(\d+))?/g)].flatMap(([, first, last = first]) => Array.from({ length: Math.min(Number(last) - Number(first) + 1, 1024) }, (_unused, n) => Number(first) + n)));
  return nodes.length === 0 ? null : new Set(nodes);
}

/** The guest's node with memory of the host's one; null: none is bound to it. */
function guestNodeFor(subject: Subject, hostNode: number): number | null {
  const { nodes } = subject.args.numa;
  const bound = nodes.find(({ nodeId }) => hostNodes(subject, nodeId)?.has(hostNode) === true)?.nodeId ?? null;
  const unbound = nodes.every(({ nodeId }) => hostNodes(subject, nodeId) === null);
  return bound ?? (unbound && nodes.some(({ nodeId }) => nodeId === hostNode) ? hostNode : null);
}

/** Expanders whose numa_node is another than that of the functions below. */
export function nodesOfFunctions(subject: Subject): Raised[] {
  const { host, args, topology } = subject;
  if (host === null || args.numa.nodes.length < 2) {
    return [];
  }
  const facts = new HostFacts(host);
  const buses = new Map<string, Map<number, DeviceArgument>>();
  for (const fn of topology.passedThrough) {
    const description = subject.hostFunction(fn);
    const node = description === null ? null : facts.factsOf(description).numaNode;
    if (node !== null) {
      const bus = topology.rootBusOf(fn);
      buses.set(bus, (buses.get(bus) ?? new Map<number, DeviceArgument>()).set(node, fn));
    }
  }
  return [...buses].flatMap(([bus, nodes]) => onBus(subject, bus, nodes));
}

function onBus(subject: Subject, bus: string, nodes: ReadonlyMap<number, DeviceArgument>): Raised[] {
  const expander = subject.topology.expander(bus);
  const said = expander === null ? NO_NODE : numberProperty(expander, "numa_node");
  const [[hostNode, fn]] = [...nodes].sort(([a], [b]) => a - b);
  const own = guestNodeFor(subject, hostNode);
  const where = `${deviceLabel(fn)} is on node ${hostNode} of the host`;
  if (nodes.size > 1) {
    const all = [...nodes].map(([node, one]) => `${deviceLabel(one)} of node ${node}`).join(", ");
    return [{ rule: "numa-mismatch", words: `functions of several NUMA nodes of the host are below ${bus}`, found: all, wouldWork: "a pxb-pcie with numa_node= for each node", spot: expander === null ? subject.spotOf(fn, "bus") : subject.spotOf(expander, "numa_node") }];
  }
  if (said === NO_NODE) {
    return [{ rule: "numa-node-unsaid", words: `${bus} has no NUMA node`, found: where, wouldWork: bus === FIRST_ROOT ? "a pxb-pcie with numa_node=" : `numa_node=${own ?? "N"}`, spot: expander === null ? subject.spotOf(fn, "bus") : subject.spotOf(expander, "id") }];
  }
  const bound = hostNodes(subject, said);
  const wrong = bound === null ? own !== null && own !== said : !bound.has(hostNode);
  if (!wrong || expander === null) {
    return [];
  }
  const memory = bound === null ? "" : `, and node ${said} of the machine has memory of node ${[...bound].join(", ")}`;
  return [
    {
      rule: "numa-mismatch",
      words: `numa_node=${said} of ${deviceLabel(expander)} is not where the functions below are`,
      found: `${where}${memory}`,
      wouldWork: own === null ? `a node of the machine with memory of node ${hostNode}` : `numa_node=${own}`,
      spot: subject.spotOf(expander, "numa_node"),
      mend: own === null ? undefined : [{ kind: "set", option: subject.optionOf(expander), property: "numa_node", value: String(own) }],
    },
  ];
}
