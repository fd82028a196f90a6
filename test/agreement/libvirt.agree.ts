/**
 * What libvirt itself makes of the plans' domain XML (virsh domxml-to-native): the same devices in the same places as ours,
 * and a line that the check finds clean. VIOMMU_VIRSH is a virsh of 12.9 or newer with a QEMU 11.1 beside it; its command
 * may have words before it and after it: `chroot DIR virsh -c qemu:///embed?root=/tmp/libvirt`. No daemon is needed.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { check } from "../../src/check/index.js";
import { loadHost, shippedHosts } from "../../src/host/shipped/index.js";
import { splitWords } from "../../src/machine/arguments/index.js";
import { recognise } from "../../src/machine/input/index.js";
import { functionsOf, HostFacts, type MachinePlan, planMachine, writePlan } from "../../src/plan/index.js";

const GIB = 2 ** 30;
const OPTIONS = { qemu: "11.1", libvirt: "12.9" } as const;
const command = (process.env.VIOMMU_VIRSH ?? "virsh -c qemu:///embed?root=/tmp/viommu-libvirt").split(" ");

/** Why there is nothing to ask; null: there is. */
function missing(): string | null {
  const { status, stdout } = spawnSync(command[0], [...command.slice(1), "--version"], { encoding: "utf8" });
  const [major = 0, minor = 0] = (status === 0 ? stdout : "").trim().split(".").map(Number);
  return status !== 0 ? "VIOMMU_VIRSH names no virsh, and none is on PATH" : major > 12 || (major === 12 && minor >= 9) ? null : `virsh is of libvirt ${stdout.trim()}, and accelerated SMMUs with all their properties are of 12.9`;
}

/** As libvirt converts it on a machine that is none of the plan's: no KVM, one NUMA node, firmware that it does not look for. */
function elsewhere(xml: string): string {
  return xml
    .replace('<domain type="kvm"', '<domain type="qemu"')
    .replace(/<cpu mode="host-passthrough"(\/?)>/, (_all, empty: string) => `<cpu mode="custom"><model>${xml.includes("aarch64") ? "max" : "qemu64"}</model>${empty === "" ? "" : "</cpu>"}`)
    .replace(/nodeset="\d+"\/>(?=\s*(?:<memnode|<\/numatune))/g, 'nodeset="0"/>')
    .replace('<os firmware="efi">', '<os><loader type="pflash" readonly="yes">/firmware.fd</loader>');
}

/** Devices with their properties, but for what libvirt opens itself. */
function devicesOf(words: readonly string[]): string[] {
  return words.flatMap((word, at) => {
    if (words[at - 1] !== "-device") {
      return [];
    }
    const properties = Object.entries(JSON.parse(word) as Record<string, unknown>).filter(([property]) => property !== "host");
    return [JSON.stringify(Object.fromEntries(properties.sort(([one], [other]) => one.localeCompare(other))))];
  });
}

/** The line on the plan's host: with KVM, its nodes, and the functions that libvirt would have opened. */
function atHome(words: readonly string[], plan: MachinePlan): string[] {
  const hosts = functionsOf(plan).map(({ host }) => host);
  return words.map((word, at) => {
    if (words[at - 1] === "-device" && (JSON.parse(word) as { driver: string }).driver === "vfio-pci") {
      return JSON.stringify({ ...(JSON.parse(word) as object), host: hosts.shift() });
    }
    const cell = words[at - 1] === "-object" ? plan.cells.find(({ id }) => word.includes(`"id":"ram-node${id}"`)) : undefined;
    if (cell !== undefined) {
      return word.replace(/"host-nodes":\[0\]/, `"host-nodes":[${cell.hostNode}]`);
    }
    return words[at - 1] === "-accel" ? "kvm" : words[at - 1] === "-cpu" ? "host" : word;
  });
}

describe("plans as libvirt converts them", () => {
  const reason = missing();
  if (reason !== null) {
    it.skip(`are as planned: ${reason}`, () => {});
    return;
  }
  for (const name of shippedHosts()) {
    for (const spare of [0, 1]) {
      it(`all of ${name} with ${spare} spare ports`, async () => {
        const described = await loadHost(name);
        // As the plan says before it starts.
        const host = { ...described, functions: described.functions.map((fn) => ({ ...fn, driver: "vfio-pci" })) };
        const plan = planMachine({ facts: new HostFacts(host), devices: host.functions.map(({ address }) => address), memory: 4 * GIB, cpus: 4, spare });
        const xml = writePlan(plan, "libvirt", { hostName: name, ...OPTIONS });
        const folder = mkdtempSync(join(tmpdir(), "viommu-libvirt-"));
        try {
          const file = join(folder, "domain.xml");
          writeFileSync(file, elsewhere(xml));
          const { status, stdout, stderr } = spawnSync(command[0], [...command.slice(1), "domxml-to-native", "qemu-argv", file], { encoding: "utf8", timeout: 60_000 });
          expect([status, stderr.trim()]).toEqual([0, ""]);
          const words = splitWords(stdout, "libvirt's line");
          expect(devicesOf(words)).toEqual(devicesOf(recognise(xml, "the plan").words.map(({ text }) => text)));
          const line = atHome(words, plan).map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
          expect(check({ text: line, source: "libvirt's line", host }).findings.filter(({ level }) => level !== "note").map(({ rule, words: said }) => `${rule}: ${said}`)).toEqual([]);
        } finally {
          rmSync(folder, { recursive: true });
        }
      });
    }
  }
});
