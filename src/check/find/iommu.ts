/** IOMMUs whose functions are not as they are meant to be, though the machine can be built. */
import { booleanProperty, deviceLabel, textProperty } from "../../machine/arguments/index.js";
import { isUnknown } from "../stand-in-host.js";
import type { Raised, Subject } from "../subject.js";

/** What QEMU has no IOMMU for: it asks for the function's when the function is made. */
export function iommuAfterFunctions(subject: Subject): Raised[] {
  const { args, topology, line } = subject;
  return args.devices.flatMap((iommu): Raised[] => {
    const first = topology.passedThrough.find((fn) => topology.iommuOf(fn) === iommu);
    if (first === undefined || args.devices.indexOf(first) > args.devices.indexOf(iommu)) {
      return [];
    }
    const [option, before] = [subject.optionOf(iommu), subject.optionOf(first)];
    const expander = topology.expander(textProperty(iommu, "primary-bus"));
    const movable = expander === null || subject.optionOf(expander) < before;
    return [
      {
        rule: "iommu-after-function",
        words: `${deviceLabel(iommu)} stands after a function that it is to cover`,
        found: `${deviceLabel(first)} stands before it: QEMU finds no IOMMU for it then, and its DMA is not translated`,
        wouldWork: `-device ${iommu.model.name} before it`,
        spot: subject.spotOf(iommu),
        mend: movable ? [{ kind: "insert", before, options: [["device", line.options[option].value]] }, { kind: "remove", option }] : undefined,
      },
    ];
  });
}

/** A machine with an IOMMU, and functions of the host that it does not cover. */
export function outsideIommu(subject: Subject): Raised[] {
  const { args, topology } = subject;
  if (!args.devices.some(({ model }) => model.name === "intel-iommu" || model.name === "arm-smmuv3")) {
    return [];
  }
  return topology.passedThrough.flatMap((fn): Raised[] => {
    if (topology.iommuOf(fn) !== null || (args.machine.board === "virt" && args.machine.iommu !== null && args.machine.iommu !== "none")) {
      return [];
    }
    const bus = topology.rootBusOf(fn);
    const why = topology.bypasses(bus) ? `bus '${bus}' bypasses the IOMMU` : `no arm-smmuv3 has primary-bus=${bus}`;
    return [{ rule: "outside-iommu", words: `${deviceLabel(fn)} is behind no IOMMU of the machine`, found: why, spot: subject.spotOf(fn, "bus") }];
  });
}

