/** From a refusal to its place in the line and to what mends it. Where a refusal says a property as its cure, that is the mend. */
import { type DeviceArgument, deviceLabel, numberProperty, textProperty } from "../machine/arguments/index.js";
import type { Finding, Refusal } from "../support/index.js";
import { type Change, impliedKey, type Line, type Mend, type Spot } from "./line.js";
import { moveToExpander, moveToPort, numberFor } from "./places-for.js";
import type { RuleId } from "./rules.js";
import type { Subject } from "./subject.js";
import { FIRST_ROOT } from "./topology.js";

export interface Cure {
  readonly spot: Spot | null;
  readonly mend?: Mend;
}

type Finder = (subject: Subject, device: DeviceArgument, refusal: Refusal) => Cure | null;

/** The cure of a refusal that is about a device. */
export function cureOf(rule: RuleId, subject: Subject, device: DeviceArgument, refusal: Refusal): Cure {
  return finders[rule]?.(subject, device, refusal) ?? { spot: subject.spotOf(device) };
}

/** The cure of words that are no arguments of a machine. */
export function cureOfWords(rule: RuleId, line: Line, spot: Spot, { found, words }: Pick<Finding, "found" | "words">): Cure {
  const { option, property } = spot;
  const name = property ?? /^(?:Property '[\w.-]+\.|Invalid parameter ')([\w-]+)'/.exec(words)?.[1];
  const near = /\bdid you mean ([\w-]+)\?/.exec(found ?? "")?.[1] ?? (name === name?.toLowerCase() ? undefined : name?.toLowerCase());
  if (rule === "unknown-property" && near !== undefined && name !== undefined && line.said(option, name) !== undefined) {
    return { spot: { option, property: name }, mend: line.said(option, near) === undefined ? [{ kind: "rename", option, property: name, to: near }] : [{ kind: "unset", option, property: name }] };
  }
  if (rule === "unsupported-machine" && near !== undefined) {
    return { spot: { option, property: "type" }, mend: [{ kind: "set", option, property: "type", value: near }] };
  }
  return { spot };
}

/** The refusal's own cure, done to the device: its words begin with `name=value`. */
const asSaid: Finder = (subject, device, refusal) => said(subject, subject.optionOf(device), refusal);

/** The same done to the IOMMU that covers the device. */
const onIommu: Finder = (subject, device, refusal) => {
  const iommu = device.model.category === "iommu" ? device : subject.topology.iommuOf(device);
  return iommu === null ? null : said(subject, subject.optionOf(iommu), refusal);
};

