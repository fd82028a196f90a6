/** VirtualMachines of KubeVirt as input. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readArguments } from "../../src/machine/arguments/index.js";
import { recognise } from "../../src/machine/input/index.js";
import { refusalOf } from "./refused.js";

const read = (name: string): string => readFileSync(new URL(`./kubevirt/${name}`, import.meta.url), "utf8");
const lineOf = (name: string): string[] => recognise(read(name), name).words.map(({ text }) => text);
const devices = (words: readonly string[]): string[] => words.flatMap((word, n) => (word === "-device" ? [Object.entries(JSON.parse(words[n + 1]) as object).map(([key, value]) => `${key}=${String(value)}`).join(",")] : []));
const argumentsOf = (words: readonly string[], option: string): string[] => words.flatMap((word, n) => (word === option ? [words[n + 1]] : []));

describe("a VirtualMachineInstance", () => {
  it("becomes the line of the domain that KubeVirt makes of it", () => {
    const words = lineOf("desktop.yaml");
    expect(argumentsOf(words, "-machine")).toEqual(["q35,usb=off,memory-backend=pc.ram,acpi=on"]);
    expect([...argumentsOf(words, "-m"), ...argumentsOf(words, "-smp"), ...argumentsOf(words, "-cpu")]).toEqual(["size=8388608k", "4,sockets=1,dies=1,clusters=1,cores=4,threads=1", "host"]);
    expect(devices(words).filter((one) => !/root-port|isa-serial|virtserialport|ide-cd/.test(one))).toEqual([
      "driver=virtio-scsi-pci-non-transitional,id=scsi0,bus=pci.2,addr=0x0",
      "driver=virtio-serial-pci-non-transitional,id=virtio-serial0,bus=pci.3,addr=0x0",
      "driver=virtio-blk-pci-non-transitional,bus=pci.4,addr=0x0,drive=libvirt-1-storage,id=virtio-disk0",
      "driver=virtio-net-pci-non-transitional,netdev=hostnet0,id=net0,bus=pci.1,addr=0x0",
      "driver=VGA,id=video0,bus=pcie.0,addr=0x1",
      "driver=vfio-pci,host=0000:17:00.0,id=ua-gpu-gpu1,iommufd=iommufd0,bus=pci.5,addr=0x0",
      "driver=vfio-pci,fd=100,id=ua-sriov-fast,iommufd=iommufd0,bus=pci.6,addr=0x0",
      "driver=virtio-balloon-pci-non-transitional,id=balloon0,bus=pci.7,addr=0x0",
      "driver=virtio-rng-pci-non-transitional,rng=objrng0,id=rng0,bus=pci.8,addr=0x0",
    ]);
    expect(devices(words).filter((one) => one.includes("root-port"))).toHaveLength(9);
    expect(readArguments(recognise(read("desktop.yaml"), "desktop.yaml")).findings.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("tells what it does not say, with places", () => {
    const { findings } = recognise(read("desktop.yaml"), "desktop.yaml");
    expect(findings.map(({ rule, words }) => `${rule}: ${words}`)).toEqual([
      "not-known: desktop.yaml:20: spec.domain.devices.interfaces[1] (fast): which function of the host it is, is decided when the pod is scheduled; --fd 100=ADDRESS says it here",
      "not-known: desktop.yaml:12: root ports that KubeVirt keeps free for hot-plug, and what sidecars change of the domain, are not said here",
      "not-known: desktop.yaml:12: functions of the host are taken to go by iommufd (feature gate IOMMUFD); without it KubeVirt has the legacy container, which viommu does not serve",
      "added-controllers: desktop.yaml:12: libvirt adds 9 controllers for what has no place: pci.1, pci.2, pci.3, pci.4, pci.5, pci.6, pci.7, pci.8, pci.9",
    ]);
    const { words } = recognise(read("desktop.yaml"), "desktop.yaml");
    expect(words.find(({ text }) => text.includes("17:00.0"))).toMatchObject({ source: "desktop.yaml", line: 23, column: 11 });
  });

  it("of a Grace machine has an SMMU and eight nodes for each GPU, and tells that ssidSize is not heard", () => {
    const input = recognise(read("grace.yaml"), "grace.yaml");
    const words = input.words.map(({ text }) => text);
    expect(argumentsOf(words, "-machine")).toEqual(["virt,usb=off,gic-version=3,acpi=on,highmem-mmio-size=1073741824K"]);
    expect(devices(words).filter((one) => /pxb|smmu|vfio|pci\.2|pci\.4/.test(one))).toEqual([
      "driver=pxb-pcie,bus_nr=246,id=pci.1,numa_node=0,bus=pcie.0,addr=0x1",
      "driver=pcie-root-port,port=0,chassis=2,id=pci.2,bus=pci.1,addr=0x0",
      "driver=pxb-pcie,bus_nr=250,id=pci.3,numa_node=0,bus=pcie.0,addr=0x2",
      "driver=pcie-root-port,port=0,chassis=4,id=pci.4,bus=pci.3,addr=0x0",
      "driver=arm-smmuv3,primary-bus=pci.1,id=iommu0,accel=true,ats=on,ril=off,oas=48",
      "driver=arm-smmuv3,primary-bus=pci.3,id=iommu1,accel=true,ats=on,ril=off,oas=48",
      "driver=vfio-pci,fd=100,id=ua-gpu-gpu1,iommufd=iommufd0,bus=pci.2,addr=0x0",
      "driver=vfio-pci,fd=101,id=ua-gpu-gpu2,iommufd=iommufd0,bus=pci.4,addr=0x0",
    ]);
    expect(argumentsOf(words, "-numa")).toEqual(["node,nodeid=0,cpus=0-7,memdev=ram-node0", ...Array.from({ length: 16 }, (_, n) => `node,nodeid=${n + 1}`)]);
    const initiators = argumentsOf(words, "-object").map((one) => JSON.parse(one) as Record<string, unknown>).filter((one) => one["qom-type"] === "acpi-generic-initiator");
    expect(initiators.map((one) => [one.id, one["pci-dev"], one.node])).toEqual(Array.from({ length: 16 }, (_, n) => [`gi${n}`, n < 8 ? "ua-gpu-gpu1" : "ua-gpu-gpu2", n + 1]));
    expect(input.findings.filter(({ rule }) => rule === "unknown-attribute").map(({ words: told }) => told)).toEqual(
      Array<string>(2).fill("grace.yaml:28: libvirt has no attribute 'ssidSize' of an iommu's driver and goes on without it; it has 'ssidsize'").map((one, n) => one.replace("28", String(28 + 2 * n))),
    );
    expect(readArguments(input).findings.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("is taken in JSON, and in a list", () => {
    const vmi = { apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", metadata: { name: "j" }, spec: { domain: { memory: { guest: "512Mi" }, devices: {} } } };
    const one = recognise(JSON.stringify(vmi, null, 2), "j.json").words.map(({ text }) => text);
    expect(argumentsOf(one, "-m")).toEqual(["size=524288k"]);
    expect(recognise(JSON.stringify({ apiVersion: "v1", kind: "List", items: [vmi] }), "j.json").words.map(({ text }) => text)).toEqual(one);
  });

  it("is refused where it is no machine, with its place", () => {
    const refused = (text: string): [string, number | null | undefined] => {
      const refusal = refusalOf(() => recognise(text, "v.yaml"));
      return [refusal.words, refusal.place?.line];
    };
    const head = "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\n";
    expect(refused(`${head}spec:\n  domain:\n    devices: {}\n`)).toEqual(["spec.domain.memory.guest is required", 5]);
    expect(refused(`${head}spec:\n  domain:\n    memory:\n      guest: lots\n`)[1]).toBe(6);
    expect(refused(`${head}spec: {}\n`)[0]).toBe("spec.domain is required");
    expect(refused(`${head}spec: [\n`)[0]).toMatch(/^Flow sequence/);
  });
});
