/** Lines that users brought, where they are beside the project: what check says of each. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { check } from "../../src/check/index.js";
import { loadHost } from "../../src/host/shipped/index.js";
import { told } from "./line.js";

const folder = fileURLToPath(new URL("../../../shared/cases/users/", import.meta.url));

/** What is more than a note, by file; the host is the case's own or one that comes with the package. */
const CASES: ReadonlyArray<readonly [path: string, host: string | null, wrong: readonly string[]]> = [
  ["A1-slot-conflict/machine.args", "desktop", ['error slot: "addr":"2.0"']],
  ["B01-hisi-rfcv3/machine.args", "host.json", []],
  ["B03-grace-hmat/machine.args", "grace", ["warning ril-unused: ril=off", "warning older-spelling: pasid=on"]],
  ["B04-aw-bits/machine.args", "desktop", ["error host-aw-bits: intel-iommu"]],
  ["B06-q35-hole64/machine.args", "host.json", []],
  ["B07-no-16k-granule/machine.args", "host.json", ["error host-granules: host=0000:7d:02.1"]],
  ["B30-pve-bridge-two-functions/machine.args", "two-socket-spr", []],
  ["C1-caching-mode/machine.args", "desktop", ["error caching-mode: intel-iommu"]],
  ["C2-intremap-without-split/machine.args", "two-socket-spr", ["error intremap-needs-split: kernel_irqchip=on"]],
  ["D1-default-bus-bypass/machine.args", "two-socket-spr", []],
  ["F1-first-stage-canonical/pasid.args", "two-socket-spr", []],
  ["L01-libvirt-smmuv3-pci-bus/machine.args", "grace", []],
  ["L02-libvirt-intel-caching-mode/machine.args", "two-socket-spr", ["error acpi-off: acpi=off"]],
  ["L03-libvirt-intel-eim-288/machine.args", "two-socket-spr", ["error acpi-off: acpi=off"]],
  ["L05-libvirt-iommufd-virt/machine.args", "grace", []],
  ["L06-libvirt-generic-initiator/machine.args", "two-socket-spr", ['warning legacy-container: "driver":"vfio-pci"']],
  ["L07-libvirt-virt-headless/machine.args", "grace", []],
  ["L10-mail-win11-2023/machine.args", "two-socket-spr", []],
  ["L14-kubevirt-rhel/machine.args", "two-socket-spr", []],
  ["L14-kubevirt-rhel/ps.args", "two-socket-spr", []],
  ["L15-rhel-64k-root-ports/machine.args", "two-socket-spr", []],
  ["M1-multifunction-pair/machine.args", "two-socket-spr", []],
  ["P1-pxb-numbers/machine.args", "grace", ["error numa-node-missing: numa_node=2"]],
  ["X1-intel-dsa-options/machine.args", "two-socket-spr", ["warning older-spelling: dma-drain=on", "warning older-spelling: x-scalable-mode=\"modern\""]],
];

describe.skipIf(!existsSync(folder))("check of", () => {
  it.each(CASES)("%s on %s", async (path, host, wrong) => {
    const text = readFileSync(`${folder}${path}`, "utf8");
    const description = host === null ? null : await loadHost(host.endsWith(".json") ? `${folder}${path.split("/")[0]}/${host}` : host);
    const report = check({ text, source: path, host: description });
    expect(told(report).filter((line) => !line.startsWith("note "))).toEqual(wrong);
  });
});
