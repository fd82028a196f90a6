/** Plans in the words of those who start machines. */
import { DOMParser } from "@xmldom/xmldom";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { check } from "../../src/check/index.js";
import { loadHost, shippedHosts } from "../../src/host/shipped/index.js";
import { dropProgram, parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { HostFacts, type MachinePlan, planMachine, type PlanFormat, type PlanRequest, qemuVersion, writePlan, type WriteOptions } from "../../src/plan/index.js";
import { planJsonSchema, planSchema } from "../../src/plan/report/index.js";

const GIB = 2 ** 30;
async function plan(host: string, devices: readonly string[], more: Partial<PlanRequest> = {}): Promise<MachinePlan> {
  return planMachine({ facts: new HostFacts(await loadHost(host)), devices, memory: 4 * GIB, cpus: 4, ...more });
}
const write = (made: MachinePlan, format: PlanFormat, more: Partial<WriteOptions> = {}): string => writePlan(made, format, { hostName: made.host, qemu: "11.1", libvirt: "12.9", ...more });

const attributes = (text: string, path: string): Array<Record<string, string>> => {
  const found = [...new DOMParser().parseFromString(text, "text/xml").getElementsByTagName(path.split("/").at(-1)!)].filter((one) => path.split("/").length === 1 || one.parentNode?.nodeName === path.split("/").at(-2));
  return found.map((one) => Object.fromEntries([...one.attributes].map(({ name, value }) => [name, value])));
};

describe("domain XML", () => {

  it("has an accelerated SMMU on its expander's controller, with the host's features", async () => {
    const text = write(await plan("grace", ["0009:01:00.0", "0018:01:00.0"]), "libvirt");
    expect(attributes(text, "iommu/driver")).toEqual([
      { pciBus: "1", accel: "on", ats: "on", ril: "on", ssidsize: "20", oas: "48" },
      { pciBus: "3", accel: "on", ats: "on", ril: "on", ssidsize: "20", oas: "48" },
    ]);
    expect(attributes(text, "controller").filter(({ type }) => type === "pci").map(({ index, model }) => [index, model])).toEqual([["0", "pcie-root"], ["1", "pcie-expander-bus"], ["2", "pcie-root-port"], ["3", "pcie-expander-bus"], ["4", "pcie-root-port"]]);
    expect(attributes(text, "controller/target")).toEqual([{ busNr: "192" }, { chassis: "1", port: "0x0" }, { busNr: "224" }, { chassis: "2", port: "0x0" }]);
    expect(attributes(text, "source/address")).toEqual([{ domain: "0x0009", bus: "0x01", slot: "0x00", function: "0x0" }, { domain: "0x0018", bus: "0x01", slot: "0x00", function: "0x0" }]);
    expect(attributes(text, "hostdev/acpi")).toEqual([{ nodeset: "2-9" }, { nodeset: "10-17" }]);
    expect(attributes(text, "iommufd")).toEqual([{ enabled: "yes" }]);
    expect(text).not.toContain("qemu:");
  });

  it("for libvirt 11.10 tells QEMU what that has no words for", async () => {
    const text = write(await plan("grace", ["0009:01:00.0"]), "libvirt", { libvirt: "11.10" });
    expect(attributes(text, "iommu/driver")).toEqual([{ pciBus: "1" }]);
    expect(attributes(text, "qemu:property").map(({ name, value }) => `${name}=${value}`)).toEqual(["accel=true", "ril=on", "ats=on", "oas=48", "ssidsize=20", "iommufd=iommufd0"]);
    expect(attributes(text, "qemu:arg").slice(0, 4).map(({ value }) => value)).toEqual(["-object", "iommufd,id=iommufd0", "-object", "acpi-generic-initiator,id=gi1,pci-dev=ua-gpu0,node=1"]);
    expect(attributes(text, "iommufd")).toEqual([]);
  });

  it("sets first stages of an intel-iommu, for which libvirt has no words, beside it", async () => {
    const text = write(await plan("two-socket-spr", ["0000:97:00.0", "0000:97:00.1"], { cpus: 256 }), "libvirt");
    expect(attributes(text, "iommu/driver")).toEqual([{ intremap: "on", caching_mode: "on", eim: "on", iotlb: "on", aw_bits: "48" }]);
    expect(attributes(text, "qemu:property").map(({ name, value }) => `${name}=${value}`)).toEqual(["scalable-mode=true", "fsts=true", "pasid-bits=20"]);
    expect(attributes(write(await plan("desktop", ["0000:02:00.0"]), "libvirt"), "iommu/driver")).toEqual([{ intremap: "on", caching_mode: "on", aw_bits: "39" }]);
  });
});

it("domain XML is taken back: its check is clean", async () => {
  for (const name of shippedHosts()) {
    const host = await loadHost(name);
    const devices = host.functions.filter(({ driver }) => driver === "vfio-pci").map(({ address }) => address);
    const { findings } = check({ text: write(await plan(name, devices, { spare: 1 }), "libvirt"), source: "domain.xml", host });
    expect(findings.filter(({ level }) => level !== "note").map(({ words, found }) => `${words}: ${found}`)).toEqual([]);
  }
});

describe("command lines", () => {
  it("are the same machine for QEMU and for viommu run", async () => {
    for (const name of shippedHosts()) {
      const made = await plan(name, (await loadHost(name)).functions.map(({ address }) => address), { spare: 1 });
      const words = (format: PlanFormat): string[] => dropProgram(splitWords(write(made, format), format));
      const qemu = words("qemu");
      expect(qemu.splice(qemu.indexOf("-bios"), 2)).toEqual(["-bios", made.board === "virt" ? "/usr/share/AAVMF/AAVMF_CODE.fd" : "/usr/share/ovmf/OVMF.fd"]);
      expect(qemu).toEqual(words("viommu"));
      // Nothing that the machine takes is unknown to it.
      expect(parseArguments(qemu).notes.filter((note) => !/global/.test(note))).toEqual([]);
    }
  });

  it("keep CPUs of two nodes in two sockets", async () => {
    expect(write(await plan("two-socket-spr", ["0000:17:00.0", "0000:97:00.0"]), "qemu")).toContain("-smp 4,sockets=2 ");
    expect(write(await plan("two-socket-spr", ["0000:17:00.0", "0000:97:00.0"], { cpus: 5 }), "qemu")).toContain("-smp 5 ");
  });
});

it("KubeVirt's documents have what they can say, and comments for what they cannot", async () => {
  const text = write(await plan("grace", ["0009:01:00.0", "0009:02:00.0"]), "kubevirt");
  const [cluster, instance] = parseAllDocuments(text).map((one) => one.toJS() as { kind: string; spec: Record<string, unknown> });
  expect([cluster.kind, instance.kind]).toEqual(["KubeVirt", "VirtualMachineInstance"]);
  expect(cluster.spec).toMatchObject({ configuration: { permittedHostDevices: { pciHostDevices: [{ pciVendorSelector: "10DE:2342" }, { pciVendorSelector: "15B3:1021" }] } } });
  expect(instance.spec).toMatchObject({
    architecture: "arm64",
    domain: { memory: { guest: "4Gi" }, cpu: { cores: 4, numa: { guestMappingPassthrough: {} } }, devices: { gpus: [{ name: "gpu0", deviceName: "devices.kubevirt.io/pci-10de-2342" }], hostDevices: [{ name: "nic0" }] } },
  });
  expect(text).toContain("#   smmu1: the host has ril=on, KubeVirt's code for Grace gives off");
});

describe("JSON", () => {
  it("has exactly the fields of its schema", async () => {
    for (const name of shippedHosts()) {
      const made = await plan(name, (await loadHost(name)).functions.map(({ address }) => address), { spare: 1 });
      expect(planSchema.parse(JSON.parse(write(made, "json")))).toEqual(JSON.parse(JSON.stringify(made)));
    }
  });

  it("is told in docs/json.md, field by field", () => {
    const text = readFileSync(new URL("../../docs/json.md", import.meta.url), "utf8").split("\n## Plans\n")[1].split("\n## ")[0];
    const names = [...JSON.stringify(planJsonSchema()).matchAll(/"required":(\[[^\]]*\])/g)].flatMap(([, list]) => JSON.parse(list) as string[]);
    expect(names.length).toBeGreaterThan(40);
    expect([...new Set(names)].filter((name) => !new RegExp(`\`${name}(\\[\\])?\`|\\.${name}(\\[\\])?\``).test(text))).toEqual([]);
  });
});

