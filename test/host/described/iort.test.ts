/** The firmware's IORT in what is told of a host (Arm DEN 0049E.e): StreamIDs, CANWBS, ranges that are mapped one to one. */
import { describe, expect, it } from "vitest";
import { describeSnapshot } from "../../../src/host/described/index.js";
import { HostFacts } from "../../../src/plan/index.js";
import { collect, IORT_FILE, Snapshot } from "../../../src/host/sysfs/index.js";
import { captures } from "../captures/index.js";

interface Mapping {
  readonly first: number;
  readonly count: number;
  readonly output: number;
  readonly to: number;
  readonly single?: boolean;
}

const words = (...parts: ReadonlyArray<readonly [value: number | bigint, bytes: number]>): number[] => parts.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, n) => Number((BigInt(value) >> BigInt(8 * n)) & 0xffn)));

/** 3.1: type, length, revision, identifier, mappings; then the node's own, then its mappings. */
function node(type: number, own: number[], mappings: readonly Mapping[], more: number[] = []): number[] {
  const start = 16 + own.length;
  const maps = mappings.flatMap(({ first, count, output, to, single }) => words([first, 4], [count - 1, 4], [output, 4], [to, 4], [single === true ? 1 : 0, 4]));
  return [...words([type, 1], [start + maps.length + more.length, 2], [0, 1], [0, 4], [mappings.length, 4], [start, 4]), ...own, ...maps, ...more];
}

const smmu = (base: number): number[] => node(4, words([base, 8], [1, 4], [0, 4], [0, 8], [0, 4], [0, 4], [0, 4], [0, 4], [0, 4], [0, 4], [0, 4]), []);
const complex = (segment: number, flags: number, mappings: readonly Mapping[]): number[] => node(2, words([1, 4], [0, 1], [0, 2], [flags, 1], [0, 4], [segment, 4], [64, 1], [0, 3]), mappings);
const range = (flags: number, base: number, size: number, mappings: readonly Mapping[]): number[] => node(6, words([flags, 4], [1, 4], [28 + 20 * mappings.length, 4]), mappings, words([base, 8], [size, 8], [0, 4]));

function iort(...nodes: ReadonlyArray<number[]>): Uint8Array {
  const body = nodes.flat();
  return Uint8Array.from([..."IORT"].map((c) => c.charCodeAt(0)).concat(words([48 + body.length, 4], [6, 1], [0, 1], [0, 8], [0, 8], [0, 8], [0, 8]).slice(0, 32), words([nodes.length, 4], [48, 4], [0, 4]), body));
}

/** The SMMU of the first GPU of the Grace of the captures, and of its NIC. */
const [GPU_SMMU, NIC_SMMU] = [0x1160_0000, 0x1200_0000];
const FIRST = 48;
const SECOND = FIRST + smmu(0).length;

function withTable(table: Uint8Array): Snapshot {
  const snapshot = captures.grace();
  snapshot.file(IORT_FILE, table);
  return snapshot;
}
const COHERENT = 0b111;
const TABLE = iort(
  smmu(GPU_SMMU),
  smmu(NIC_SMMU),
  complex(9, COHERENT, [{ first: 0, count: 0x1_0000, output: 0x3_0000, to: FIRST }]),
  complex(2, 0b011, [{ first: 0, count: 0x1_0000, output: 0, to: SECOND }]),
  range(0, 0xbf00_0000, 0x10_0000, [{ first: 0, count: 1, output: 0x3_0100, to: FIRST, single: true }]),
  range(1, 0xbe00_0000, 0x1000, [{ first: 0, count: 0x200, output: 0, to: SECOND }]),
);

