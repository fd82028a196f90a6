import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseDmar } from "../../src/guest/index.js";

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** DMAR of QEMU 11.1.3, -machine q35 -m 512 -nodefaults -device intel-iommu,scalable-mode=on,fsts=on, before enumeration. */
const QEMU = new Uint8Array(readFileSync(new URL("data/q35-intel-iommu.DMAR.aml", import.meta.url)));

/** Structures behind a header (Intel VT-d 5.x, 8.1), bytes written out by hand. */
function table(...structures: number[][]): DataView {
  const bytes = Uint8Array.from([...new Array<number>(36).fill(0), 45, 3, ...new Array<number>(10).fill(0), ...structures.flat()]);
  return view(bytes);
}

const qword = (value: bigint): number[] => Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));

describe("DMAR", () => {
  it("of QEMU has one unit with a scope for the IOAPIC and for each function of bus 0", () => {
    const dmar = parseDmar(view(QEMU));
    expect(dmar).toMatchObject({ addressWidth: 48, interruptRemapping: true, x2apicOptOut: false, reserved: [], ats: [] });
    expect(dmar.units).toEqual([
      {
        name: "vtd@fed90000",
        base: 0xfed9_0000,
        segment: 0,
        includeAll: false,
        proximity: null,
        scopes: [
          { type: 3, enumerationId: 0, bus: 0xff, path: [{ device: 0, fn: 0 }] },
          { type: 1, enumerationId: 0, bus: 0, path: [{ device: 0, fn: 0 }] },
          { type: 1, enumerationId: 0, bus: 0, path: [{ device: 0x1f, fn: 0 }] },
          { type: 1, enumerationId: 0, bus: 0, path: [{ device: 0x1f, fn: 2 }] },
          { type: 1, enumerationId: 0, bus: 0, path: [{ device: 0x1f, fn: 3 }] },
        ],
      },
    ]);
  });

  it("tells reserved memory, ATS, and which memory is near", () => {
    const dmar = parseDmar(
      table(
        [0, 0, 16, 0, 1, 0, 2, 0, ...qword(0xd000_0000n)],
        // Below the bridge 00:1c.4 the function 00.1.
        [1, 0, 34, 0, 0, 0, 2, 0, ...qword(0x7b80_0000n), ...qword(0x7fff_ffffn), 1, 10, 0, 0, 0, 0, 0x1c, 4, 0, 1],
        [2, 0, 16, 0, 0, 0, 2, 0, 2, 8, 0, 0, 0, 0, 0x1c, 0],
        [2, 0, 8, 0, 1, 0, 3, 0],
        [3, 0, 20, 0, 0, 0, 0, 0, ...qword(0xd000_0000n), 1, 0, 0, 0],
        [5, 0, 16, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0x6a, 1, 0],
        // A type of later revisions.
        [0x77, 0, 6, 0, 1, 2],
      ),
    );
    expect(dmar).toMatchObject({ addressWidth: 46, interruptRemapping: true, x2apicOptOut: true });
    expect(dmar.units).toEqual([{ name: "vtd@d0000000", base: 0xd000_0000, segment: 2, includeAll: true, scopes: [], proximity: 1 }]);
    expect(dmar.reserved).toEqual([
      { base: 0x7b80_0000, size: 0x480_0000, segment: 2, scopes: [{ type: 1, enumerationId: 0, bus: 0, path: [{ device: 0x1c, fn: 4 }, { device: 0, fn: 1 }] }] },
    ]);
    expect(dmar.ats).toEqual([
      { kind: "root-ports", segment: 2, flag: false, scopes: [{ type: 2, enumerationId: 0, bus: 0, path: [{ device: 0x1c, fn: 0 }] }] },
      { kind: "root-ports", segment: 3, flag: true, scopes: [] },
      { kind: "integrated", segment: 0, flag: true, scopes: [{ type: 1, enumerationId: 0, bus: 0x6a, path: [{ device: 1, fn: 0 }] }] },
    ]);
  });

  it.each([
    ["a structure beyond the end", table([0, 0, 64, 0, 0, 0, 0, 0]), "the structure at 48 does not hold what it claims"],
    ["a structure of no length", table([0, 0, 0, 0]), "the structure at 48 does not hold"],
    ["a unit without a base", table([0, 0, 8, 0, 0, 0, 0, 0]), "the structure at 48 does not hold"],
    ["a scope beyond its structure", table([2, 0, 10, 0, 0, 0, 0, 0, 1, 8]), "the device scope at 8 of the structure at 48"],
    ["a scope without a path", table([2, 0, 14, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0]), "the device scope at 8"],
  ])("with %s is refused", (_what, data, message) => {
    expect(() => parseDmar(data)).toThrow(message);
  });
});
