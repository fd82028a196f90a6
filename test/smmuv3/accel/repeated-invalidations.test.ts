import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type HostDescription, loadHostDescription } from "../../../src/host/simulated/index.js";
import type { InvalidateRequest, Iommufd } from "../../../src/iommufd/index.js";
import { DELIVERED, REFUSED, UNDELIVERED } from "../../../src/nesting/index.js";
import { findGuest, runMachine } from "../../../src/run/index.js";
import { CommandBatch } from "../../../src/smmuv3/accel/batch.js";
import { OP } from "../../../src/smmuv3/spec/index.js";
import { packageFolder } from "../../../src/support/index.js";

const MACHINE = `-machine virt,gic-version=3 -m 512M -object iommufd,id=i -device pxb-pcie,id=pcie.1,bus_nr=8
  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1
  -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp1,iommufd=i`;

function grace(errata: readonly string[]): HostDescription {
  const host = JSON.parse(readFileSync(`${packageFolder()}/hosts/grace.json`, "utf8")) as { smmus: Array<{ errata?: readonly string[] }> };
  host.smmus.forEach((smmu) => (smmu.errata = errata));
  return loadHostDescription(JSON.stringify(host), "grace");
}

/** Commands of each call, and what the calls answer. */
function recording(answers: Array<{ errno: "EIO" | "ENOMEM" | null; handled: number }> = []): { iommufd: Iommufd; calls: number[][] } {
  const calls: number[][] = [];
  const hwptInvalidate = ({ data, entryCount }: InvalidateRequest): unknown => {
    calls.push(Array.from({ length: entryCount }, (_unused, n) => data[16 * n]));
    return answers.shift() ?? { errno: null, handled: entryCount };
  };
  return { iommufd: { hwptInvalidate } as unknown as Iommufd, calls };
}

function batchOf(...opcodes: number[]): CommandBatch {
  const batch = new CommandBatch("smmu1");
  batch.repeats = true;
  opcodes.forEach((opcode) => batch.add(opcode, 0, 0, 0));
  return batch;
}

const { TLBI_NH_VA, TLBI_NH_ASID, CFGI_CD, ATC_INV } = OP;

describe("an SMMU with erratum T264-SMMU-3", () => {
  it("has TLBI and CFGI issued twice, each time to the end, and ATC_INV once, in the guest's order", () => {
    const { iommufd, calls } = recording();
    const batch = batchOf(TLBI_NH_VA, CFGI_CD, ATC_INV, ATC_INV, TLBI_NH_ASID);
    expect(batch.deliver(iommufd, 1)).toBe(DELIVERED);
    expect(calls).toEqual([[TLBI_NH_VA, CFGI_CD], [TLBI_NH_VA, CFGI_CD], [ATC_INV, ATC_INV], [TLBI_NH_ASID], [TLBI_NH_ASID]]);
    expect([batch.done, batch.calls]).toEqual([5, 5]);
  });

  it("has nothing counted as done of which the second time fails", () => {
    const failing = [{ errno: null, handled: 1 }, ...Array.from({ length: 3 }, () => ({ errno: "ENOMEM" as const, handled: 0 }))];
    expect(batchOf(TLBI_NH_VA, ATC_INV).deliver(recording(failing).iommufd, 1)).toBe(UNDELIVERED);
  });

  it("has what stands before a refused command repeated too", () => {
    const { iommufd, calls } = recording([{ errno: "EIO", handled: 1 }]);
    const batch = batchOf(TLBI_NH_VA, CFGI_CD);
    expect(batch.deliver(iommufd, 1)).toBe(REFUSED);
    expect(batch.refused).toBe(1);
    expect(calls).toEqual([[TLBI_NH_VA, CFGI_CD], [TLBI_NH_VA], [TLBI_NH_VA]]);
  });

  it("serves a guest whose unmapped pages fault, as an SMMU without it", async () => {
    const guest = await findGuest("linux");
    const run = (host: HostDescription): ReturnType<typeof runMachine> => runMachine({ arguments: MACHINE.trim().split(/\s+/), host, guest });
    const [plain, erratic] = [await run(grace([])), await run(grace(["nvidia-t264-smmu-3"]))];
    expect([plain.failure, erratic.failure]).toEqual([null, null]);
    expect(erratic.guest?.steps).toEqual(plain.guest?.steps);
    expect(erratic.invalidation.hostCalls).toBeGreaterThan(plain.invalidation.hostCalls);
    expect(erratic.warnings).toEqual(plain.warnings);
  });
});