describe("QEMU 11.0", () => {
  it("has accelerated SMMUs, shows no PASIDs of functions, and VT-d by its older names", async () => {
    const virt = await plan("grace", ["0009:01:00.0"], { qemu: "11.0" });
    expect(virt.expanders[0].smmu).toMatchObject({ ssidsize: 0, ril: true, ats: true });
    expect(virt.expanders[0].smmu!.because.join()).toContain("ssidsize=0 for QEMU 11.0, whose vfio-pci shows no PASID capability (11.1's does)");
    expect(write(virt, "qemu", { qemu: "11.0" })).toContain("-machine virt-11.0,");
    const q35 = await plan("two-socket-spr", ["0000:97:00.0"], { qemu: "11.0" });
    expect(q35.vtd).toMatchObject({ fsts: true, pasidBits: 0 });
    expect(write(q35, "qemu", { qemu: "11.0" })).toMatch(/-device intel-iommu,id=iommu0,x-scalable-mode=on,x-flts=on,(?:fs1gp=off,)?aw-bits=48,caching-mode=on/);
    expect(attributes(write(q35, "libvirt", { qemu: "11.0" }), "qemu:property").map(({ name }) => name).slice(0, 2)).toEqual(["x-scalable-mode", "x-flts"]);
    expect(write(q35, "text", { qemu: "11.0" })).toContain("x-scalable-mode=on, x-flts=on");
  });

  it.each([
    ["9.2", "no plan for QEMU 9.2", "arm-smmuv3 is a device of the line from 10.2 on"],
    ["12.0", "no plan for QEMU 12.0", "what it has beyond 11.1 is not known here"],
    ["new", "no plan for QEMU new", "which is no version"],
  ])("is one of those that are known, %s is not", (text, words, found) => {
    expect(() => qemuVersion(text)).toThrow(words);
    expect(() => qemuVersion(text)).toThrow(found);
    expect(qemuVersion("11.0.2")).toBe("11.0");
  });
});