const finders: Partial<Record<RuleId, Finder>> = {
  "host-ssidsize": onIommu,
  "host-ril": onIommu,
  "host-ats": onIommu,
  "host-oas": onIommu,
  "host-granules": onHost,
  "host-smmu-format": onHost,
  "wrong-host-iommu": onHost,
  "host-aw-bits": onIommu,
  "host-fs1gp": onIommu,
  "host-pasid-bits": onIommu,
  "host-nesting": withoutNesting,
  "caching-mode": onIommu,
  "vtd-properties": asSaid,
  "intremap-needs-split": asSaid,
  "eim-needs-intremap": asSaid,
  "numa-node-missing": withNode,
  "function-ats": (subject, device) => ({ spot: subject.spotOf(device, "ats"), mend: [{ kind: "set", option: subject.optionOf(device), property: "ats", value: "auto" }] }),
  "no-such-function": onHost,
  "function-taken-twice": onHost,
  "function-not-bound": onHost,
  "host-call-refused": onHost,
  "group-not-viable": onHost,
  "firmware-mapping": onHost,
  "no-iommufd": withIommufd,
  "legacy-container": withIommufd,
  "no-such-iommufd": withIommufd,
  "several-iommufds": (subject, device) => {
    const smmu = subject.topology.iommuOf(device);
    const first = subject.topology.passedThrough.find((other) => other !== device && subject.topology.iommuOf(other) === smmu && other.properties.has("iommufd"));
    return {
      spot: subject.spotOf(device, "iommufd"),
      mend: first === undefined ? undefined : [{ kind: "set", option: subject.optionOf(device), property: "iommufd", value: textProperty(first, "iommufd") }],
    };
  },
  "wrong-smmu": (subject, device) => ({ spot: subject.spotOf(device, "host"), mend: moveToExpander(subject, device) }),
  "emulated-behind-accel": (subject, device) => {
    const first = subject.topology.smmuOf(FIRST_ROOT);
    const option = subject.optionOf(device);
    const mend: Mend | undefined = subject.topology.isAccelerated(first)
      ? moveToExpander(subject, device)
      : [{ kind: "set", option, property: "bus", value: FIRST_ROOT }, ...(subject.line.said(option, "addr") === undefined ? [] : [{ kind: "unset", option, property: "addr" } as const])];
    return { spot: subject.spotOf(device, "bus"), mend };
  },
  "behind-software-iommu": (subject, device) => {
    const smmu = subject.topology.iommuOf(device);
    return { spot: subject.spotOf(device, "bus"), mend: smmu === null ? undefined : [{ kind: "set", option: subject.optionOf(smmu), property: "accel", value: "on" }] };
  },
  "shared-bridge": (subject, device) => ({ spot: subject.spotOf(device, "bus"), mend: moveToPort(subject, device) }),
  "auto-without-function": (subject, device) => {
    const option = subject.optionOf(device);
    const fixed = { ril: "on", ats: "off", oas: "44", ssidsize: "0" };
    return {
      spot: subject.spotOf(device, "accel"),
      mend: Object.entries(fixed).flatMap(([property, value]) => (textProperty(device, property) === "auto" ? [{ kind: "set", option, property, value } as const] : [])),
    };
  },
  "smmu-bus": afterItsBus,
  "smmu-bus-bypassed": (subject, device) => {
    const bus = textProperty(device, "primary-bus");
    const expander = subject.topology.expander(bus);
    const machine = subject.lastOption("machine", "M");
    const option = expander === null ? machine : subject.optionOf(expander);
    const properties = expander === null ? ["default-bus-bypass-iommu", "default_bus_bypass_iommu"] : ["bypass_iommu"];
    return { spot: subject.spotOf(device, "primary-bus"), mend: option === null ? undefined : properties.flatMap((property) => (subject.line.said(option, property) === undefined ? [] : [{ kind: "set", option, property, value: "off" } as const])) };
  },
  "iommu-twice": (subject, device) => ({ spot: subject.spotOf(device, "primary-bus") }),
  "needs-accel": (subject, device, refusal) => {
    const served = subject.topology.passedThrough.some((fn) => subject.topology.iommuOf(fn) === device);
    const cure = asSaid(subject, device, refusal);
    return cure === null || !served ? cure : { spot: cure.spot, mend: [{ kind: "set", option: subject.optionOf(device), property: "accel", value: "on" }] };
  },
  "accel-needs-kvm": withKvm,
  "accel-stage": (subject, device) => ({ spot: subject.spotOf(device, "stage"), mend: [{ kind: "unset", option: subject.optionOf(device), property: "stage" }] }),
  "oas-value": asSaid,
  "bus-number-collision": (subject, device) => {
    const number = numberFor(subject, device);
    return { spot: subject.spotOf(device, "bus_nr"), mend: number === null ? undefined : [{ kind: "set", option: subject.optionOf(device), property: "bus_nr", value: String(number) }] };
  },
  "chassis-collision": asSaid,
  "no-such-bus": (subject, device) => ({ spot: subject.spotOf(device, "bus") }),
  "bus-kind": (subject, device) => {
    const onExpander = subject.topology.expander(device.bus ?? FIRST_ROOT) !== null && ["endpoint", "passthrough"].includes(device.model.category);
    return { spot: subject.spotOf(device, "bus"), mend: onExpander ? moveToPort(subject, device) : undefined };
  },
  slot: (subject, device, refusal) => {
    const option = subject.optionOf(device);
    const spot = subject.spotOf(device, "addr");
    const port = subject.topology.portOf(device);
    if (/^another port/.test(refusal.wouldWork ?? "") || (port !== null && port.model.properties.has("chassis") && /no slot\/function available/.test(refusal.words))) {
      return { spot: subject.spotOf(device, "bus"), mend: moveToPort(subject, device) };
    }
    const other = /^multifunction=on for .*?'?([\w.-]+)'?$/.exec(refusal.wouldWork ?? "")?.[1];
    const first = subject.args.devices.find((one) => one.id === other || deviceLabel(one) === other);
    if (other !== undefined) {
      return { spot, mend: first === undefined ? undefined : [{ kind: "set", option: subject.optionOf(first), property: "multifunction", value: "on" }] };
    }
    return { spot, mend: subject.line.said(option, "addr") === undefined ? undefined : [{ kind: "unset", option, property: "addr" }] };
  },
};

