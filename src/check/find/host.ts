/** What the host's kernel and its limits have to do with a line: as far as its description tells. */
import { leavesDmaToVfio } from "../../iommufd/index.js";
import { booleanProperty, type DeviceArgument, deviceLabel } from "../../machine/arguments/index.js";
import { iommuOf } from "../../host/simulated/names/index.js";
import type { HostDescription } from "../../host/simulated/file/index.js";
import { hostFunctionAddress } from "../../machine/index.js";
import { HostFacts } from "../../plan/index.js";
import type { HostFunction, Raised, Subject } from "../subject.js";
import type { Topology } from "../topology.js";
import { atLeast, kernelOf, type Version } from "./version.js";

interface Need {
  readonly option: string;
  readonly since: Version;
  readonly what: string;
  /** The device that asks for it; null: none of the line does. */
  readonly asks: (subject: Subject) => DeviceArgument | null;
}

const withIommufd = ({ topology }: Subject): DeviceArgument | null => topology.passedThrough.find((fn) => fn.properties.has("iommufd")) ?? null;
const accelerated = ({ args, topology }: Subject): DeviceArgument | null =>
  args.devices.find((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel") && topology.passedThrough.some((fn) => topology.iommuOf(fn) === one)) ?? null;

const NEEDS: readonly Need[] = [
  { option: "CONFIG_IOMMUFD", since: [6, 2], what: "iommufds", asks: withIommufd },
  { option: "CONFIG_VFIO_DEVICE_CDEV", since: [6, 6], what: "character devices of functions, by which an iommufd has them", asks: withIommufd },
  { option: "CONFIG_ARM_SMMU_V3_IOMMUFD", since: [6, 13], what: "nested tables of an SMMUv3", asks: accelerated },
  { option: "CONFIG_INTEL_IOMMU", since: [2, 6], what: "VT-d", asks: ({ host, topology }) => (host !== null && host.vtds.length > 0 ? (topology.passedThrough[0] ?? null) : null) },
  { option: "CONFIG_VFIO_PCI", since: [3, 6], what: "functions for processes", asks: ({ topology }) => topology.passedThrough[0] ?? null },
];

/** Options that the kernel was built without, and kernels from before there was one. */
export function kernel(subject: Subject): Raised[] {
  const { host } = subject;
  if (host === null) {
    return [];
  }
  return NEEDS.flatMap(({ option, since, what, asks }): Raised[] => {
    const device = asks(subject);
    if (device === null) {
      return [];
    }
    const spot = subject.spotOf(device, device.model.name === "arm-smmuv3" ? "accel" : "iommufd");
    if (!atLeast(kernelOf(host.kernel), since)) {
      return [{ rule: "kernel-version", words: `Linux ${host.kernel} has no ${what}`, found: `${deviceLabel(device)} on ${host.name}`, wouldWork: `Linux ${since.join(".")}`, spot }];
    }
    // What a configuration does not mention is not known of it.
    if (host.kernelConfig?.[option] !== "n") {
      return [];
    }
    const iommu = option === "CONFIG_IOMMUFD" ? "/dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?)" : `the kernel of ${host.name} has no ${what}: ${option} is not set`;
    return [{ rule: "kernel-option", words: iommu, found: `${option}=n: no ${what}; ${deviceLabel(device)} asks for them`, wouldWork: `a kernel with ${option}=y`, spot }];
  });
}

export function withoutKvm(subject: Subject): Raised[] {
  const smmu = subject.args.devices.find((one) => one.model.name === "arm-smmuv3" && booleanProperty(one, "accel"));
  return subject.host?.kvm === false && smmu !== undefined
    ? [{ rule: "no-kvm", words: "SMMUv3 accel=on requires KVM with kernel-irqchip=on support", found: `${deviceLabel(smmu)}, and ${subject.host.name} has no /dev/kvm`, wouldWork: "a host with virtualization, and its kvm module", spot: subject.spotOf(smmu, "accel") }]
    : [];
}

/** Functions that the host has no IOMMU in front of: they have no group, and VFIO gives them to nobody. */
export function functionsWithoutIommu({ functions }: HostDescription, topology: Topology): Array<{ readonly device: DeviceArgument; readonly fn: HostFunction }> {
  return topology.passedThrough.flatMap((device) => {
    const address = hostFunctionAddress(device);
    const fn = functions.find((one) => one.address === address);
    return fn === undefined || (iommuOf(fn) ?? null) !== null ? [] : [{ device, fn }];
  });
}

export function withoutHostIommu(subject: Subject): Raised[] {
  const { host, topology } = subject;
  if (host === null) {
    return [];
  }
  const none = host.smmus.length + host.vtds.length + host.amds.length === 0;
  return functionsWithoutIommu(host, topology).map(({ device, fn }) => ({
    rule: "no-host-iommu",
    words: `vfio ${fn.address}: no iommu_group found: No such file or directory`,
    found: `${deviceLabel(device)}: ${none ? `${host.name} has no IOMMU` : `no IOMMU of ${host.name} is in front of ${fn.address}`}`,
    wouldWork: none ? "a host whose firmware has its IOMMU on (viommu host --doctor says how)" : "a function behind an IOMMU",
    spot: subject.spotOf(device, "host"),
  }));
}

/** Functions of groups that the machine does not take: in nobody's way, and nobody's. Those of the host's drivers are told by the machine. */
export function groups(subject: Subject): Raised[] {
  const { host, topology } = subject;
  if (host === null) {
    return [];
  }
  const facts = new HostFacts(host);
  const taken = new Set(topology.passedThrough.flatMap((fn) => subject.hostFunction(fn)?.address ?? []));
  const told = new Set<number>();
  return topology.passedThrough.flatMap((fn): Raised[] => {
    const description = subject.hostFunction(fn);
    const { group, companions } = description === null ? { group: null, companions: [] } : facts.factsOf(description);
    const others = companions.filter((one) => !taken.has(one.address) && leavesDmaToVfio(one.driver));
    if (group === null || told.has(group) || others.length === 0) {
      return [];
    }
    told.add(group);
    const names = others.map(({ address, name }) => `${address} (${name})`).join(", ");
    return [{ rule: "group-companions", words: `IOMMU group ${group} of ${deviceLabel(fn)} has functions that the machine does not take`, found: names, wouldWork: others.map(({ address }) => `-device vfio-pci,host=${address}`).join(" "), spot: subject.spotOf(fn, "host") }];
  });
}

