/** Units over small memories that tests fill by hand, as sources: function `fn0` is behind the one unit. */
import type { WordMemory } from "../../../src/memory/index.js";
import type { MachineFunctionReport, MapReport, WalkQuestion, WalkReport } from "../../../src/inspect/report/index.js";
import { type InspectionSource, type UnitState, walkReport } from "../../../src/inspect/state/index.js";

/** Memory that is read: who writes there fails. */
function readAlone(memory: WordMemory): WordMemory {
  const refuse = (): never => {
    throw new Error("a walk that is looked at writes nothing");
  };
  return {
    flat: new Int32Array(0),
    flatBase: 0,
    flatBytes: 0,
    loadedLow: 0,
    loadedHigh: 0,
    load64(high, low) {
      const code = memory.load64(high, low);
      this.loadedLow = memory.loadedLow;
      this.loadedHigh = memory.loadedHigh;
      return code;
    },
    store64: refuse,
    compareExchange64: refuse,
  };
}

interface Shape {
  readonly architecture: "smmuv3" | "vtd";
  readonly registers: Readonly<Record<string, number | bigint>>;
  readonly memory: WordMemory;
  readonly streamId: number;
  /** Of a passed-through function on a host that is not to be seen into. */
  readonly passed?: boolean;
  readonly ram?: (address: number) => number | null;
}

export function sourceOf({ architecture, registers, memory, streamId, passed = false, ram = () => null }: Shape): InspectionSource {
  const unit: UnitState = { id: "iommu0", side: "guest", architecture, registers: new Map(Object.entries(registers).map(([name, value]) => [name, BigInt.asUintN(64, BigInt(value))])), memory: readAlone(memory), batch: null };
  const fn: MachineFunctionReport = {
    function: "fn0",
    bdf: "00:01.0",
    host: passed ? "0000:01:00.0" : null,
    iommu: "iommu0",
    streamId,
    vendorId: 0,
    deviceId: 0,
    classCode: 0,
    label: "",
    ats: true,
    pasid: true,
    iommufd: passed ? "iommufd0" : null,
    ioas: passed ? 3 : null,
    parentHwpt: null,
    vdevice: null,
  };
  const map: MapReport = { machine: null, functions: [fn], attachments: [], tables: [], host: { description: "a Linux host", kernel: null, iommus: [], functions: [], unknown: [] } };
  return { map: () => map, units: () => [unit], hostPlace: () => null, cached: () => [], hostAddressOf: ram };
}

export function ask(source: InspectionSource, iova: bigint | number, of: Partial<WalkQuestion> = {}): WalkReport {
  return walkReport(source, { function: "fn0", pasid: null, iova: `0x${iova.toString(16)}`, access: "read", privileged: false, kind: "untranslated", ...of });
}

/** `row.column name`. */
export const places = ({ fetches }: WalkReport): string[] => fetches.map(({ name, row, column }) => `${row}.${column} ${name}`);
