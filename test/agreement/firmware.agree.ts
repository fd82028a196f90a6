import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { loadHostDescription } from "../../src/host/simulated/index.js";
import { firmwareTables } from "../../src/run/index.js";
import type { Random } from "../fuzz/random.js";
import { Agreement, type Observation, printDifferences, type Rule } from "./agreement.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { acpiTable, anonymousTable, describeTree, deviceTree } from "./firmware-tables.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";

const HOST = loadHostDescription(readFileSync(new URL("../../hosts/board.json", import.meta.url), "utf8"), "board.json");

/** Buses, SMMUs and functions at random, as arguments that both take. */
function topology(random: Random, program: QemuProgram): string[] {
  const own = atLeast(program.version, 11, 0);
  const machine = [own ? "virt" : `virt-${program.version.join(".")}`, `gic-version=${random.pick(["2", "3", "3", "3"])}`];
  // Older ones have GICv3 with an ITS alone: ports are refused without its MSIs.
  if (random.oneIn(5) && own) {
    machine.push("its=off");
  }
  const legacy = random.oneIn(own ? 4 : 1);
  if (legacy) {
    machine.push("iommu=smmuv3");
  }
  const args = ["-machine", "", "-cpu", random.pick(["cortex-a57", "max"]), "-m", random.pick(["256", "512", "1G", "3G"])];
  const buses = ["pcie.0"];
  let number = 0;
  for (let n = random.below(5); n > 0 && number < 200; n--) {
    number += 8 + random.below(48);
    const bypass = legacy && random.oneIn(3) ? ",bypass_iommu=on" : "";
    args.push("-device", `pxb-pcie,id=pxb${number},bus=pcie.0,bus_nr=${number}${bypass}`);
    buses.push(`pxb${number}`);
  }
  if (legacy && random.oneIn(4)) {
    machine.push("default-bus-bypass-iommu=on");
  }
  for (const bus of buses) {
    if (!legacy && own && random.oneIn(2)) {
      args.push("-device", `arm-smmuv3,primary-bus=${bus},id=smmu-${bus}${random.pick([",stage=1", ",stage=2", ",stage=nested", ""])}`);
    }
    for (let ports = random.below(3); ports > 0; ports--) {
      args.push("-device", `pcie-root-port,id=rp-${bus}-${ports},bus=${bus},chassis=${buses.indexOf(bus) * 4 + ports}`);
    }
  }
  if (random.oneIn(2)) {
    args.push("-device", "edu,bus=pcie.0");
  }
  args[1] = machine.join(",");
  return args;
}

/** The root complex's ID mappings, which have no order (IORT, Arm DEN 0049: nodes' ID mappings), sorted. */
function withSortedMappings(iort: string): string {
  const table = Buffer.from(iort, "hex");
  for (let node = table.readUInt32LE(40), left = table.readUInt32LE(36); left > 0; left--, node += table.readUInt16LE(node + 1)) {
    const first = node + table.readUInt32LE(node + 12);
    const mappings = Array.from({ length: table.readUInt32LE(node + 8) }, (_unused, n) => Buffer.from(table.subarray(first + 20 * n, first + 20 * (n + 1))));
    mappings.sort((a, b) => Buffer.compare(a, b)).forEach((mapping, n) => mapping.copy(table, first + 20 * n));
  }
  return table.toString("hex");
}

const rules: ReadonlyArray<Rule<{ readonly arguments: readonly string[] }>> = [
  {
    // SMMUs of expander buses in the device tree.
    id: "F-1",
    explains: ({ key, theirs }, { arguments: words }) => words.some((word) => word.startsWith("arm-smmuv3,primary-bus=pxb")) && /^\/smmuv3@/.test(key) && theirs === "",
  },
  {
    // Every bus behind the SMMU of pcie.0, expanders that it does not cover as well; or none, where pcie.0 has none.
    id: "F-2",
    explains: ({ key, theirs }, { arguments: words }) =>
      key === "/pcie@10000000 iommu-map" && words.some((word) => word.startsWith("pxb-pcie")) && (theirs === "" || /^0 \/smmuv3@[0-9a-f]+ 0 10000$/.test(theirs)),
  },
  {
    // The order of ranges that begin at the same requester id, as those of buses that nobody has numbered do.
    id: "F-5",
    explains: ({ key, ours, theirs }) => key === "IORT" && withSortedMappings(ours) === withSortedMappings(theirs),
  },
];

againstQemus("aarch64", "firmware tables", () => null, (program) => {
  const { seed, first, count } = caseRange(6, 60);
  it(`IORT and device tree of ${count} random machines from ${seed}:${first}`, async () => {
    const agreement = new Agreement(rules, program.version);
    const failures: string[] = [];
    for (let index = first; index < first + count; index++) {
      const request = { arguments: topology(randomOf(seed, index), program) };
      await withBoth(program, request, async (ours, theirs) => {
        const iort = (await firmwareTables(parseArguments(request.arguments), HOST)).get("IORT.aml") ?? new Uint8Array();
        const left: Observation = describeTree(await deviceTree(ours));
        const right: Observation = describeTree(await deviceTree(theirs));
        // F-3: an older one's IORT has another revision and always an ITS.
        if (atLeast(program.version, 11, 0)) {
          left.IORT = anonymousTable(iort);
          right.IORT = anonymousTable(await acpiTable(theirs, "IORT"));
        }
        const differences = agreement.compare(left, right, request);
        if (differences.length > 0) {
          failures.push(`VIOMMU_CASE=${seed}:${index} (${program.name}): ${request.arguments.join(" ")}\n${printDifferences(differences)}`);
        }
      });
    }
    console.log(`${program.name}: firmware tables: ${agreement.summary()}`);
    expect(failures.join("\n\n")).toBe("");
  });
});
