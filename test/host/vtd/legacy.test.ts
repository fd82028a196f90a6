import { describe, expect, test } from "vitest";
import { A, B, DATA, errno, GPA, LEGACY, readText, Rig, writeText } from "./rig.js";

describe("a unit of legacy mode", () => {
  test("translates by context entries: two functions on one table, one blocked, another table in one step", () => {
    const rig = new Rig(LEGACY);
    const [a, b] = [rig.bind(A), rig.bind(B)];
    expect(readText(a, GPA + DATA, 3)).toBeNull();
    rig.put(DATA, "old");
    rig.put(DATA + 0x1000, "new");
    a.device.attach(rig.ioas);
    b.device.attach(rig.ioas);
    expect([readText(a, GPA + DATA, 3), readText(b, GPA + DATA, 3, { ats: true })]).toEqual(["old", "old"]);
    expect(rig.host.kernel.vtdAccounts()[0].domainIds).toBe(1);
    const other = rig.iommufd.ioasAlloc();
    rig.iommufd.ioasMap({ ioasId: other, source: { address: rig.ram.hostAddress + DATA + 0x1000 }, length: 0x1000n, iova: BigInt(GPA + DATA), readable: true, writable: false });
    a.device.attach(other);
    expect([readText(a, GPA + DATA, 3), readText(b, GPA + DATA, 3)]).toEqual(["new", "old"]);
    expect(writeText(a, GPA + DATA, "x")).toBe(false);
    a.device.detach();
    expect([readText(a, GPA + DATA, 3), readText(b, GPA + DATA, 3)]).toEqual([null, "old"]);
    expect(errno(() => rig.parent(a.devId))).toBe("EOPNOTSUPP");
    expect(rig.host.kernel.vtdAccounts()[0].commandErrors).toBe(0);
  });

  test("has ATS on while a function is attached, and not else", () => {
    const rig = new Rig(LEGACY);
    const hardware = rig.host.hardware.functions.get(A)!;
    expect(hardware.atsEnabled).toBe(false);
    const a = rig.bind(A);
    a.device.attach(rig.ioas);
    expect(hardware.atsEnabled).toBe(true);
    a.device.reset();
    expect(hardware.atsEnabled).toBe(true);
    a.device.detach();
    expect(hardware.atsEnabled).toBe(false);
  });
});

describe("a unit of scalable mode", () => {
  test("has ATS and PASIDs on from the start, after a reset and after the device is closed", () => {
    const rig = new Rig();
    const hardware = rig.host.hardware.functions.get(A)!;
    const on = (): boolean[] => [hardware.atsEnabled, hardware.pasidEnabled];
    expect(on()).toEqual([true, true]);
    const a = rig.bind(A);
    a.device.attach(rig.ioas);
    a.device.reset();
    expect(on()).toEqual([true, true]);
    a.device.close();
    expect(on()).toEqual([true, true]);
    expect(hardware.cachedTranslations).toBe(0);
  });
});
