import { expect, it } from "vitest";
import type { Random } from "../fuzz/random.js";
import { Agreement, type Observation, printDifferences } from "./agreement.js";
import type { Driver } from "./driver.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { anonymousTable } from "./firmware-tables.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";

/** Where the descriptor and the data of a transfer of fw_cfg are. */
const DESCRIPTOR = 0x10_0000;
const DATA = 0x20_0000;
const FILE_DIRECTORY = 0x19;
const ENTRY_BYTES = 64;

/** An item of fw_cfg by DMA (QEMU docs/specs/fw_cfg.rst): select and read. */
async function item(driver: Driver, key: number, length: number): Promise<Buffer> {
  const descriptor = Buffer.alloc(16);
  descriptor.writeUInt32BE(((key << 16) | 0x0a) >>> 0, 0);
  descriptor.writeUInt32BE(length, 4);
  descriptor.writeBigUInt64BE(BigInt(DATA), 8);
  driver.store(DESCRIPTOR, descriptor);
  driver.writePort(0x514, 4, 0);
  driver.writePort(0x518, 4, 0x0000_1000); // DESCRIPTOR, big-endian
  return Buffer.from(await driver.load(DATA, length));
}

/** Tables by signature, with configuration space where firmware puts it. */
async function tablesOf(driver: Driver): Promise<Map<string, Buffer>> {
  driver.writePort(0xcf8, 4, 0x8000_0060);
  driver.writePort(0xcfc, 4, 0xb000_0001);
  const count = (await item(driver, FILE_DIRECTORY, 4)).readUInt32BE(0);
  const directory = await item(driver, FILE_DIRECTORY, 4 + count * ENTRY_BYTES);
  const out = new Map<string, Buffer>();
  for (let at = 4; at < directory.length; at += ENTRY_BYTES) {
    if (directory.toString("latin1", at + 8, at + ENTRY_BYTES).replace(/\0.*$/s, "") === "etc/acpi/tables") {
      const tables = await item(driver, directory.readUInt16BE(at + 4), directory.readUInt32BE(at));
      for (let table = 0; table + 8 <= tables.length; ) {
        const signature = tables.toString("latin1", table, table + 4);
        const length = tables.readUInt32LE(table + 4);
        const known = length >= 8 && /^[A-Z0-9]{4}$/.test(signature);
        if (known) {
          out.set(signature, tables.subarray(table, table + length));
        }
        table += known ? length : 4;
      }
    }
  }
  return out;
}

/** APIC and MCFG whole; DMAR by its structures, the scopes of its unit by their bus: the order of expanders' buses has no meaning. */
async function observe(driver: Driver): Promise<Observation> {
  const tables = await tablesOf(driver);
  const out: Observation = {};
  for (const signature of ["APIC", "MCFG"]) {
    out[signature] = anonymousTable(tables.get(signature) ?? Buffer.alloc(0));
  }
  const dmar = tables.get("DMAR");
  if (dmar === undefined) {
    return out;
  }
  out["DMAR header"] = `${dmar.subarray(0, 9).toString("hex")} ${dmar.subarray(36, 48).toString("hex")}`;
  for (let at = 48, index = 0; at + 4 <= dmar.length; at += dmar.readUInt16LE(at + 2), index++) {
    const structure = dmar.subarray(at, at + dmar.readUInt16LE(at + 2));
    const fixed = structure.readUInt16LE(0) === 0 ? 16 : structure.length;
    out[`DMAR structure ${index}`] = structure.subarray(0, fixed).toString("hex");
    for (let scope = fixed; scope < structure.length; scope += structure[scope + 1]) {
      const key = `DMAR structure ${index}, scopes of bus ${structure[scope + 5]}`;
      out[key] = `${out[key] ?? ""} ${structure.subarray(scope, scope + structure[scope + 1]).toString("hex")}`;
    }
  }
  return out;
}

/** Functions and expanders at random, as arguments that both take. */
function topology(random: Random, program: QemuProgram): string[] {
  const own = atLeast(program.version, 11, 0);
  const machine = [own ? "q35" : `pc-q35-${program.version.join(".")}`];
  const options = ["sata=off", "smbus=off", "default-bus-bypass-iommu=on", "kernel-irqchip=split"];
  machine.push(...options.filter(() => random.oneIn(5)));
  const args = ["-machine", machine.join(","), "-m", random.pick(["256", "512", "3G", "5G"]), "-smp", random.pick(["1", "2", "5"])];
  const buses = ["pcie.0"];
  let number = 0;
  for (let n = random.below(4); n > 0; n--) {
    number += 8 + random.below(48);
    args.push("-device", `pxb-pcie,id=pxb${number},bus=pcie.0,bus_nr=${number}${random.oneIn(3) ? ",bypass_iommu=on" : ""}`);
    buses.push(`pxb${number}`);
  }
  for (const bus of buses) {
    for (let ports = random.below(3); ports > 0; ports--) {
      args.push("-device", `pcie-root-port,id=rp-${bus}-${ports},bus=${bus},chassis=${buses.indexOf(bus) * 4 + ports}`);
    }
  }
  for (let n = random.below(3); n > 0; n--) {
    args.push("-device", `${random.pick(["edu", "e1000e", "pcie-pci-bridge", "virtio-net-pci"])},bus=pcie.0`);
  }
  if (!random.oneIn(6)) {
    const scalable = random.oneIn(2) && own ? [",scalable-mode=on", random.oneIn(2) ? ",fsts=on" : ",pasid-bits=8"].join("") : "";
    const aw = scalable.includes("fsts") ? "" : random.pick(["", ",aw-bits=39", ",aw-bits=48"]);
    const rest = [",device-iotlb=on", ",intremap=off", ",caching-mode=on", ",dma-translation=off"].filter(() => random.oneIn(4)).join("");
    args.push("-device", `intel-iommu${scalable}${aw}${rest}`);
  }
  return args;
}


againstQemus("x86_64", "q35's firmware tables", (program) => (atLeast(program.version, 11, 0) ? null : "tables are those of QEMU 11.1"), (program) => {
  const { seed, first, count } = caseRange(8, 80);
  it(`DMAR, MADT and MCFG of ${count} random machines from ${seed}:${first}`, async () => {
    const agreement = new Agreement<{ readonly arguments: readonly string[] }>([], program.version);
    const failures: string[] = [];
    for (let index = first; index < first + count; index++) {
      const request = { arguments: topology(randomOf(seed, index), program) };
      await withBoth(program, request, async (ours, theirs) => {
        const differences = agreement.compare(await observe(ours), await observe(theirs), request);
        if (differences.length > 0) {
          failures.push(`VIOMMU_CASE=${seed}:${index} (${program.name}): ${request.arguments.join(" ")}\n${printDifferences(differences)}`);
        }
      });
    }
    console.log(`${program.name}: q35's firmware tables: ${agreement.summary()}`);
    expect(failures.join("\n\n")).toBe("");
  });
});