/** What the function is of the host cannot be changed in the line. */
function onHost(subject: Subject, device: DeviceArgument): Cure {
  return { spot: subject.spotOf(device, textProperty(device, "host") === "" ? (textProperty(device, "fd") === "" ? "sysfsdev" : "fd") : "host") };
}

/** `name=value,name=value` at the start of what a refusal says would work, of the option or of another that it names. */
function said(subject: Subject, option: number, refusal: Refusal): Cure | null {
  const parsed = /^(?:-(?<other>[a-z]+) )?(?<pairs>[\w-]+=[\w.-]+(?:,[\w-]+=[\w.-]+)*)(?=$|[,:; ])/.exec(refusal.wouldWork ?? "");
  const { other, pairs } = parsed?.groups ?? {};
  const at = other === undefined ? option : subject.lastOption(other, ...(other === "machine" ? ["M"] : []));
  if (pairs === undefined || at === null || /\b0 to |^[\w-]+=[\w.-]+ to /.test(refusal.wouldWork ?? "")) {
    return null;
  }
  const changes: Change[] = pairs.split(",").map((pair) => {
    const [name, value] = pair.split("=");
    return { kind: "set", option: at, property: spelt(subject, at, name), value };
  });
  // The property that is to change, where it is said; else one that the refusal tells of.
  const names = [...pairs.split(",").map((pair) => pair.split("=")[0]), ...[...(refusal.found ?? "").matchAll(/\b([a-z][\w-]*)=/g)].map(([, name]) => name)];
  const found = names.map((name) => spelt(subject, at, name)).find((name) => subject.line.said(at, name) !== undefined);
  return { spot: { option: at, property: found ?? impliedKey(subject.line.options[at].name) ?? undefined }, mend: changes };
}

/** A property by the name that the option says it by: with dashes or, of a machine, with underscores. */
function spelt(subject: Subject, option: number, name: string): string {
  const other = name.replaceAll("-", "_");
  return subject.line.said(option, name) === undefined && subject.line.said(option, other) !== undefined ? other : name;
}

/** Binds the function to the iommufd that others behind its IOMMU have, else to the line's first, else to a new one. */
function withIommufd(subject: Subject, device: DeviceArgument): Cure {
  const option = subject.optionOf(device);
  const asked = textProperty(device, "iommufd");
  const iommu = subject.topology.iommuOf(device);
  const beside = subject.topology.passedThrough.find((other) => other !== device && other.properties.has("iommufd") && subject.topology.iommuOf(other) === iommu && subject.args.objects.some(({ id }) => id === textProperty(other, "iommufd")));
  const there = beside === undefined ? subject.args.objects.find(({ type }) => type === "iommufd")?.id : textProperty(beside, "iommufd");
  const spot = subject.spotOf(device, "iommufd");
  if (there !== undefined) {
    return { spot, mend: [{ kind: "set", option, property: "iommufd", value: there }] };
  }
  const id = /^[A-Za-z][A-Za-z0-9._-]*$/.test(asked) ? asked : subject.topology.freeId("iommufd");
  return {
    spot,
    mend: [{ kind: "insert", before: option, options: [["object", `iommufd,id=${id}`]] }, ...(asked === id ? [] : [{ kind: "set", option, property: "iommufd", value: id } as const])],
  };
}

