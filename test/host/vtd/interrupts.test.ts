import { eventOf } from "../host-event.js";
import { describe, expect, test } from "vitest";
import { VfioIrq } from "../../../src/iommufd/index.js";
import { A, B, Engine, errno, GPA, GuestTables, LEGACY, readText, Rig, writeText } from "./rig.js";

describe("messages of functions behind VT-d units", () => {
  test.each([["scalable mode", {}], ["legacy mode", LEGACY]] as const)("go to the interrupt range untranslated, whatever the function is attached to, or nothing (%s)", (_what, unit) => {
    const rig = new Rig(unit);
    const [a, b] = [rig.bind(A), rig.bind(B)];
    const addresses: number[] = [];
    rig.host.hardware.onMsi((_fn, address) => addresses.push(address));
    const seen: string[] = [];
    for (const [name, bound] of [["a", a], ["b", b]] as const) {
      bound.device.setIrqs(VfioIrq.MSIX, 0, [0, 1, 2].map((vector) => eventOf(() => seen.push(`${name}${vector}`))));
    }
    a.device.attach(rig.ioas);
    new Engine(a.device).raise(2);
    new Engine(b.device).raise(1);
    if (unit !== LEGACY) {
      a.device.attach(rig.nested(a.devId, rig.parent(a.devId), new GuestTables(rig.ram)));
      new Engine(a.device).raise(0);
    }
    expect(seen).toEqual(unit === LEGACY ? ["a2", "b1"] : ["a2", "b1", "a0"]);
    for (const address of addresses) {
      // Remappable format with a subhandle (5.1.2.2).
      expect([Math.floor(address / 0x10_0000), address & 0x18]).toEqual([0xfee, 0x18]);
    }
    expect(new Set(addresses).size).toBe(2);
  });

  test("the range is reserved in an IOAS from the first attachment on, and for no longer", () => {
    const rig = new Rig();
    const a = rig.bind();
    const map = (iova: bigint): string =>
      errno(() => rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress }, length: 0x1000n, iova, readable: true, writable: true }));
    a.device.attach(rig.ioas);
    expect([0xfedf_f000n, 0xfee0_0000n, 0xfeef_f000n, 0xfef0_0000n].map(map)).toEqual(["ok", "EINVAL", "EINVAL", "ok"]);
    expect(rig.iommufd.ioasIovaRanges(rig.ioas).ranges).toEqual([
      { start: 0n, last: 0xfedf_ffffn },
      { start: 0xfef0_0000n, last: (1n << 47n) - 1n },
    ]);
    a.device.detach();
    expect(map(0xfee0_0000n)).toBe("ok");
    expect(errno(() => a.device.attach(rig.ioas))).toBe("EADDRINUSE");
    expect(errno(() => rig.parent(a.devId))).toBe("ok");
  });

  test("other writes there raise nothing, and reads are refused", () => {
    const rig = new Rig();
    const a = rig.bind();
    a.device.attach(rig.ioas);
    const addresses: number[] = [];
    rig.host.hardware.onMsi((_fn, address) => addresses.push(address));
    expect(readText(a, 0xfee0_0000, 4)).toBeNull();
    writeText(a, 0xfee0_0000, "12");
    expect(addresses).toEqual([]);
    expect(readText(a, GPA, 1)).not.toBeNull();
  });
});
