import { describe, expect, it } from "vitest";
import { hostInput } from "../machine/build.js";
import { checkLine, told } from "./line.js";

const XML = `<domain type='kvm'>
  <name>grace</name>
  <memory unit='GiB'>4</memory>
  <vcpu>4</vcpu>
  <os>
    <type arch='aarch64' machine='virt-11.1'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/AAVMF/AAVMF_CODE.fd</loader>
  </os>
  <features><acpi/><gic version='3'/></features>
  <iommufd enabled='yes'/>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-expander-bus'><target busNr='252'/></controller>
    <controller type='pci' index='2' model='pcie-root-port'>
      <address type='pci' bus='0x01' slot='0x00'/>
    </controller>
    <!-- the GPU's -->
    <iommu model='smmuv3'>
      <driver pciBus='1' accel='on' ats='on' ril='on' ssidsize='16' oas='48'/>
    </iommu>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <driver iommufd='yes'/>
      <source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </hostdev>
  </devices>
</domain>
`;
const wrong = (text: string, host = "grace"): string[] => told(checkLine(text, host)).filter((line) => !line.startsWith("note "));

describe("a domain XML", () => {
  it("that is right has nothing but notes", () => {
    expect(wrong(XML)).toEqual([]);
  });

  it("has ssidSize told at its place, and renamed", () => {
    const text = XML.replace("ssidsize", "ssidSize");
    const report = checkLine(text, "grace");
    expect(told(report).filter((line) => !line.startsWith("note "))).toEqual(["error unknown-property: ssidSize='16'"]);
    expect(report.findings.find(({ rule }) => rule === "unknown-property")).toMatchObject({ words: "attribute 'ssidSize' of an <iommu>'s <driver> is none of libvirt's", wouldWork: "ssidsize='16'", mended: true });
    expect(report.fixed).toBe(XML);
  });

  it("has what the host cannot give told at its attribute, and mended there", () => {
    const report = checkLine(XML.replace("0x0009", "0x0000"), "arm-small");
    expect(told(report).filter((line) => !line.startsWith("note "))).toEqual(["error host-ats: ats='on'", "error host-ril: ril='on'", "error host-ssidsize: ssidsize='16'", "error host-oas: oas='48'"]);
    expect(report.fixed).toBe(XML.replace("0x0009", "0x0000").replace("ats='on' ril='on' ssidsize='16' oas='48'", "ats='off' ril='off' ssidsize='0' oas='44'"));
  });

  it("has what libvirt refuses told", () => {
    expect(wrong(XML.replace("accel='on' ", ""))).toEqual(["error domain-xml: <iommu"]);
  });
});

/** A function of another SMMU of the host behind the one that is there; `more` is put in beside it. */
const second = (address: string, more = ""): string =>
  XML.replace(
    "    <!-- the GPU's -->",
    `    <controller type='pci' index='3' model='pcie-root-port'>
      <address type='pci' bus='0x01' slot='0x01'/>
    </controller>
    ${more}<hostdev mode='subsystem' type='pci' managed='no'>
      <driver iommufd='yes'/>
      <source><address domain='0x${address.slice(0, 4)}' bus='0x${address.slice(5, 7)}' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>
    </hostdev>
    <!-- the GPU's -->`,
  );

/** What the mended text has that the text had not, and the other way round, a line each. */
function changed(before: string, after: string): string[] {
  const [old, now] = [before.split("\n"), after.split("\n")];
  return [...old.filter((line) => !now.includes(line)).map((line) => `- ${line.trim()}`), ...now.filter((line) => !old.includes(line)).map((line) => `+ ${line.trim()}`)];
}

