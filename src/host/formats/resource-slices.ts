/**
 * A host's functions as Kubernetes sees devices: ResourceSlices of resource.k8s.io/v1 (KEP-4381), with the standard
 * attributes and those by which a claim says that its devices are to be behind one IOMMU of the host.
 */
import { HostFacts } from "../../plan/index.js";
import type { DescribedHost } from "../described/index.js";
import type { FunctionDescription } from "../simulated/file/index.js";

/** Name of the driver, and so the domain of the attributes that have none. */
export const DRIVER = "viommu.dev";
/** The domain of the standard attributes (k8s.io/dynamic-resource-allocation/deviceattribute). */
const STANDARD = "resource.kubernetes.io";
/** Devices of a slice, and characters of a string attribute, at the most (resource.k8s.io/v1: ResourceSliceMaxDevices, DeviceAttributeMaxValueLength). */
const MOST_DEVICES = 128;
const MOST_CHARACTERS = 64;

type Attribute = { readonly string: string } | { readonly int: number } | { readonly bool: boolean } | { readonly version: string };

export interface Device {
  readonly name: string;
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly capacity: Readonly<Record<string, { readonly value: string }>>;
}

export interface ResourceSlice {
  readonly apiVersion: "resource.k8s.io/v1";
  readonly kind: "ResourceSlice";
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly driver: string;
    readonly nodeName: string;
    readonly pool: { readonly name: string; readonly generation: number; readonly resourceSliceCount: number };
    readonly devices: readonly Device[];
  };
}

/** Slices for all functions that are behind an IOMMU, bridges aside. @param node name of the Kubernetes node */
export function resourceSlices(host: DescribedHost, node: string): ResourceSlice[] {
  const facts = new HostFacts(host.description);
  const devices = host.description.functions.filter((fn) => fn.class >>> 16 !== 0x06 && fn.class >>> 8 !== 0x0806 && fn.group !== null).map((fn) => deviceOf(fn, facts, host));
  const count = Math.max(1, Math.ceil(devices.length / MOST_DEVICES));
  return Array.from({ length: count }, (_slice, i) => ({
    apiVersion: "resource.k8s.io/v1",
    kind: "ResourceSlice",
    metadata: { name: `${node}-${DRIVER}-${i}` },
    spec: { driver: DRIVER, nodeName: node, pool: { name: node, generation: 1, resourceSliceCount: count }, devices: devices.slice(i * MOST_DEVICES, (i + 1) * MOST_DEVICES) },
  }));
}

/** The same as YAML documents. */
export async function formatResourceSlices(host: DescribedHost, node: string): Promise<string> {
  const { stringify } = await import("yaml");
  return resourceSlices(host, node)
    .map((slice) => `---\n${stringify(slice)}`)
    .join("");
}

function deviceOf(fn: FunctionDescription, facts: HostFacts, { description, functions }: DescribedHost): Device {
  const { iommu, numaNode, group } = facts.factsOf(fn);
  const name = fn.smmu ?? fn.vtd ?? fn.amd ?? null;
  const attributes: Record<string, Attribute> = {};
  const put = (key: string, value: string | number | boolean | null | undefined): void => {
    // What is not known is not said: a selector that asks for it does not take the device.
    if (typeof value === "string" && value !== "") {
      attributes[key] = { string: value.slice(0, MOST_CHARACTERS) };
    } else if (typeof value === "number") {
      attributes[key] = { int: value };
    } else if (typeof value === "boolean") {
      attributes[key] = { bool: value };
    }
  };
  put(`${STANDARD}/pciBusID`, fn.address);
  put(`${STANDARD}/pcieRoot`, rootOf(fn));
  put(`${STANDARD}/numaNode`, numaNode);
  put("hostIommu", name);
  put("iommuKind", iommu?.kind ?? (typeof fn.amd === "string" ? "amd" : null));
  put("group", group);
  put("groupSize", group === null ? null : description.functions.filter((other) => other.group === group).length);
  put("driver", fn.driver);
  put("vendor", hex(fn.vendor, 4));
  put("device", hex(fn.device, 4));
  put("class", hex(fn.class >>> 8, 4));
  put("functionAts", fn.ats);
  put("functionPasidBits", fn.pasidBits);
  put("rootPort", fn.rootPort);
  put("physicalFunction", functions.get(fn.address)?.physicalFunction);
  if (iommu?.kind === "smmuv3" && iommu.description.idr5 !== null) {
    put("nesting", iommu.obstacle === null);
    put("oas", iommu.offer.oas.value);
    put("ssidsize", iommu.offer.ssidsize.value);
    put("ats", iommu.offer.ats.value);
    put("ril", iommu.offer.ril.value);
  } else if (iommu?.kind === "vtd" && iommu.description.ecap !== null) {
    put("nesting", iommu.obstacle === null);
    put("awBits", iommu.offer.awBits.value);
    put("pasidBits", iommu.offer.pasidBits.value);
    put("ats", iommu.offer.deviceIotlb.value);
  } else if (typeof fn.amd === "string") {
    put("nesting", false);
  }
  attributes.kernel = { version: semanticVersion(description.kernel) };
  const bars = fn.bars.reduce((sum, { size }) => sum + size, 0);
  return { name: `pci-${fn.address.replace(/[:.]/g, "-")}`, attributes, capacity: { bars: { value: bars % 1024 === 0 ? `${bars / 1024}Ki` : String(bars) } } };
}

/** `pci0009:01`: the root bus that the function is below (KEP-4381, pcieRoot). */
function rootOf({ address, rootPort, upstream }: FunctionDescription): string | null {
  const top = rootPort ?? (upstream?.length === 0 ? address : null);
  return top === null ? null : `pci${top.slice(0, 7)}`;
}

/** `6.12.48-generic` as semver 2.0.0 has it: three numbers, no leading zeros. */
function semanticVersion(release: string): string {
  const [major, minor, patch] = release.split(/[^0-9]/).map(Number);
  return [major, minor, Number.isInteger(patch) ? patch : 0].join(".");
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
