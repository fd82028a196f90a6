/** ResourceSlices by the rules of resource.k8s.io/v1, and the example's claim allocated from them as a scheduler would. */
import { readFileSync } from "node:fs";
import { Environment } from "@marcbachmann/cel-js";
import { parseAllDocuments } from "yaml";
import { describe, expect, it } from "vitest";
import { describeSnapshot } from "../../../src/host/described/index.js";
import { formatResourceSlices, resourceSlices } from "../../../src/host/formats/index.js";
import { CAPTURES, type CaptureName, captures, HostMaker } from "../captures/index.js";

type Slice = ReturnType<typeof resourceSlices>[number];
type Device = Slice["spec"]["devices"][number];

const slicesOf = (name: CaptureName): Slice[] => resourceSlices(describeSnapshot(captures[name]()), "node-1");
const deviceOf = (name: CaptureName, address: string): Device => slicesOf(name).flatMap(({ spec }) => spec.devices).find((one) => one.name === `pci-${address.replace(/[:.]/g, "-")}`)!;

/** resource.Quantity of Kubernetes, as far as bytes go, and semver: the types of the scheduler's CEL (KEP-4381). */
class Quantity {
  readonly value: number;
  constructor(text: string) {
    const match = /^(\d+)(Ki|Mi|Gi|Ti|)$/.exec(text)!;
    this.value = Number(match[1]) * 1024 ** ["", "Ki", "Mi", "Gi", "Ti"].indexOf(match[2]);
  }
}
class Semver {
  readonly parts: number[];
  constructor(text: string) {
    expect(text).toMatch(/^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}$/);
    this.parts = text.split(".").map(Number);
  }
}
const compare = (a: readonly number[], b: readonly number[]): bigint => BigInt(Math.sign(a.map((part, i) => part - b[i]).find((one) => one !== 0) ?? 0));

const environment = new Environment()
  .registerVariable("device", "map")
  .registerType("Quantity", Quantity)
  .registerType("Semver", Semver)
  .registerFunction("quantity(string): Quantity", (text: string) => new Quantity(text))
  .registerFunction("semver(string): Semver", (text: string) => new Semver(text))
  .registerFunction("Quantity.compareTo(Quantity): int", (a: Quantity, b: Quantity) => compare([a.value], [b.value]))
  .registerFunction("Semver.compareTo(Semver): int", (a: Semver, b: Semver) => compare(a.parts, b.parts));

/** A device as CEL sees it: attributes by domain, those without one in the driver's. */
function inCel({ attributes, capacity }: Device, driver: string): object {
  const domains: Record<string, Record<string, unknown>> = { [driver]: {} };
  for (const [key, value] of Object.entries(attributes)) {
    const [id, domain = driver] = key.split("/").reverse();
    const [plain] = Object.values(value) as [string | number | boolean];
    domains[domain] = { ...domains[domain], [id]: "version" in value ? new Semver(value.version) : typeof plain === "number" ? BigInt(plain) : plain };
  }
  return { driver, attributes: domains, capacity: { [driver]: Object.fromEntries(Object.entries(capacity).map(([name, { value }]) => [name, new Quantity(value)])) } };
}

interface Request {
  readonly name: string;
  readonly exactly: { readonly deviceClassName: string; readonly count?: number; readonly selectors: Array<{ readonly cel: { readonly expression: string } }> };
}
const [deviceClass, claim] = parseAllDocuments(readFileSync("examples/kubernetes-claim.yaml", "utf8")).map((document) => document.toJS() as { spec: never }) as unknown as [
  { readonly metadata: { readonly name: string }; readonly spec: { readonly selectors: Request["exactly"]["selectors"] } },
  { readonly spec: { readonly devices: { readonly requests: Request[]; readonly constraints: Array<{ readonly requests: string[]; readonly matchAttribute: string }> } } },
];

