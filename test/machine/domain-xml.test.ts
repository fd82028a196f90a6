/** Domain XML: held against the lines that libvirt 12.9 makes of the same files (virsh domxml-to-native, QEMU 11.1). */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { recognise } from "../../src/machine/input/index.js";
import { readArguments } from "../../src/machine/arguments/index.js";
import { build } from "./build.js";
import { refusalOf } from "./refused.js";

const folder = new URL("./domain-xml/", import.meta.url);
const read = (file: string): string => readFileSync(new URL(file, folder), "utf8");
const named = (suffix: string): string[] => readdirSync(folder).filter((file) => file.endsWith(suffix)).map((file) => file.slice(0, -suffix.length));

/** What is no part of a machine for its IOMMUs, or is another process' or the machine's that it ran on. */
const OTHER = new Set(["bootindex", "max_outputs", "vgamem", "ram_size", "vram_size", "vram64_size_mb", "vgamem_mb", "port", "nr", "removable", "write-cache"]);
const KEPT = new Set(["-machine", "-m", "-smp", "-numa", "-device", "-object", "-cpu", "-uuid", "-global"]);

function comparable(option: string, value: string): string | null {
  if (!KEPT.has(option)) {
    return null;
  }
  if (option === "-machine") {
    // Left out by libvirt or by us: where firmware is, what a core dump holds; the version of `virt` and `q35`.
    const [type, ...rest] = value.split(",");
    return `${option} ${[type.replace(/^pc-(q35)-.*|^(virt)-.*/, "$1$2"), ...rest.filter((one) => !/^(?:usb|dump-guest-core|pflash\d)=/.test(one)).sort()].join(",")}`;
  }
  if (!value.startsWith("{")) {
    return value === "qemu64" ? null : `${option} ${value}`;
  }
  const { driver, ...all } = JSON.parse(value) as Record<string, unknown>;
  // Drives have numbers of their own; libvirt gives a function that goes by iommufd as an open descriptor.
  const properties = Object.entries(all).filter(([name]) => name !== "drive" && !(OTHER.has(name) && driver !== "pcie-root-port" && driver !== "xio3130-downstream") && !(name === "host" && "iommufd" in all));
  if (driver === "ccid-card-passthru") {
    return null;
  }
  const bus = driver === "virtserialport" || driver === "virtconsole" ? properties.filter(([name]) => name !== "bus" && name !== "chardev") : properties;
  return `${option} ${String(driver ?? "")} ${JSON.stringify(Object.fromEntries(bus.sort(([a], [b]) => a.localeCompare(b))))}`;
}

function ours(name: string): string[] {
  const { words } = recognise(read(`${name}.xml`), `${name}.xml`);
  const found: string[] = [];
  for (let n = 0; n + 1 < words.length; n++) {
    const one = words[n].text.startsWith("-") ? comparable(words[n].text, words[n + 1].text) : null;
    if (one !== null) {
      found.push(one);
    }
  }
  return found;
}

/** Behind-the-scenes devices: their order among others has no meaning for PCI. */
const sorted = (lines: string[]): string[] => [...lines].sort();

describe("a domain XML becomes the line that libvirt makes of it", () => {
  it.each(named(".line"))("%s", (name) => {
    const theirs = read(`${name}.line`).trim().split("\n").flatMap((line) => comparable(line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)) ?? []);
    expect(sorted(ours(name))).toEqual(sorted(theirs));
    const devices = (lines: string[]): string[] => lines.filter((line) => /^-device \S*(?:port|bridge|pxb|stream|vfio|iommu|smmu)/.test(line));
    expect(devices(ours(name))).toEqual(devices(theirs));
  });

  it("of every kind that there are files for", () => {
    expect(named(".line").length).toBeGreaterThanOrEqual(28);
  });

  it.each(named(".error"))("or is refused in its words: %s", (name) => {
    const refusal = refusalOf(() => recognise(read(`${name}.xml`), `${name}.xml`));
    expect(refusal.words).toBe(read(`${name}.error`).trim());
    expect(refusal.place).toMatchObject({ source: `${name}.xml`, line: expect.any(Number), column: expect.any(Number) });
  });
});

