/**
 * Plans in QEMU's words are taken by a real QEMU, and put things where the plan says. What needs a host of the plan's kind
 * is replaced there: KVM by TCG, acceleration by none, the host's functions by emulated ones, memory's nodes by any.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadHost, shippedHosts } from "../../src/host/shipped/index.js";
import { dropProgram, splitWords } from "../../src/machine/arguments/index.js";
import { HostFacts, LIBVIRT_VERSIONS, type MachinePlan, planMachine, writePlan } from "../../src/plan/index.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { againstQemus } from "./suite.js";

const GIB = 2 ** 30;

async function planOf(name: string, spare: number): Promise<MachinePlan> {
  const host = await loadHost(name);
  return planMachine({ facts: new HostFacts(host), devices: host.functions.map(({ address }) => address), memory: 4 * GIB, cpus: 4, spare });
}

const commandOf = (plan: MachinePlan, name: string): string[] => dropProgram(splitWords(writePlan(plan, "qemu", { hostName: name, qemu: "11.1", libvirt: "12.9" }), "the plan"));

/** Without firmware: nothing runs. */
function withoutFirmware(words: readonly string[]): string[] {
  const at = words.indexOf("-bios");
  return words.filter((_word, n) => n !== at && n !== at + 1);
}

/** As without a host of the plan's: what is left is read whole by each device before it looks for what it needs. */
function withoutHost(words: readonly string[], plan: MachinePlan): string[] {
  const cpu = plan.board === "virt" ? "max" : "max,phys-bits=48";
  const made = withoutFirmware(words).map((word) => word.replace("accel=kvm", "accel=tcg").replace(/^host$/, cpu).replace(/,host-nodes=\d+,policy=bind/, "").replace(/,iommufd=iommufd0$/, ""));
  const iommufd = made.indexOf("iommufd,id=iommufd0");
  return made.filter((_word, n) => n !== iommufd && n !== iommufd - 1);
}

function replaced(words: readonly string[], plan: MachinePlan): string[] {
  return withoutHost(words, plan).map((word) => word.replace(/,accel=on,.*$/, "").replace(/^vfio-pci,host=[0-9a-f:.]+/, "virtio-rng-pci"));
}

interface QmpDevice {
  readonly qdev_id: string;
  readonly slot: number;
  readonly function: number;
}
interface QmpBus {
  readonly bus: number;
  readonly devices: readonly QmpDevice[];
}

/** Starts it, stopped, and asks for its PCI buses. */
function ask(program: QemuProgram, words: readonly string[]): { status: number | null; stderr: string; buses: QmpBus[]; nodes: string } {
  const commands = [{ execute: "qmp_capabilities" }, { execute: "query-pci" }, { execute: "human-monitor-command", arguments: { "command-line": "info numa" } }, { execute: "quit" }];
  const input = commands.map((one) => JSON.stringify(one)).join("\n");
  const { status, stderr, stdout } = spawnSync(program.command[0], [...program.command.slice(1), ...words, "-S", "-qmp", "stdio"], { input, encoding: "utf8", timeout: 120_000 });
  const answers = stdout.split("\n").flatMap((line) => (line.startsWith('{"return"') ? [(JSON.parse(line) as { return: unknown }).return] : []));
  return { status, stderr, buses: (answers[1] ?? []) as QmpBus[], nodes: String(answers[2] ?? "") };
}

for (const architecture of ["aarch64", "x86_64"] as const) {
  againstQemus(architecture, "plans", (program) => (atLeast(program.version, 11, 1) ? null : "plans are for 11.1"), (program) => {
    const board = architecture === "aarch64" ? "virt" : "q35";
    for (const name of shippedHosts()) {
      it(`of all of ${name} are taken, and all is where they say`, async () => {
        const plan = await planOf(name, 1);
        if (plan.board !== board) {
          return;
        }
        const { status, stderr, buses, nodes } = ask(program, replaced(commandOf(plan, name), plan));
        expect(stderr.split("\n").filter((line) => line !== "" && !/only supported with pcie\.0 for DT|locale/.test(line))).toEqual([]);
        expect(status).toBe(0);
        for (const { busNumber, ports } of plan.expanders) {
          const bus = buses.find((one) => one.bus === busNumber);
          expect(bus?.devices.map(({ qdev_id, slot, function: number }) => [qdev_id, slot, number])).toEqual(ports.map(({ id, slot, number }) => [id, slot, number]));
        }
        expect(nodes.startsWith(`${plan.cells.length} nodes`)).toBe(true);
      });

      it(`of ${name}: every property is QEMU's, up to what needs the host`, async () => {
        const plan = await planOf(name, 0);
        if (plan.board !== board) {
          return;
        }
        const { status, stderr } = ask(program, withoutHost(commandOf(plan, name), plan));
        expect(status).toBe(1);
        expect(stderr).toContain(board === "virt" ? "SMMUv3 accel=on requires KVM with kernel-irqchip=on support" : `${plan.expanders[0].ports[0].functions[0].host}: no such host device`);
      });
    }
  });
}

/** Where libvirt-common keeps its schemas, or an unpacked package does. */
const SCHEMA = join(process.env.VIOMMU_LIBVIRT_SCHEMAS ?? "/usr/share/libvirt/schemas", "domain.rng");
const hasLint = spawnSync("xmllint", ["--version"]).status === 0;
/** Those of before 12.7 have no accelerated SMMU. */
const missing = !hasLint ? "xmllint is not on PATH" : !existsSync(SCHEMA) ? `${SCHEMA} is not there (VIOMMU_LIBVIRT_SCHEMAS names its folder)` : null;

describe("plans as domain XML", () => {
  if (missing !== null) {
    it.skip(`pass libvirt's schema: ${missing}`, () => {});
    return;
  }
  it.each(shippedHosts().flatMap((name) => LIBVIRT_VERSIONS.map((libvirt) => [name, libvirt] as const)))("of all of %s for libvirt %s pass libvirt's schema", async (name, libvirt) => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-plan-"));
    try {
      const file = join(folder, "domain.xml");
      writeFileSync(file, writePlan(await planOf(name, 1), "libvirt", { hostName: name, qemu: "11.1", libvirt }));
      const { status, stderr } = spawnSync("xmllint", ["--noout", "--relaxng", SCHEMA, file], { encoding: "utf8" });
      expect(stderr.trim()).toBe(`${file} validates`);
      expect(status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
