/** Hosts at random, of both architectures, and what a user may ask of them. */
import fc from "fast-check";
import { describeHost, type HostDescription, type HostDescriptionInput } from "../../src/host/simulated/file/index.js";
import type { PlanRequest } from "../../src/plan/index.js";

const GIB = 2 ** 30;
const NODES = 8;

/** A pair of functions is one group: one of them is asked for, or both without a virtual IOMMU. */
export interface RandomCase {
  readonly host: HostDescription;
  readonly devices: string[];
  readonly more: Pick<PlanRequest, "memory" | "cpus" | "spare" | "withGroup" | "withoutIommu">;
}

interface Drawn {
  readonly arm: boolean;
  readonly nodes: number;
  readonly units: ReadonlyArray<{ readonly node: number; readonly ril: boolean; readonly ats: boolean; readonly wide: boolean; readonly ssidBits: number; readonly nests: boolean }>;
  readonly functions: ReadonlyArray<{ readonly unit: number; readonly node: number; readonly pair: boolean; readonly kind: number; readonly bar: number; readonly asked: boolean; readonly pasids: boolean }>;
  readonly cpus: number;
  readonly memory: number;
  readonly spare: number;
  readonly together: boolean;
}

/** Class, vendor and id of a kind of function. */
const KINDS = [
  [0x020000, 0x15b3, 0x1021],
  [0x030200, 0x10de, 0x2342],
  [0x030000, 0x1002, 0x744c],
  [0x010802, 0x144d, 0xa80a],
  [0x0b4000, 0x8086, 0x2710],
  [0x0c0330, 0x1912, 0x0014],
] as const;
const BARS = [null, "2M", "32M", "256M", "16G", "128G"] as const;

const hex = (number: number, digits: number): string => number.toString(16).padStart(digits, "0");

function hostOf(drawn: Drawn): HostDescription {
  const { arm, nodes, units } = drawn;
  const nameOf = (n: number): string => (arm ? `smmu3.0x${hex(0x900_0000 + n * 0x2_0000, 16)}` : `dmar${n}`);
  const functions = drawn.functions.flatMap(({ unit, node, pair, kind, bar, pasids }, n) => {
    const { ats, ssidBits } = units[unit % units.length];
    const [code, vendor, device] = KINDS[kind];
    return (pair ? [0, 1] : [0]).map((number) => ({
      address: `0000:${hex(n + 1, 2)}:00.${number}`,
      name: `function ${n}.${number}`,
      vendor,
      device,
      class: code,
      [arm ? "smmu" : "vtd"]: nameOf(unit % units.length),
      numaNode: (node % (nodes + 1)) - 1,
      group: n,
      ats,
      pasidBits: pasids && (arm || units[unit % units.length].nests) ? ssidBits : 0,
      bars: [{ index: 0, size: "64K" }, ...(BARS[bar] === null ? [] : [{ index: 2, size: BARS[bar], prefetchable: true }])],
      msixVectors: 4,
    }));
  });
  return describeHost({
    name: "random",
    memory: Array.from({ length: nodes }, (_, n) => ({ numaNode: n, base: 0x10_0000_0000 * (n + 1), size: "8G" })),
    ...(arm
      ? {
          smmus: units.map(({ node, ril, ats, wide, ssidBits }, n) => ({
            name: nameOf(n),
            base: 0x900_0000 + n * 0x2_0000,
            numaNode: node % nodes,
            idr0: 0x0d4c_101b | (ats ? 1 << 10 : 0),
            idr1: 0x0273_0010 | (ssidBits << 6),
            idr3: ril ? 0x1414 : 0x1014,
            idr5: wide ? 0x75 : 0x74,
          })),
        }
      : {
          vtds: units.map(({ node, ats, ssidBits, nests }, n) => ({
            name: nameOf(n),
            base: 0xc000_0000 + n * 0x1000,
            numaNode: node % nodes,
            deviceTlb: ats,
            ...(nests ? { scalableMode: true, scalableCoherentWalks: true, secondStage: true, firstStage: true, firstStage1g: ssidBits % 2 === 0, nesting: true, pasidBits: ssidBits } : {}),
          })),
        }),
    functions,
  } as HostDescriptionInput);
}

export const randomCases: fc.Arbitrary<RandomCase> = fc
  .record({
    arm: fc.boolean(),
    nodes: fc.integer({ min: 1, max: NODES }),
    units: fc.array(fc.record({ node: fc.nat(NODES), ril: fc.boolean(), ats: fc.boolean(), wide: fc.boolean(), ssidBits: fc.constantFrom(0, 8, 16, 20), nests: fc.boolean() }), { minLength: 1, maxLength: 8 }),
    functions: fc.array(
      fc.record({ unit: fc.nat(7), node: fc.nat(NODES), pair: fc.boolean(), kind: fc.nat(KINDS.length - 1), bar: fc.nat(BARS.length - 1), asked: fc.boolean(), pasids: fc.boolean() }),
      { minLength: 1, maxLength: 12 },
    ),
    cpus: fc.integer({ min: 1, max: 16 }),
    memory: fc.integer({ min: 1, max: 16 }).map((n) => (n * GIB) / 4),
    spare: fc.nat(3),
    together: fc.boolean(),
  })
  .map((drawn) => {
    const host = hostOf(drawn);
    const candidates = host.functions.filter(({ address }) => drawn.together || address.endsWith(".0"));
    const asked = candidates.filter(({ group }) => drawn.functions[group!].asked);
    const devices = (asked.length > 0 ? asked : candidates.filter(({ group }) => group === 0)).map(({ address }) => address);
    return { host, devices, more: { memory: drawn.memory, cpus: drawn.cpus, spare: drawn.spare, withGroup: true, withoutIommu: drawn.together } };
  });