const domain = (devices: string, more = "", arch = "aarch64", machine = "virt"): string =>
  `<domain type='kvm'>\n  <name>a</name>\n  <memory unit='GiB'>2</memory>\n  <vcpu>2</vcpu>\n  ${more}\n  <os><type arch='${arch}' machine='${machine}'>hvm</type></os>\n  <features><acpi/><gic version='3'/></features>\n  <devices>\n    ${devices}\n  </devices>\n</domain>\n`;
const HOSTDEV = "<hostdev mode='subsystem' type='pci'><source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>";

describe("words of a domain XML", () => {
  it("stand where their elements stand, also in what is told of them", () => {
    const text = domain(HOSTDEV, "<iommufd enabled='yes'/>");
    const { words } = recognise(text, "guest.xml");
    const at = words.findIndex((word) => word.text.includes("vfio-pci"));
    expect(words[at]).toMatchObject({ source: "guest.xml", line: 9, column: 5 });
    expect(JSON.parse(words[at].text)).toEqual({ driver: "vfio-pci", host: "0009:01:00.0", id: "hostdev0", iommufd: "iommufd0", bus: "pci.1", addr: "0x0" });
    const { findings } = readArguments(recognise(domain(`${HOSTDEV}<iommu model='smmuv3'><driver pciBus='0' accel='on' oas='99'/></iommu>`, "<iommufd enabled='yes'/>"), "guest.xml"));
    expect(findings.filter(({ level }) => level === "error").map(({ words, place }) => [words, place?.source, place?.line, place?.column])).toEqual([["Parameter 'oas' does not accept value '99'", "guest.xml", 9, 133]]);
    const bad = readArguments(recognise(domain("", "<cpu><numa><cell id='0' cpus='0-7' memory='2' unit='GiB'/></numa></cpu>"), "guest.xml"));
    expect(bad.findings.filter(({ level }) => level === "error")).toMatchObject([{ words: "CPU index (2) should be smaller than maxcpus (2)", place: { source: "guest.xml" } }]);
  });

  it("are told of what libvirt adds, and of what it does not know", () => {
    const { findings } = recognise(domain(`${HOSTDEV}<iommu model='smmuv3'><driver pciBus='0' accel='on' ssidSize='20'/></iommu>`), "guest.xml");
    expect(findings.map(({ rule, words }) => [rule, words])).toEqual([
      ["unknown-attribute", "guest.xml:9: libvirt has no attribute 'ssidSize' of an iommu's driver and goes on without it; it has 'ssidsize'"],
      ["added-controllers", "guest.xml:9: libvirt adds 2 controllers for what has no place: pci.1, pci.2"],
    ]);
  });

  it("are refused all at once, each with its place", () => {
    const refusal = refusalOf(() =>
      recognise(
        domain("<iommu model='intel'/>\n    <iommu model='smmuv3'><driver ats='on'/></iommu>\n    <controller type='pci' index='1' model='pcie-root-port'><address type='pci' bus='0' slot='0'/></controller>", "<iommufd enabled='no' fdgroup='x'/>"),
        "guest.xml",
      ),
    );
    expect(refusal.parts.map(({ words, place }) => [place?.line, words])).toEqual([
      [9, "unsupported configuration: IOMMU device: 'intel' is only supported with Q35 machines"],
      [10, "XML error: accel must be enabled for iommu model 'smmuv3' when setting ats, ril, ssidsize, oas, or cmdqv"],
      [5, "unsupported configuration: Setting 'fdgroup' when 'iommufd' is disabled is not supported."],
      [11, "XML error: Invalid PCI address 0000:00:00.0. slot must be >= 1"],
    ]);
  });

  it("are the domain's in a status or a capture of one, and none where the XML is broken or of something else", () => {
    expect(recognise(`<?xml version='1.0'?>\n<domstatus state='running'>${domain(HOSTDEV)}</domstatus>`, "s.xml").words.some(({ text }) => text.includes("vfio-pci"))).toBe(true);
    const broken = refusalOf(() => recognise("<domain type='kvm'>\n<devices></domain>", "b.xml"));
    expect([broken.rule, broken.place?.line]).toEqual(["invalid-xml", 2]);
    expect(broken.words).toMatch(/^XML error: Opening and ending tag mismatch: "devices" != "domain"/);
    expect(refusalOf(() => recognise(domain("").replace("<memory unit='GiB'>2</memory>", ""), "m.xml")).words).toBe("XML error: missing element or attribute './memory'");
  });

  it("of addresses and indexes that cannot be are refused, whatever they are", () => {
    const words = (devices: string): string => refusalOf(() => recognise(domain(devices), "t.xml")).words;
    const at = (address: string): string => HOSTDEV.replace("</hostdev>", `<address type='pci' ${address}/></hostdev>`);
    expect(words(at("bus='0x7fffffff' slot='0'"))).toBe("XML error: Invalid PCI address bus='0x7fffffff', must be <= 0xFF");
    expect(words(at("bus='x' slot='0'"))).toBe("XML error: Invalid value for attribute 'bus' in element 'address': 'x'. Expected integer value");
    expect(words("<controller type='pci' index='x' model='pcie-root-port'/>")).toBe("XML error: Invalid value for attribute 'index' in element 'controller': 'x'. Expected integer value");
    expect(words("<controller type='pci' index='99999' model='pcie-root-port'/>")).toBe("unsupported configuration: PCI controller index 99999 too high");
    expect(refusalOf(() => recognise(`<domain>${"<a>".repeat(400)}${"</a>".repeat(400)}</domain>`, "t.xml")).words).toBe("XML error: Excessive depth in document");
  });

  it("count addresses that two want", () => {
    const two = "<hostdev mode='subsystem' type='pci'><source><address domain='9' bus='1' slot='0' function='0'/></source><address type='pci' bus='3' slot='0'/></hostdev>";
    expect(refusalOf(() => recognise(domain(two + two), "t.xml")).words).toBe("XML error: Attempted double use of PCI Address 0000:03:00.0");
  });
});

