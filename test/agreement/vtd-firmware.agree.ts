/** DMAR, byte for byte, with what else of the tables tells of buses, interrupts and configuration space. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { loadHostDescription } from "../../src/host/simulated/index.js";
import { firmwareTables } from "../../src/run/index.js";
import type { Random } from "../fuzz/random.js";
import { Agreement, type Observation, printDifferences, type Rule } from "./agreement.js";
import type { QemuProgram } from "./find-qemu.js";
import { acpiTable, anonymousTable, q35FwCfg } from "./firmware-tables.js";
import { Qemu } from "./qemu-driver.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { isNew } from "./vtd/machines.js";
import { isOld } from "./vtd/register-differences.js";

const HOST = loadHostDescription(readFileSync(new URL("../../hosts/board.json", import.meta.url), "utf8"), "board.json");
const SIGNATURES = ["DMAR", "APIC", "MCFG"];

/** Functions, buses and properties at random, as arguments that both take. */
function topology(random: Random, program: QemuProgram): string[] {
  const recent = isNew(program);
  const machine = ["q35"];
  for (const [name, often] of [["sata=off", 4], ["smbus=off", 4], ["default-bus-bypass-iommu=on", 5]] as const) {
    if (random.oneIn(often)) {
      machine.push(name);
    }
  }
  const unit = ["intel-iommu", `aw-bits=${random.pick([39, 48])}`];
  const scalable = random.oneIn(2);
  if (scalable) {
    unit.push(recent ? "scalable-mode=on" : "x-scalable-mode=on");
    if (recent && unit[1] === "aw-bits=48" && random.oneIn(2)) {
      unit.push("fsts=on");
    }
  }
  for (const name of ["device-iotlb=on", "caching-mode=on", "intremap=off", "dma-translation=off", "snoop-control=on"]) {
    if (random.oneIn(3)) {
      unit.push(name);
    }
  }
  const args = ["-machine", machine.join(","), "-m", "256", "-smp", String(random.pick([1, 1, 2, 4])), "-device", unit.join(",")];
  const slots = Array.from({ length: 28 }, (_unused, n) => n + 1);
  const takeSlot = (): string => `0x${slots.splice(random.below(slots.length), 1)[0].toString(16)}`;
  const hosts = random.below(4);
  for (let n = 0; n < hosts; n++) {
    args.push("-device", `pxb-pcie,id=pxb${n},bus=pcie.0,addr=${takeSlot()},bus_nr=${0x40 + 0x20 * n}${random.oneIn(2) ? ",bypass_iommu=on" : ""}`);
    if (!random.oneIn(3)) {
      args.push("-device", `pcie-root-port,id=below${n},bus=pxb${n},chassis=${8 + n},addr=0x${random.below(32).toString(16)}`);
    }
  }
  for (let n = random.below(4); n > 0; n--) {
    args.push("-device", `edu,bus=pcie.0,addr=${takeSlot()}`);
  }
  for (let n = random.below(3); n > 0; n--) {
    args.push("-device", `pcie-root-port,id=rp${n},bus=pcie.0,chassis=${n},addr=${takeSlot()}`);
  }
  return args;
}

/** DMAR's header, and of a unit's structure what stands before its scopes, in bytes. */
const [DMAR_HEADER, UNIT_HEADER] = [48, 16];

/** The scopes of the unit by ascending bus number: the order of expanders' buses has no meaning (F-7). */
function scopesByBus(dmar: Buffer): Buffer {
  const end = DMAR_HEADER + dmar.readUInt16LE(DMAR_HEADER + 2);
  const scopes: Buffer[] = [];
  for (let at = DMAR_HEADER + UNIT_HEADER; at < end; at += dmar[at + 1]) {
    scopes.push(dmar.subarray(at, at + dmar[at + 1]));
  }
  const [ioapic, ...functions] = scopes;
  functions.sort((a, b) => a[5] - b[5]);
  return Buffer.concat([dmar.subarray(0, DMAR_HEADER + UNIT_HEADER), ioapic, ...functions, dmar.subarray(end)]);
}

/** Firmware puts configuration space in its place (PCIEXBAR): without, there is no MCFG. */
function placeConfiguration(driver: Qemu): void {
  driver.writePort(0xcf8, 4, 0x8000_0060);
  driver.writePort(0xcfc, 4, 0xb000_0001);
}

/** Of a table as hexadecimal digits: its revision. */
const REVISION = [16, 18] as const;

const rules: ReadonlyArray<Rule<{ readonly arguments: readonly string[] }>> = [
  {
    id: "F-6",
    versions: isOld,
    explains: ({ key, ours, theirs }) => key === "APIC" && ours.slice(0, REVISION[0]) === theirs.slice(0, REVISION[0]) && ours.slice(REVISION[1]) === theirs.slice(REVISION[1]) && theirs.slice(...REVISION) === "01",
  },
];

againstQemus("x86_64", "DMAR", () => null, (program) => {
  const { seed, first, count } = caseRange(12, 200);
  it(`${SIGNATURES.join(" and ")} of ${count} random machines from ${seed}:${first}`, async () => {
    const agreement = new Agreement(rules, program.version);
    const failures: string[] = [];
    for (let index = first; index < first + count && failures.length < 5; index++) {
      const request = { arguments: topology(randomOf(seed, index), program) };
      const ours = await firmwareTables(parseArguments(request.arguments), HOST);
      const theirs = await Qemu.start(program, request);
      try {
        const [left, right]: [Observation, Observation] = [{}, {}];
        placeConfiguration(theirs);
        for (const signature of SIGNATURES) {
          const table = await acpiTable(theirs, signature, q35FwCfg);
          left[signature] = anonymousTable(ours.get(`${signature}.aml`) ?? new Uint8Array(36));
          right[signature] = anonymousTable(signature === "DMAR" ? scopesByBus(table) : table);
        }
        const differences = agreement.compare(left, right, request);
        if (differences.length > 0) {
          failures.push(`VIOMMU_CASE=${seed}:${index} (${program.name}): ${request.arguments.join(" ")}\n${printDifferences(differences)}`);
        }
      } finally {
        theirs.end();
      }
    }
    console.log(`${program.name}: DMAR: ${agreement.summary()}`);
    expect(failures.join("\n\n")).toBe("");
  });
});
