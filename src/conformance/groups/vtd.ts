/** First-stage tables of a VT-d unit, straight on a nesting parent. */
import { HwptAllocFlags, HWPT_VTD_S1_BYTES, HwptDataType, HwptVtdS1Flags, INVALIDATE_VTD_S1_BYTES, InvalidateVtdFlags, ViommuType } from "../../iommufd/index.js";
import type { Group } from "../group.js";
import { structure } from "../raw.js";
import { MIB, U64_MAX, UNKNOWN_ID, Work } from "../work.js";

const { NEST_PARENT, DIRTY_TRACKING, PASID } = HwptAllocFlags;
const { VTD_S1 } = HwptDataType;

interface FirstStage {
  readonly flags?: number;
  readonly table?: bigint;
  readonly width?: number;
  readonly reserved?: number;
}

const firstStage = ({ flags = 0, table = 0x4000_0000n, width = 48, reserved = 0 }: FirstStage = {}): Uint8Array =>
  structure([[8, flags], [8, table], [4, width], [4, reserved]]);

interface Entry {
  readonly address?: bigint;
  readonly pages?: bigint;
  readonly flags?: number;
  readonly reserved?: number;
}

const entry = ({ address = 0n, pages = 1n, flags = 0, reserved = 0 }: Entry = {}): Uint8Array =>
  structure([[8, address], [8, pages], [4, flags], [4, reserved]]);

const nest: Group = {
  name: "first stage",
  about: "nested tables of VT-d: their data, attaching and invalidating",
  needs: ["vtd", "nesting"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device } = work;
    const ram = bench.memory(0x20_0000);
    bench.quiet(() => work.map(ram, 0x4000_0000n));
    const plain = bench.id("a table that is no parent", () => work.table(0));
    const parent = bench.id("HWPT_ALLOC nest parent", () => work.table(NEST_PARENT));
    const make = (name: string, data: Uint8Array, flags = 0, on = parent): void =>
      bench.call(name, () => iommufd.destroy(work.table(flags, on, VTD_S1, data)));
    bench.call("VIOMMU_ALLOC type ARM_SMMUV3", () => void work.viommu(parent));
    bench.call("VIOMMU_ALLOC type TEGRA241_CMDQV", () => void work.viommu(parent, ViommuType.TEGRA241_CMDQV));
    make("a table of 48 bits", firstStage());
    make("a table of 57 bits", firstStage({ width: 57 }));
    for (const width of [0, 39, 47, 64]) {
      make(`a table of ${width} bits`, firstStage({ width }));
    }
    for (const [name, flags] of Object.entries(HwptVtdS1Flags)) {
      make(`flag ${name}`, firstStage({ flags }));
    }
    make("flag bit 3", firstStage({ flags: 8 }));
    make("a reserved word", firstStage({ reserved: 1 }));
    make("a root that is not aligned", firstStage({ table: 0x4000_0008n }));
    make("a root that nothing is mapped at", firstStage({ table: 0x7000_0000n }));
    make("a root above the address width", firstStage({ table: 1n << 60n }));
    make("with NEST_PARENT", firstStage(), NEST_PARENT);
    make("with DIRTY_TRACKING", firstStage(), DIRTY_TRACKING);
    make("with PASID", firstStage(), PASID);
    make("on a table that is no parent", firstStage(), 0, plain);
    make("on the IOAS", firstStage(), 0, work.ioas);
    make("16 bytes of data", firstStage().subarray(0, 16));
    make("32 bytes of data, zeros behind", structure([[8, 0], [8, 0x4000_0000n], [4, 48], [4, 0]], 8));
    bench.call("data of type ARM_SMMUV3", () => void work.table(0, parent, HwptDataType.ARM_SMMUV3, new Uint8Array(16)));
    const table = bench.id("a table to be attached", () => work.table(0, parent, VTD_S1, firstStage()));
    bench.call("attach the parent", () => device.attach(parent));
    bench.call("attach the nested table", () => device.attach(table));
    bench.call("destroy the parent", () => iommufd.destroy(parent));
    bench.call("nested on a nested table", () => void work.table(0, table, VTD_S1, firstStage()));
    const invalidate = (name: string, entries: readonly Uint8Array[], id = table, dataType = 0, entryLength = INVALIDATE_VTD_S1_BYTES): void =>
      bench.answer(`INVALIDATE ${name}`, () => work.invalidate(id, entries, entryLength, dataType));
    invalidate("one page", [entry()]);
    invalidate("one page, leaf", [entry({ flags: InvalidateVtdFlags.LEAF })]);
    invalidate("everything", [entry({ pages: U64_MAX })]);
    invalidate("2^20 pages", [entry({ pages: MIB })]);
    invalidate("no page", [entry({ pages: 0n })]);
    invalidate("an address that is not aligned", [entry({ address: 0x800n })]);
    invalidate("an unknown flag", [entry({ flags: 2 })]);
    invalidate("a reserved word", [entry({ reserved: 1 })]);
    invalidate("three, the second bad", [entry(), entry({ flags: 2 }), entry()]);
    invalidate("zero entries", []);
    invalidate("data type ARM_SMMUV3", [entry()], table, 1);
    invalidate("entry_len 16", [entry()], table, 0, 16);
    invalidate("entry_len 32", [entry()], table, 0, 32);
    invalidate("of the parent", [entry()], parent);
    invalidate("of an unknown id", [entry()], UNKNOWN_ID);
    bench.call("detach", () => device.detach());
    invalidate("one page of a table that is not attached", [entry()]);
    bench.call("destroy both", () => [table, parent].forEach((id) => iommufd.destroy(id)));
  },
};

const alone: Group = {
  name: "no first stage",
  about: "a VT-d unit that does not nest",
  needs: ["vtd", "no nesting"],
  run: (bench) => {
    const work = new Work(bench);
    bench.call("HWPT_ALLOC nest parent", () => void work.table(NEST_PARENT));
    const plain = bench.id("a table", () => work.table(0));
    bench.call("a first stage on it", () => void work.table(0, plain, VTD_S1, firstStage()));
    bench.call("a first stage on the IOAS", () => void work.table(0, work.ioas, VTD_S1, new Uint8Array(HWPT_VTD_S1_BYTES)));
    bench.call("VIOMMU_ALLOC type ARM_SMMUV3", () => void work.viommu(plain));
  },
};

export const vtdGroups: readonly Group[] = [nest, alone];