describe("what libvirt takes", () => {
  it("is built: a function of the host behind its own SMMU, with the nodes of the domain", () => {
    const text = read("smmuv3-expander.xml").replace("type='qemu'", "type='kvm'");
    const { machine, host } = build(recognise(text, "guest.xml").words.map((word) => `'${word.text}'`).join(" "));
    machine.start();
    const fn = machine.board.functions.find(({ argument }) => argument.id === "hostdev0")!.fn;
    expect(machine.board.iommus.map(({ id }) => id)).toEqual(["iommu0"]);
    expect(fn.bus!.id).toBe("pci.2");
    const srat = machine.board.buildTables().acpi!.tables.get("SRAT")!;
    expect(srat.length).toBe(36 + 12 + 2 * 18 + 2 * 40);
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  /** Devices that viommu refuses. */
  const refused: Readonly<Record<string, readonly string[]>> = { amd: ["AMDVI-PCI", "amd-iommu"], cmdqv: ["virtio-iommu"], "smmuv3-and-virtio": ["virtio-iommu"], "virtio-iommu": ["virtio-iommu"], "virtio-mem": ["virtio-mem-pci"] };

  it.each(named(".line"))("is a machine here, or refused with a reason: %s", (name) => {
    const { findings } = readArguments(recognise(read(`${name}.xml`), `${name}.xml`));
    expect(findings.filter(({ level }) => level === "error").map(({ words }) => /'([\w-]+)'/.exec(words)?.[1] ?? words)).toEqual(refused[name] ?? []);
  });
});