describe("a host whose IORT can be read", () => {
  const { description, remarks } = describeSnapshot(withTable(TABLE));
  const fn = (address: string) => description.functions.find((one) => one.address === address)!;
  const unit = (base: number) => description.smmus.find((one) => one.base === base)!;

  it("has StreamIDs of its functions", () => {
    expect([fn("0009:01:00.0").streamId, fn("0002:01:00.0").streamId]).toEqual([0x3_0100, undefined]);
  });

  it("has CANWBS of each SMMU's root complexes; one with nothing behind it is taken as coherent", () => {
    expect([unit(GPU_SMMU).coherent, unit(NIC_SMMU).coherent, unit(0x0500_0000).coherent]).toEqual([true, false, true]);
    // S2FWB is enough where that is not said.
    expect(new HostFacts(description).iommus.get(unit(GPU_SMMU).name)!.obstacle).toBe(null);
    expect(remarks.join()).not.toContain("IORT");
  });

  it("has ranges that are mapped one to one for a stream, beside what the kernel tells", () => {
    expect(fn("0009:01:00.0").reserved).toContainEqual({ base: 0xbf00_0000, size: 0x10_0000, type: "direct" });
    expect(fn("0002:01:00.0").reserved).toContainEqual({ base: 0xbe00_0000, size: 0x1000, type: "direct-relaxable" });
    expect(fn("0000:01:00.0").reserved).not.toContainEqual(expect.objectContaining({ base: 0xbf00_0000 }));
    expect(fn("0009:01:00.0").reserved).toContainEqual(expect.objectContaining({ type: "msi" }));
  });

  it("has it in a capture of it", () => {
    const source = { names: () => [], read: (path: string) => (path === IORT_FILE ? TABLE : null), readlink: () => null, node: () => "unknown" as const };
    expect(collect(source, "arm64").bytes(IORT_FILE)).toEqual(TABLE);
  });

  it("does not nest where an SMMU has neither S2FWB nor CANWBS, and says what is not known where the table is not read", () => {
    const without = (table: Uint8Array | null): Snapshot => {
      const snapshot = new Snapshot();
      for (const { path, data, target } of captures.grace().entries()) {
        if (target !== null) {
          snapshot.link(path, target);
        } else if (data !== null) {
          // IDR3.FWB of the answer of IOMMU_GET_HW_INFO.
          snapshot.file(path, path.startsWith("viommu/") ? Buffer.from(data).toString("latin1").replaceAll("14150000", "14140000") : data);
        }
      }
      if (table !== null) {
        snapshot.file(IORT_FILE, table);
      }
      return snapshot;
    };
    const obstacle = (snapshot: Snapshot): string | null => new HostFacts(describeSnapshot(snapshot).description).iommus.get(unit(GPU_SMMU).name)!.obstacle;
    expect(obstacle(without(null))).toBe(null);
    expect(describeSnapshot(without(null)).remarks.join()).toContain("the firmware's IORT is root's to read");
    expect(obstacle(without(TABLE))).toBe(null);
    expect(obstacle(without(iort(smmu(GPU_SMMU), complex(9, 0b011, [{ first: 0, count: 0x1_0000, output: 0, to: FIRST }]))))).toContain("CANWBS");
  });
});

it("a table with anything in it is read as far as it makes sense", () => {
  for (let cut = 0; cut < TABLE.length; cut += 7) {
    describeSnapshot(withTable(TABLE.slice(0, cut)));
    describeSnapshot(withTable(TABLE.map((byte, at) => (at > 36 && at % 97 === cut % 97 ? byte ^ 0xff : byte))));
  }
});

it("a configuration space of 256 bytes has no extended capabilities: that is known", () => {
  const snapshot = captures.desktop();
  const folder = snapshot.names("sys/bus/pci/devices").find((address) => (snapshot.bytes(`sys/bus/pci/devices/${address}/config`)?.length ?? 0) === 64);
  expect(folder).not.toBe(undefined);
  const read = (bytes: number): boolean | null => {
    const whole = new Snapshot();
    for (const { path, data, target } of snapshot.entries()) {
      if (target !== null) {
        whole.link(path, target);
      } else if (data !== null) {
        whole.file(path, path.endsWith(`${folder!}/config`) ? Uint8Array.from({ length: bytes }, (_, at) => data[at] ?? 0) : data);
      }
    }
    return describeSnapshot(whole).description.functions.find(({ address }) => address === folder)!.ats;
  };
  expect([read(64), read(256)]).toEqual([null, false]);
});
