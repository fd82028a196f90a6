import { describe, expect, it } from "vitest";
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