/** Devices for each request in the order of the claim; null: there are none that go together. */
function allocate(slices: readonly Slice[]): Record<string, string[]> | null {
  const devices = slices.flatMap(({ spec }) => spec.devices.map((device) => ({ device, seen: inCel(device, spec.driver) })));
  const { requests, constraints } = claim.spec.devices;
  const wanted = requests.flatMap(({ name, exactly }) => {
    expect(exactly.deviceClassName).toBe(deviceClass.metadata.name);
    const expressions = [...deviceClass.spec.selectors, ...exactly.selectors].map(({ cel }) => environment.parse(cel.expression));
    // A selector that fails ends the allocation: the class's come first, and what they do not take is not asked more.
    const fit = devices.filter(({ seen }) => expressions.every((expression) => expression({ device: seen }) === true)).map(({ device }) => device);
    return Array.from({ length: exactly.count ?? 1 }, () => ({ name, fit }));
  });
  const holds = (chosen: ReadonlyArray<{ name: string; device: Device }>): boolean =>
    constraints.every(({ requests: names, matchAttribute }) => {
      const key = matchAttribute.replace(/^viommu\.dev\//, "");
      const values = chosen.filter(({ name }) => names.includes(name)).map(({ device }) => JSON.stringify(device.attributes[key]));
      return !values.includes(undefined as never) && new Set(values).size <= 1;
    });
  const search = (chosen: Array<{ name: string; device: Device }>): Array<{ name: string; device: Device }> | null => {
    const next = wanted.at(chosen.length);
    if (next === undefined) {
      return chosen;
    }
    for (const device of next.fit.filter((one) => !chosen.some((other) => other.device === one))) {
      const more = [...chosen, { name: next.name, device }];
      const found = holds(more) ? search(more) : null;
      if (found !== null) {
        return found;
      }
    }
    return null;
  };
  const found = search([]);
  return found === null ? null : Object.fromEntries(requests.map(({ name }) => [name, found.filter((one) => one.name === name).map(({ device }) => device.name)]));
}

describe("ResourceSlices", () => {
  it("have the standard attributes and what a virtual IOMMU asks of a function's host IOMMU", () => {
    expect(deviceOf("grace", "0009:01:00.0")).toEqual({
      name: "pci-0009-01-00-0",
      attributes: {
        "resource.kubernetes.io/pciBusID": { string: "0009:01:00.0" },
        "resource.kubernetes.io/pcieRoot": { string: "pci0009:00" },
        "resource.kubernetes.io/numaNode": { int: 0 },
        hostIommu: { string: "smmu3.0x0000000011600000" },
        iommuKind: { string: "smmuv3" },
        group: { int: 1 },
        groupSize: { int: 1 },
        driver: { string: "nvgrace-gpu-vfio-pci" },
        vendor: { string: "10de" },
        device: { string: "2342" },
        class: { string: "0302" },
        functionAts: { bool: true },
        functionPasidBits: { int: 20 },
        rootPort: { string: "0009:00:00.0" },
        nesting: { bool: true },
        oas: { int: 48 },
        ssidsize: { int: 20 },
        ats: { bool: true },
        ril: { bool: true },
        kernel: { version: "7.3.4" },
      },
      capacity: { bars: { value: `${(2 ** 37 + 2 ** 24 + 2 ** 25) / 1024}Ki` } },
    });
    expect(deviceOf("xeon", "0000:38:00.1").attributes).toMatchObject({ hostIommu: { string: "dmar1" }, awBits: { int: 48 }, pasidBits: { int: 20 }, physicalFunction: { string: "0000:38:00.0" }, nesting: { bool: true } });
    expect(deviceOf("epyc", "0000:01:00.0").attributes).toMatchObject({ hostIommu: { string: "ivhd0" }, iommuKind: { string: "amd" }, nesting: { bool: false } });
    // What nobody could read is not said.
    expect(Object.keys(deviceOf("ampere", "0001:01:00.0").attributes)).not.toEqual(expect.arrayContaining(["nesting"]));
  });

  it.each(CAPTURES)("keep the API's bounds: %s", (name) => {
    for (const { spec, metadata } of slicesOf(name)) {
      expect(metadata.name).toMatch(/^[a-z0-9.-]{1,253}$/);
      expect(spec.devices.length).toBeLessThanOrEqual(128);
      for (const device of spec.devices) {
        expect(device.name).toMatch(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);
        expect(Object.keys(device.attributes).length + Object.keys(device.capacity).length).toBeLessThanOrEqual(32);
        for (const [key, value] of Object.entries(device.attributes)) {
          expect(key).toMatch(/^(?:[a-z0-9.-]{1,63}\/)?[A-Za-z_][A-Za-z0-9_]{0,31}$/);
          expect("string" in value ? value.string.length : 1).toBeLessThanOrEqual(64);
        }
      }
    }
  });

  it("are as many as the devices need, and say so in YAML", async () => {
    const host = new HostMaker("x86_64", "7.3.4", "");
    const dmar = host.dmar(0, 0xfed9_0000, "d2008c40660462", "f050da");
    for (let n = 0; n < 200; n++) {
      const address = `0000:${(n >> 3).toString(16).padStart(2, "0")}:00.${n & 7}`;
      host.fn(`pci0000:00/${address}`, { vendor: 0x8086, device: 0x1889, class: 0x020000, iommu: dmar, group: n });
    }
    const described = describeSnapshot(host.made());
    const slices = parseAllDocuments(await formatResourceSlices(described, "n")).map((document) => document.toJS() as Slice);
    expect(slices).toEqual(resourceSlices(described, "n"));
    expect(slices.map(({ spec }) => [spec.devices.length, spec.pool.resourceSliceCount])).toEqual([[128, 2], [72, 2]]);
  });
});

describe("the example's claim", () => {
  it("takes two functions behind one IOMMU of the host, and a GPU of their node", () => {
    expect(allocate(slicesOf("xeon"))).toEqual({ gpu: ["pci-0000-18-00-0"], nics: ["pci-0000-38-00-1", "pci-0000-38-00-2"] });
  });

  it("takes nothing where no IOMMU nests, or where the functions are apart", () => {
    expect(allocate(slicesOf("desktop"))).toBeNull();
    expect(allocate(slicesOf("epyc"))).toBeNull();
    const apart = slicesOf("xeon").map((slice) => ({ ...slice, spec: { ...slice.spec, devices: slice.spec.devices.filter(({ name }) => !/-00-2$/.test(name)) } }));
    expect(allocate(apart)).toBeNull();
  });
});
