import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { splitWords } from "../../src/machine/arguments/argument-file.js";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { deviceModels, parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { Log, Refusal } from "../../src/support/index.js";
import { hostInput } from "./build.js";
import { words } from "./refused.js";

const seed = 20251;
const nightly = process.env.VIOMMU_FUZZ === "nightly" ? 20 : 1;

/** Runs `body`; a Refusal is an answer, anything else that is thrown is not. */
function answered<T>(body: () => T): T | null {
  try {
    return body();
  } catch (error) {
    if (error instanceof Refusal) {
      expect(error.words).not.toMatch(/undefined|NaN|\[object/);
      expect(error.message).not.toMatch(/undefined|NaN|\[object/);
      return null;
    }
    throw error;
  }
}

const names = ["pcie.0", "p1", "p2", "r1", "r2", "up", "d1", "b1", "x", ""];
const hosts = ["0009:01:00.0", "0009:02:00.0", "0008:01:00.0", "0006:01:00.0", "0:1:2.3", "nope"];
const values = ["on", "off", "auto", "0", "1", "16", "48", "44", "-1", "0x10", "1.1", "1f.7", "99", "", "nested", "2", ...names, ...hosts];

/** A -device that is mostly sensible. */
const device = fc
  .record({
    model: fc.constantFrom(...deviceModels.keys(), "virtio-scsi-pci", "nope"),
    id: fc.option(fc.constantFrom("p2", "r1", "r2", "up", "d1", "b1", "e1", "e2"), { nil: null }),
    bus: fc.option(fc.oneof({ weight: 3, arbitrary: fc.constantFrom("pcie.0", "p1", "r1") }, { weight: 1, arbitrary: fc.constantFrom(...names) }), { nil: null }),
    extra: fc.option(fc.tuple(fc.nat(40), fc.constantFrom(...values)), { nil: null, freq: 1 }),
    host: fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...hosts.slice(0, 2)) }, { weight: 1, arbitrary: fc.constantFrom(...hosts) }),
    number: fc.integer({ min: 0, max: 60 }),
    accel: fc.boolean(),
  })
  .map(({ model, id, bus, extra, host, number, accel }) => {
    const parts = [model];
    if (id !== null) {
      parts.push(`id=${id}`);
    }
    if (bus !== null) {
      parts.push(`${model === "arm-smmuv3" ? "primary-bus" : "bus"}=${bus}`);
    }
    if (model === "vfio-pci") {
      parts.push(`host=${host}`, "iommufd=i0");
    }
    if (model === "pxb-pcie") {
      parts.push(`bus_nr=${number * 4 + 4}`);
    }
    if (model === "pcie-root-port" || model === "xio3130-downstream") {
      parts.push(`chassis=${number}`);
    }
    if (model === "arm-smmuv3" && accel) {
      parts.push("accel=on,ril=on,ats=off,oas=44,ssidsize=0");
    }
    const properties = [...(deviceModels.get(model)?.properties.keys() ?? ["foo"])];
    if (extra !== null && extra[0] % 3 === 0) {
      const [at, value] = extra;
      parts.push(`${properties[at % properties.length]}=${value}`);
    }
    return `-device ${parts.join(",")}`;
  });

describe("random machines", () => {
  it("are refused or built, started and freed, and nothing else", () => {
    const host = createSimulatedHost(describeHost(hostInput("grace")));
    let built = 0;
    fc.assert(
      fc.property(fc.array(device, { maxLength: 12 }), fc.constantFrom("", ",iommu=smmuv3", ",gic-version=3", ",msi=off"), (devices, option) => {
        // One that is refused hides the others: it is left out.
        let line = `-M virt${option} -m 64M -nodefaults -object iommufd,id=i0 -device pxb-pcie,id=p1,bus_nr=200 -device arm-smmuv3,primary-bus=p1,accel=on,ril=on,ats=off,oas=44,ssidsize=0 -device pcie-root-port,id=r1,bus=p1,chassis=99`;
        if (option === ",iommu=smmuv3") {
          line = line.replace(/-device arm-smmuv3\S*/, "");
        }
        for (const one of devices) {
          const machine = answered(() => new Machine(parseArguments(words(`${line} ${one}`)), host, new Log()));
          if (machine !== null) {
            line = `${line} ${one}`;
            answered(() => machine.start());
            machine.describe();
            machine.reset();
            machine.shutdown();
            built++;
          }
          expect(host.liveObjects()).toEqual([]);
        }
      }),
      { seed, numRuns: 25 * nightly },
    );
    host.close();
    expect(built).toBeGreaterThan(20);
  });
});

