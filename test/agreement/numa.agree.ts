/** SRAT, SLIT and HMAT, byte for byte, of machines with NUMA nodes at random. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { loadHostDescription } from "../../src/host/simulated/index.js";
import { firmwareTables } from "../../src/run/index.js";
import type { Random } from "../fuzz/random.js";
import { Agreement, type Observation, printDifferences } from "./agreement.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { acpiTable, anonymousTable, q35FwCfg, virtFwCfg } from "./firmware-tables.js";
import { Qemu } from "./qemu-driver.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";

const HOST = loadHostDescription(readFileSync(new URL("../../hosts/board.json", import.meta.url), "utf8"), "board.json");
const SIGNATURES = ["SRAT", "SLIT", "HMAT"];
const MIB = 2 ** 20;

/** Nodes, processors, distances, generic initiators and what is said of memory, as arguments that both take. */
function machineOf(random: Random, board: "virt" | "q35", recent: boolean): string[] {
  const args: string[] = [];
  const option = (name: string, value: string): void => void args.push(`-${name}`, value);
  const hmat = recent && random.oneIn(2);
  option("machine", `${board}${hmat ? ",hmat=on" : ""}`);
  if (board === "virt") {
    option("cpu", "max");
  }
  const [sockets, cores, threads] = [1 + random.below(4), 1 + random.below(3), 1 + random.below(2)];
  const most = sockets * cores * threads;
  option("smp", random.oneIn(2) ? String(most) : `${random.oneIn(3) ? 1 + random.below(most) : most},maxcpus=${most},sockets=${sockets},cores=${cores},threads=${threads}`);
  const growing = random.oneIn(3);
  const count = random.oneIn(6) ? 0 : 1 + random.below(6);
  const sizes: number[] = [];
  for (let node = 0; node < count; node++) {
    sizes.push(node > 0 && random.oneIn(3) ? 0 : random.pick([64, 128, 512, 1024, 2048]));
  }
  const total = count === 0 ? 256 : sizes.reduce((sum, size) => sum + size, 0);
  option("m", `${total}${growing ? `,maxmem=${total + 1024 * (1 + random.below(4))}M${random.oneIn(2) ? ",slots=2" : ""}` : ""}`);
  sizes.forEach((size, node) => size > 0 && option("object", `memory-backend-ram,id=mem${node},size=${size}M`));
  const own = new Map<number, number[]>();
  if (random.oneIn(2)) {
    for (let cpu = 0; cpu < most; cpu++) {
      const node = random.below(Math.max(count, 1));
      own.set(node, [...(own.get(node) ?? []), cpu]);
    }
  }
  const nodes = Array.from({ length: count }, (_, node) => node);
  const withCpus = nodes.filter((node) => own.has(node));
  const functions = Array.from({ length: random.below(3) }, (_, n) => `fn${n}`);
  functions.forEach((id, n) => option("device", `edu,id=${id},addr=${(n + 8).toString(16)}.0`));
  const initiators = recent && count > 0 && functions.length > 0 ? Array.from({ length: random.below(random.oneIn(3) ? 24 : 4) }, (_, n) => ({ id: random.pick(["gi", "init", "x", "g-"]) + String(n), node: random.pick(nodes) })) : [];
  initiators.forEach(({ id, node }) => option("object", `acpi-generic-initiator,id=${id},pci-dev=${random.pick(functions)},node=${node}`));
  const starts = [...new Set([...withCpus, ...initiators.map(({ node }) => node)])];
  for (const node of nodes) {
    const cpus = (own.get(node) ?? []).map((cpu) => `,cpus=${cpu}`).join("");
    const initiator = hmat && cpus === "" && withCpus.length > 0 && random.oneIn(2) ? `,initiator=${random.pick(withCpus)}` : "";
    option("numa", `node,nodeid=${node}${sizes[node] > 0 ? `,memdev=mem${node}` : ""}${cpus}${initiator}`);
  }
  if (count > 1 && random.oneIn(2)) {
    const both = random.oneIn(3);
    nodes.forEach((from) => nodes.forEach((to) => from !== to && (both || from < to) && option("numa", `dist,src=${from},dst=${to},val=${11 + random.below(200)}`)));
  }
  if (hmat && starts.length > 0) {
    for (const [type, latency] of [["access-latency", true], ["read-latency", true], ["access-bandwidth", false], ["write-bandwidth", false]] as const) {
      for (const from of starts) {
        for (const to of nodes) {
          if (!random.oneIn(4)) {
            const value = latency ? `latency=${random.pick([1, 10, 50, 120, 300, 0])}` : `bandwidth=${random.pick([100, 200, 1024, 4096, 10240, 0]) * MIB}`;
            option("numa", `hmat-lb,initiator=${from},target=${to},hierarchy=${type.startsWith("read") ? "first-level" : "memory"},data-type=${type},${value}`);
          }
        }
      }
    }
  }
  return args;
}

/** @throws the error, where it is none of a table that is not there */
function noTable(error: unknown): string {
  if (error instanceof Error && / has no (?:SRAT|SLIT|HMAT)$/.test(error.message)) {
    return anonymousTable(new Uint8Array(36));
  }
  throw error;
}

for (const [architecture, board, read] of [["aarch64", "virt", virtFwCfg], ["x86_64", "q35", q35FwCfg]] as const) {
  againstQemus(architecture, "NUMA", (program: QemuProgram) => (atLeast(program.version, 8, 0) ? null : "its SRAT of virt has other revisions"), (program) => {
    const { seed, first, count } = caseRange(12, 200);
    it(`${SIGNATURES.join(", ")} of ${count} random machines from ${seed}:${first}`, async () => {
      const agreement = new Agreement([], program.version);
      const failures: string[] = [];
      for (let index = first; index < first + count && failures.length < 5; index++) {
        const request = { arguments: machineOf(randomOf(seed, index), board, atLeast(program.version, 11, 0)) };
        const ours = await firmwareTables(parseArguments(request.arguments), HOST);
        const theirs = await Qemu.start(program, request);
        try {
          const [left, right]: [Observation, Observation] = [{}, {}];
          for (const signature of SIGNATURES) {
            left[signature] = anonymousTable(ours.get(`${signature}.aml`) ?? new Uint8Array(36));
            right[signature] = await acpiTable(theirs, signature, read).then(anonymousTable, noTable);
          }
          const differences = agreement.compare(left, right, request);
          if (differences.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index} (${program.name}): ${request.arguments.join(" ")}\n${printDifferences(differences)}`);
          }
        } finally {
          theirs.end();
        }
      }
      console.log(`${program.name}: NUMA: ${agreement.summary()}`);
      expect(failures.join("\n\n")).toBe("");
    });
  });
}