/** The guest's second stage, followed by the machine, where the host nests no first one. */
function withoutNesting(subject: Subject, device: DeviceArgument, refusal: Refusal): Cure {
  const iommu = subject.topology.iommuOf(device);
  if (iommu?.model.name !== "intel-iommu" || subject.line.said(subject.optionOf(iommu), "fsts") === undefined) {
    return onHost(subject, device);
  }
  const option = subject.optionOf(iommu);
  const set = (property: string, value: string): Change => ({ kind: "set", option, property, value });
  return {
    spot: { option, property: "fsts" },
    mend: [set("fsts", "off"), set("caching-mode", "on"), ...(/aw-bits=39/.test(refusal.wouldWork ?? "") ? [set("aw-bits", "39")] : []), ...(textProperty(iommu, "svm") === "" ? [] : [set("svm", "off")])],
  };
}

/** A node without memory or processors of its own, where the machine has others; else none is asked for. */
function withNode(subject: Subject, device: DeviceArgument): Cure {
  const option = subject.optionOf(device);
  const property = device.model.name === "intel-iommu" ? "x-numa-node" : "numa_node";
  const { nodes } = subject.args.numa;
  const wanted = numberProperty(device, property);
  const last = subject.lastOption("numa");
  const spot = subject.spotOf(device, property);
  if (nodes.length === 0 || last === null || wanted !== nodes.length) {
    return { spot, mend: [{ kind: "unset", option, property }] };
  }
  return { spot, mend: [{ kind: "insert", before: option, options: [["numa", `node,nodeid=${wanted}`]] }] };
}

/** An SMMU that stands before the bus that it names goes behind it. */
function afterItsBus(subject: Subject, device: DeviceArgument): Cure {
  const { line, topology } = subject;
  const option = subject.optionOf(device);
  const spot = subject.spotOf(device, "primary-bus");
  const bus = textProperty(device, "primary-bus");
  const expander = topology.expander(bus);
  if (expander !== null && subject.optionOf(expander) > option) {
    const next = line.options.findIndex((one, index) => index > subject.optionOf(expander) && one.word !== undefined);
    return { spot, mend: next < 0 ? undefined : [{ kind: "insert", before: next, options: [["device", line.options[option].value]] }, { kind: "remove", option }] };
  }
  if (bus === "" || topology.expander(bus) === null) {
    // The one root bus with functions of the host that no SMMU covers.
    const bare = [...new Set(topology.passedThrough.map((fn) => topology.rootBusOf(fn)))].filter((one) => topology.smmuOf(one) === null && one !== FIRST_ROOT);
    return { spot, mend: bare.length === 1 ? [{ kind: "set", option, property: "primary-bus", value: bare[0] }] : undefined };
  }
  return { spot };
}

function withKvm(subject: Subject, device: DeviceArgument): Cure {
  const changes = subject.line.options.flatMap(({ name }, option): Change[] => {
    const has = (property: string): boolean => subject.line.said(option, property) !== undefined;
    if (name === "accel") {
      return [{ kind: "set", option, property: "accel", value: "kvm" }, ...(has("kernel-irqchip") ? [{ kind: "unset", option, property: "kernel-irqchip" } as const] : [])];
    }
    if (name !== "machine" && name !== "M") {
      return [];
    }
    const irqchips = ["kernel-irqchip", "kernel_irqchip"].filter(has).map((property): Change => ({ kind: "unset", option, property }));
    return has("accel") ? [{ kind: "set", option, property: "accel", value: "kvm" }, ...irqchips] : irqchips;
  });
  return { spot: subject.spotOf(device, "accel"), mend: changes };
}