describe("random q35 machines", () => {
  it("are refused or built, started and freed, and nothing else", () => {
    const host = createSimulatedHost(describeHost(hostInput("grace")));
    let built = 0;
    const iommu = fc
      .record({ flags: fc.subarray(["scalable-mode=on", "fsts=on", "fs1gp=off", "caching-mode=on", "device-iotlb=on", "dma-translation=off", "snoop-control=on", "svm=on", "x-require-nesting=on", "x-satc=on", "stale-tm=on"]), pasid: fc.constantFrom(0, 0, 8, 20, 21), aw: fc.constantFrom(48, 48, 39, 57), intremap: fc.constantFrom("auto", "on", "off"), eim: fc.constantFrom("auto", "on", "off") })
      .map(({ flags, pasid, aw, intremap, eim }) => `-device ${["intel-iommu", ...flags, `pasid-bits=${pasid}`, `aw-bits=${aw}`, `intremap=${intremap}`, `eim=${eim}`].join(",")}`);
    const machine = fc.constantFrom("", ",sata=off", ",smbus=off", ",default-bus-bypass-iommu=on", ",max-ram-below-4g=32M", ",kernel-irqchip=split", ",accel=kvm", ",acpi=off");
    fc.assert(
      fc.property(fc.option(iommu, { nil: "" }), fc.array(device, { maxLength: 8 }), machine, (first, devices, option) => {
        let line = `-M q35${option} -m 64M -nodefaults -object iommufd,id=i0 -device pxb-pcie,id=p1,bus_nr=200 -device pcie-root-port,id=r1,bus=p1,chassis=99`;
        for (const one of [first, ...devices]) {
          const made = answered(() => new Machine(parseArguments(words(`${line} ${one}`)), host, new Log()));
          if (made !== null) {
            line = `${line} ${one}`;
            answered(() => made.start());
            made.describe();
            made.reset();
            expect(made.board.buildTables().deviceTree).toBeNull();
            made.shutdown();
            built++;
          }
          expect(host.liveObjects()).toEqual([]);
        }
      }),
      { seed, numRuns: 25 * nightly },
    );
    host.close();
    expect(built).toBeGreaterThan(20);
  });
});

describe("random words", () => {
  const word = fc.oneof(
    fc.constantFrom("-M", "-machine", "-device", "-object", "-m", "-smp", "-numa", "-accel", "-cpu", "-global", "-trace", "-drive", "-nic", "-net", "-name", "-uuid", "-S", "-nodefaults", "--", "-", "help", "virt", "virt,iommu=smmuv3", "node,memdev=m", "iommufd,id=i", "a=b,c=d", "a,,b=,", "{", '{"driver":"edu","id":[1]}', '{"driver":{"a":1}}', '{"qom-type":5}', "[]", "{}", "null", "1e400", "-0", "0x", "9".repeat(400)),
    fc.string({ maxLength: 12 }),
    fc.tuple(fc.constantFrom(...deviceModels.keys()), fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 })).map(([model, name, value]) => `${model},${name}=${value}`),
    fc.tuple(fc.constantFrom("driver", "qom-type", "id", "size", "addr", "accel", "host"), fc.jsonValue()).map(([name, value]) => JSON.stringify({ driver: "vfio-pci", "qom-type": "memory-backend-ram", id: "x", [name]: value })),
  );

  it("are a machine or refused", () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (some) => {
        answered(() => parseArguments(some));
        answered(() => parseArguments(["-M", "virt", ...some]));
        answered(() => parseArguments(["-M", "q35", ...some]));
      }),
      { seed, numRuns: nightly === 1 ? 600 : 40_000 },
    );
  });

  it("come back from a file as they were, quoted", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 }).filter((text) => !text.includes("'")), { maxLength: 6 }), (some) => {
        expect(splitWords(some.map((text) => `'${text}'`).join(" \\\n"))).toEqual(some);
        answered(() => splitWords(some.join(" ")));
      }),
      { seed, numRuns: 500 * nightly },
    );
  });
});