/** Elements that are missing, in the way or elsewhere: what the mend changes, of which the check is clean. */
const ELEMENTS: ReadonlyArray<readonly [what: string, text: string, host: string, rule: string, changes: readonly string[]]> = [
  [
    "a function of another SMMU gets an expander, an <iommu> and a port of its own",
    second("0008:02:00.0"),
    "grace",
    "error wrong-smmu: <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/>",
    [
      "- <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>",
      "+ <controller type='pci' index='4' model='pcie-expander-bus'><target busNr='8'/></controller>",
      "+ <iommu model='smmuv3'><driver pciBus='4' accel='on' ats='on' ril='on' ssidsize='16' oas='48'/></iommu>",
      "+ <controller type='pci' index='5' model='pcie-root-port'><address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></controller>",
      "+ <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>",
    ],
  ],
  ["functions without an iommufd get the domain's", XML.replace("  <iommufd enabled='yes'/>\n", "").replace("      <driver iommufd='yes'/>\n", ""), "grace", "error no-iommufd: <hostdev", ["+ <iommufd enabled='yes'/>"]],
  ["an iommufd that is switched off is switched on", XML.replace("enabled='yes'", "enabled='no'").replace("      <driver iommufd='yes'/>\n", ""), "grace", "error no-iommufd: <hostdev", ["- <iommufd enabled='no'/>", "+ <iommufd enabled='yes'/>"]],
  [
    "an emulated function behind an accelerated SMMU gets a port elsewhere",
    XML.replace("    <hostdev", "    <controller type='pci' index='3' model='pcie-root-port'>\n      <address type='pci' bus='0x01' slot='0x01'/>\n    </controller>\n    <interface type='user'>\n      <model type='virtio'/>\n      <address type='pci' bus='0x03' slot='0x00'/>\n    </interface>\n    <hostdev"),
    "grace",
    "error emulated-behind-accel: <address type='pci' bus='0x03' slot='0x00'/>",
    ["- <address type='pci' bus='0x03' slot='0x00'/>", "+ <controller type='pci' index='4' model='pcie-root-port'/>", "+ <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>"],
  ],
  ["a domain without ACPI gets it", XML.replace("<acpi/>", ""), "grace", "error acpi-off: <type", ["- <features><gic version='3'/></features>", "+ <features><acpi/><gic version='3'/></features>"]],
  ["a domain without features gets them", XML.replace("  <features><acpi/><gic version='3'/></features>\n", ""), "grace", "error acpi-off: <type", ["+ <features><acpi/></features>"]],
  ["two expanders with one number get two", XML.replace("    <!-- the", "    <controller type='pci' index='3' model='pcie-expander-bus'><target busNr='252'/></controller>\n    <!-- the"), "grace", "error bus-number-collision: busNr='252'", ["- <controller type='pci' index='3' model='pcie-expander-bus'><target busNr='252'/></controller>", "+ <controller type='pci' index='3' model='pcie-expander-bus'><target busNr='8'/></controller>"]],
  [
    "an expander's node is the function's",
    XML.replace("<vcpu>4</vcpu>", "<vcpu>4</vcpu>\n  <numatune><memnode cellid='0' mode='strict' nodeset='1'/><memnode cellid='1' mode='strict' nodeset='0'/></numatune>\n  <cpu mode='host-passthrough'><numa><cell id='0' cpus='0-1' memory='2' unit='GiB'/><cell id='1' cpus='2-3' memory='2' unit='GiB'/></numa></cpu>").replace("<target busNr='252'/>", "<target busNr='252'><node>0</node></target>"),
    "grace",
    "warning numa-mismatch: <node>0</node>",
    ["- <controller type='pci' index='1' model='pcie-expander-bus'><target busNr='252'><node>0</node></target></controller>", "+ <controller type='pci' index='1' model='pcie-expander-bus'><target busNr='252'><node>1</node></target></controller>"],
  ],
];

describe("elements of a domain XML", () => {
  it.each(ELEMENTS)("%s", (_what, text, host, rule, changes) => {
    const report = checkLine(text, host);
    expect(told(report).filter((line) => !line.startsWith("note "))).toContain(rule);
    expect(changed(text, report.fixed)).toEqual(changes);
    expect(wrong(report.fixed, host)).toEqual([]);
    expect(report.fixed).toContain("<!-- the GPU's -->");
  });

  it("gives a large BAR a window: <pcihole64>", () => {
    const host = structuredClone(hostInput("grace"));
    host.functions.find(({ address }) => address === "0009:01:00.0")!.bars[1].size = "1024G";
    const report = checkLine(XML, host);
    expect(changed(XML, report.fixed)).toEqual(["- <controller type='pci' index='0' model='pcie-root'/>", "+ <controller type='pci' index='0' model='pcie-root'><pcihole64 unit='KiB'>2147483648</pcihole64></controller>"]);
    expect(told(checkLine(report.fixed, host)).filter((line) => !line.startsWith("note "))).toEqual([]);
  });
});