/** ACPI off: what tells a guest of its IOMMU is not there. */
export function withoutAcpi(subject: Subject): Raised[] {
  const { args, topology, line } = subject;
  const accelerated = args.devices.find((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel"));
  const iommu = topology.vtd ?? accelerated;
  if (args.machine.acpi || iommu === undefined || iommu === null) {
    return [];
  }
  const machine = subject.lastOption("machine", "M");
  const said = machine !== null && line.said(machine, "acpi") !== undefined;
  return [
    {
      rule: "acpi-off",
      words: iommu === accelerated ? "SMMUv3 with accel=on not supported for DT" : `${deviceLabel(iommu)} with acpi=off: no DMAR table tells the guest of it`,
      found: `acpi=off for the machine, and ${deviceLabel(iommu)}`,
      wouldWork: "acpi=on",
      spot: said ? { option: machine, property: "acpi" } : subject.spotOf(iommu),
      mend: said ? [{ kind: "set", option: machine, property: "acpi", value: "on" }] : undefined,
    },
  ];
}

const FIRMWARE_OPTIONS = new Set(["bios", "pflash"]);

/** QEMU gives a guest without firmware a device tree alone, and refuses an accelerated SMMU there. */
export function withoutFirmware(subject: Subject): Raised[] {
  const { args, line, left } = subject;
  const smmu = args.devices.find((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel"));
  const loaded = line.options.some(({ name, value }, at) => !left.has(at) && (FIRMWARE_OPTIONS.has(name) || ((name === "drive" || name === "machine" || name === "M" || name === "blockdev") && /pflash/.test(value))));
  if (smmu === undefined || loaded || !args.machine.acpi) {
    return [];
  }
  return [
    {
      rule: "no-firmware",
      words: "SMMUv3 with accel=on not supported for DT",
      found: `${deviceLabel(smmu)}, and neither -bios nor a pflash: QEMU wants firmware that reads ACPI's tables`,
      wouldWork: "-bios QEMU_EFI.fd",
      spot: subject.spotOf(smmu, "accel"),
    },
  ];
}

/** Command queues of Tegra241, which the machine that is tried does not have. */
export function commandQueues(subject: Subject): Raised[] {
  const smmu = subject.args.devices.find((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel") && textProperty(one, "cmdqv") === "on");
  return smmu === undefined
    ? []
    : [
        {
          rule: "cmdqv",
          words: `${deviceLabel(smmu)} has cmdqv=on: QEMU ends with "CMDQV requested but not supported" on a host without Tegra241's command queues`,
          found: "whether the host has them is not known here; a guest's queue is then to lie in one piece of memory: huge pages of its size, at the least",
          wouldWork: "cmdqv=auto",
          spot: subject.spotOf(smmu, "cmdqv"),
        },
      ];
}

/** Functions by descriptors: which of the host's they are is known to who opened them. */
export function unknownFunctions(subject: Subject): Raised[] {
  return subject.host === null
    ? []
    : subject.topology.passedThrough.filter(isUnknown).map((fn) => ({
        rule: "unknown-descriptor",
        words: `which function of ${subject.host!.name} fd=${textProperty(fn, "fd")} is, is not said`,
        found: `${deviceLabel(fn)} is taken for one that has all that is asked of it`,
        wouldWork: `--fd ${textProperty(fn, "fd")}=ADDRESS`,
        spot: subject.spotOf(fn, "fd"),
      }));
}

/** First-stage nesting without caching-mode: what comes to be is not told. */
export function nestingWithoutCachingMode(subject: Subject): Raised[] {
  const { topology } = subject;
  const { vtd } = topology;
  if (vtd === null || !booleanProperty(vtd, "fsts") || booleanProperty(vtd, "caching-mode") || !topology.passedThrough.some((fn) => topology.iommuOf(fn) === vtd)) {
    return [];
  }
  return [
    {
      rule: "caching-mode-unsaid",
      words: `${deviceLabel(vtd)} has fsts=on and caching-mode=off: the guest does not tell of entries that come to be`,
      found: "a function or PASID stays unbound until the guest invalidates something that covers it, or switches on bus mastering",
      wouldWork: "caching-mode=on",
      spot: subject.spotOf(vtd),
    },
  ];
}

/** Functions with an iommufd and functions with a legacy container: each pins the guest's memory for itself. */
export function mixedContainers(subject: Subject): Raised[] {
  const { topology } = subject;
  // Behind an accelerated IOMMU they are refused.
  const legacy = topology.passedThrough.filter((fn) => !fn.properties.has("iommufd") && !topology.isAccelerated(topology.iommuOf(fn)));
  const others = topology.passedThrough.filter((fn) => fn.properties.has("iommufd"));
  if (legacy.length === 0 || others.length === 0) {
    return [];
  }
  const iommufd = textProperty(others[0], "iommufd");
  return legacy.map((fn) => ({
    rule: "mixed-containers",
    words: `${deviceLabel(fn)} has a legacy container, and ${deviceLabel(others[0])} an iommufd`,
    found: "each maps and pins the guest's memory for itself",
    wouldWork: `iommufd=${iommufd}`,
    spot: subject.spotOf(fn),
    mend: [{ kind: "set", option: subject.optionOf(fn), property: "iommufd", value: iommufd }],
  }));
}
