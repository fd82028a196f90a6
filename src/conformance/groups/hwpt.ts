/** Page tables and attachments: flags, data types, ids, fault queues, dirty tracking, PASIDs. */
import { DIRTY_BITMAP_NO_CLEAR, HwptAllocFlags, HwptDataType } from "../../iommufd/index.js";
import type { Group } from "../group.js";
import { MIB, NO_DATA, U64_MAX, UNKNOWN_ID, Work } from "../work.js";

const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID } = HwptAllocFlags;
const FLAG_NAMES = [
  [NEST_PARENT, "NEST_PARENT"],
  [DIRTY_TRACKING, "DIRTY_TRACKING"],
  [FAULT_ID_VALID, "FAULT_ID_VALID"],
  [PASID, "PASID"],
] as const;

const flags: Group = {
  name: "HWPT_ALLOC flags",
  about: "each combination of flags of a table of an IOAS",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, devId, ioas: ptId } = work;
    const faultId = bench.id("FAULT_QUEUE_ALLOC", () => {
      const { id, stream } = iommufd.faultQueueAlloc();
      bench.keep(stream);
      return id;
    });
    for (let flags = 0; flags < 16; flags++) {
      const name = FLAG_NAMES.filter(([flag]) => (flags & flag) !== 0).map(([, word]) => word).join(" ");
      bench.call(name === "" ? "none" : name, () => {
        iommufd.destroy(iommufd.hwptAlloc({ flags, devId, ptId, dataType: 0, data: NO_DATA, faultId: (flags & FAULT_ID_VALID) === 0 ? undefined : faultId }));
      });
    }
    for (const bit of [4, 5, 7, 31]) {
      bench.call(`bit ${bit}`, () => void work.table(2 ** bit));
    }
    bench.call("FAULT_ID_VALID with an unknown id", () => void iommufd.hwptAlloc({ flags: FAULT_ID_VALID, devId, ptId, dataType: 0, data: NO_DATA, faultId: UNKNOWN_ID }));
    bench.call("FAULT_ID_VALID with an IOAS", () => void iommufd.hwptAlloc({ flags: FAULT_ID_VALID, devId, ptId, dataType: 0, data: NO_DATA, faultId: ptId }));
  },
};

const forms: Group = {
  name: "HWPT_ALLOC ids",
  about: "ids of other kinds, and data where there is to be none",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, devId, ioas } = work;
    const plain = bench.id("a table", () => work.table(0));
    const data = new Uint8Array(16);
    bench.call("of an unknown object", () => void work.table(0, UNKNOWN_ID));
    bench.call("of id 0", () => void work.table(0, 0));
    bench.call("of the device", () => void work.table(0, devId));
    bench.call("of a table that is no parent", () => void work.table(0, plain));
    bench.call("for an unknown device", () => void work.table(0, ioas, 0, NO_DATA, UNKNOWN_ID));
    bench.call("for an IOAS in place of the device", () => void work.table(0, ioas, 0, NO_DATA, ioas));
    bench.call("data of type NONE", () => void work.table(0, ioas, HwptDataType.NONE, data));
    bench.call("type VTD_S1 without data", () => void work.table(0, ioas, HwptDataType.VTD_S1));
    bench.call("type VTD_S1 of an IOAS", () => void work.table(0, ioas, HwptDataType.VTD_S1, new Uint8Array(24)));
    bench.call("type ARM_SMMUV3 of an IOAS", () => void work.table(0, ioas, HwptDataType.ARM_SMMUV3, data));
    bench.call("type 99 of an IOAS", () => void work.table(0, ioas, 99, data));
    bench.call("type 99 of a table", () => void work.table(0, plain, 99, data));
    bench.call("the table is destroyed", () => iommufd.destroy(plain));
    bench.call("of a table that is gone", () => void work.table(0, plain, HwptDataType.ARM_SMMUV3, data));
  },
};

const attach: Group = {
  name: "ATTACH",
  about: "what a function can be attached to, and replacing",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, devId, ioas } = work;
    bench.call("detach where nothing is attached", () => device.detach());
    bench.call("an unknown id", () => device.attach(UNKNOWN_ID));
    bench.call("id 0", () => device.attach(0));
    bench.call("the device's id", () => device.attach(devId));
    const first = bench.id("a table", () => work.table(0));
    const other = bench.id("another IOAS", () => iommufd.ioasAlloc());
    const second = bench.id("a table of that", () => work.table(0, other));
    bench.call("the table", () => device.attach(first));
    bench.call("the same again", () => device.attach(first));
    bench.call("the table of another IOAS in its place", () => device.attach(second));
    bench.call("the first IOAS in its place", () => device.attach(ioas));
    bench.call("the same IOAS again", () => device.attach(ioas));
    bench.call("an unknown id while attached", () => device.attach(UNKNOWN_ID));
    bench.call("destroy the tables", () => {
      iommufd.destroy(first);
      iommufd.destroy(second);
    });
    bench.call("detach", () => device.detach());
    bench.call("detach again", () => device.detach());
    bench.call("destroy both IOASes", () => {
      iommufd.destroy(ioas);
      iommufd.destroy(other);
    });
  },
};

const faults: Group = {
  name: "FAULT_QUEUE_ALLOC",
  about: "fault queues, their descriptors, and tables with them",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, devId, ioas } = work;
    let stream: ReturnType<typeof iommufd.faultQueueAlloc>["stream"] | null = null;
    const faultId = bench.id("make one", () => {
      const made = iommufd.faultQueueAlloc();
      stream = bench.keep(made.stream);
      return made.id;
    });
    bench.call("make a second", () => void bench.keep(iommufd.faultQueueAlloc().stream));
    for (const bytes of [4096, 0, 39, 40, 4080]) {
      bench.call(`read of ${bytes} bytes where there is nothing`, () => (stream!.read(bytes) === null ? "nothing" : "something"));
    }
    bench.call("write nothing", () => `${stream!.write(new Uint8Array(0))} bytes`);
    bench.call("write half a response", () => `${stream!.write(new Uint8Array(4))} bytes`);
    bench.call("write nine bytes", () => `${stream!.write(new Uint8Array(9))} bytes`);
    bench.call("write a response to nothing", () => `${stream!.write(new Uint8Array(8))} bytes`);
    bench.call("write a response of an unknown code", () => `${stream!.write(Uint8Array.of(0, 0, 0, 0, 7, 0, 0, 0))} bytes`);
    const table = bench.id("a table with it", () => iommufd.hwptAlloc({ flags: FAULT_ID_VALID, devId, ptId: ioas, dataType: 0, data: NO_DATA, faultId }));
    bench.call("attach the table", () => work.device.attach(table));
    bench.call("detach", () => work.device.detach());
    bench.call("destroy the queue", () => iommufd.destroy(faultId));
    bench.call("destroy the table", () => iommufd.destroy(table));
  },
};

const dirty: Group = {
  name: "dirty tracking",
  about: "where the IOMMU keeps dirty state",
  needs: ["dirty"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, ioas } = work;
    const ram = bench.memory(0x40_0000);
    const bitmap = new Uint8Array(64);
    const read = (hwptId: number, iova: bigint, length: bigint, pageSize = 0x1000n, flags = 0): void =>
      iommufd.hwptGetDirtyBitmap({ hwptId, flags, iova, length, pageSize, bitmap });
    bench.quiet(() => work.map(ram, 0x1000_0000n));
    const plain = bench.id("a table without", () => work.table(0));
    const table = bench.id("a table with", () => work.table(DIRTY_TRACKING));
    bench.call("switch on for the table without", () => iommufd.hwptSetDirtyTracking(plain, true));
    bench.call("switch on for an unknown table", () => iommufd.hwptSetDirtyTracking(UNKNOWN_ID, true));
    bench.call("switch on for an IOAS", () => iommufd.hwptSetDirtyTracking(ioas, true));
    bench.call("read before it is on", () => read(table, 0x1000_0000n, MIB));
    bench.call("switch on", () => iommufd.hwptSetDirtyTracking(table, true));
    bench.call("switch on again", () => iommufd.hwptSetDirtyTracking(table, true));
    bench.call("read", () => read(table, 0x1000_0000n, MIB));
    bench.call("read without clearing", () => read(table, 0x1000_0000n, MIB, 0x1000n, DIRTY_BITMAP_NO_CLEAR));
    bench.call("read with an unknown flag", () => read(table, 0x1000_0000n, MIB, 0x1000n, 2));
    bench.call("read of the table without", () => read(plain, 0x1000_0000n, MIB));
    bench.call("read of an unknown table", () => read(UNKNOWN_ID, 0x1000_0000n, MIB));
    bench.call("length 0", () => read(table, 0x1000_0000n, 0n));
    bench.call("a hole", () => read(table, 0x3000_0000n, MIB));
    bench.call("a mapping and a hole", () => read(table, 0x1000_0000n, 0x20_0000n));
    bench.call("a misaligned iova", () => read(table, 0x1000_0800n, 0x1000n));
    bench.call("a misaligned length", () => read(table, 0x1000_0000n, 0x1800n));
    bench.call("wrapping", () => read(table, U64_MAX - 0xfffn, 0x2000n));
    bench.call("page size 0", () => read(table, 0x1000_0000n, MIB, 0n));
    bench.call("page size 2048", () => read(table, 0x1000_0000n, MIB, 2048n));
    bench.call("page size 3 * 4096", () => read(table, 0x1000_0000n, 0x3000n, 0x3000n));
    bench.call("page size 64 KiB", () => read(table, 0x1000_0000n, MIB, 0x1_0000n));
    bench.call("page size 2 MiB of 1 MiB", () => read(table, 0x1000_0000n, MIB, 0x20_0000n));
    bench.call("switch off", () => iommufd.hwptSetDirtyTracking(table, false));
    bench.call("switch off again", () => iommufd.hwptSetDirtyTracking(table, false));
    bench.call("attach", () => work.device.attach(table));
    bench.call("switch on while attached", () => iommufd.hwptSetDirtyTracking(table, true));
    bench.call("attach a table without in its place", () => work.device.attach(plain));
  },
};

const noDirty: Group = {
  name: "no dirty tracking",
  about: "where the IOMMU keeps no dirty state",
  needs: ["no dirty"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, ioas } = work;
    const ram = bench.memory(0x20_0000);
    const bitmap = new Uint8Array(64);
    const read = (hwptId: number, iova: bigint, length: bigint, pageSize = 0x1000n, flags = 0): void =>
      iommufd.hwptGetDirtyBitmap({ hwptId, flags, iova, length, pageSize, bitmap });
    bench.quiet(() => work.map(ram, 0x1000_0000n));
    bench.call("a table with it", () => void work.table(DIRTY_TRACKING));
    const table = bench.id("a table", () => work.table(0));
    bench.call("switch on", () => iommufd.hwptSetDirtyTracking(table, true));
    bench.call("switch off", () => iommufd.hwptSetDirtyTracking(table, false));
    bench.call("switch on for an IOAS", () => iommufd.hwptSetDirtyTracking(ioas, true));
    bench.call("switch on for an unknown table", () => iommufd.hwptSetDirtyTracking(UNKNOWN_ID, true));
    bench.call("read", () => read(table, 0x1000_0000n, MIB));
    bench.call("read with an unknown flag", () => read(table, 0x1000_0000n, MIB, 0x1000n, 2));
    bench.call("read of an unknown table", () => read(UNKNOWN_ID, 0x1000_0000n, MIB));
    bench.call("length 0", () => read(table, 0x1000_0000n, 0n));
    bench.call("length 0 of an unknown table", () => read(UNKNOWN_ID, 0x1000_0000n, 0n));
    bench.call("a misaligned iova", () => read(table, 0x1000_0800n, 0x1000n));
    bench.call("wrapping", () => read(table, U64_MAX - 0xfffn, 0x2000n));
    bench.call("page size 0", () => read(table, 0x1000_0000n, MIB, 0n));
    bench.call("page size 3 * 4096", () => read(table, 0x1000_0000n, 0x3000n, 0x3000n));
  },
};

const pasid: Group = {
  name: "PASIDs",
  about: "attaching PASIDs of a function that has them",
  needs: ["pasid"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, ioas } = work;
    const plain = bench.id("a table without PASID", () => work.table(0));
    const table = bench.id("a table with PASID", () => work.table(PASID));
    const second = bench.id("another with PASID", () => work.table(PASID));
    bench.call("PASID 1 before the function is attached", () => device.attach(table, 1));
    bench.call("detach PASID 1", () => device.detach(1));
    bench.call("PASID 0 before the function is attached", () => device.attach(table, 0));
    bench.call("detach PASID 0 then", () => device.detach(0));
    bench.call("attach the function to the table without", () => device.attach(plain));
    bench.call("PASID 1 beside it", () => device.attach(table, 1));
    bench.call("attach the function to the table with", () => device.attach(table));
    bench.call("PASID 1", () => device.attach(table, 1));
    bench.call("PASID 1 to another table", () => device.attach(second, 1));
    bench.call("PASID 1 to a table without PASID", () => device.attach(plain, 1));
    bench.call("PASID 1 to the IOAS", () => device.attach(ioas, 1));
    bench.call("PASID 1 to an unknown id", () => device.attach(UNKNOWN_ID, 1));
    bench.call("PASID 0", () => device.attach(table, 0));
    bench.call("detach PASID 0", () => device.detach(0));
    bench.call("the last PASID", () => device.attach(table, 2 ** bench.facts.pasidBits - 1));
    bench.call("one PASID more than there are", () => device.attach(table, 2 ** bench.facts.pasidBits));
    bench.call("PASID 2^20", () => device.attach(table, 2 ** 20));
    bench.call("the function to a table without PASID", () => device.attach(plain));
    bench.call("detach PASID 7, which is not attached", () => device.detach(7));
    bench.call("destroy a table that a PASID has", () => iommufd.destroy(second));
    bench.call("detach the function", () => device.detach());
    bench.call("detach PASID 1 then", () => device.detach(1));
    bench.call("destroy the tables", () => [plain, second].forEach((id) => iommufd.destroy(id)));
  },
};

const noPasid: Group = {
  name: "no PASIDs",
  about: "attaching PASIDs of a function that has none",
  needs: ["no pasid"],
  run: (bench) => {
    const work = new Work(bench);
    const { device, ioas } = work;
    const plain = bench.id("a table without PASID", () => work.table(0));
    const table = bench.id("a table with PASID", () => work.table(PASID));
    bench.call("PASID 1 before the function is attached", () => device.attach(table, 1));
    bench.call("detach PASID 1 then", () => device.detach(1));
    bench.call("PASID 0 before the function is attached", () => device.attach(table, 0));
    bench.call("detach PASID 0", () => device.detach(0));
    bench.call("attach the function to it", () => device.attach(table));
    bench.call("PASID 1", () => device.attach(table, 1));
    bench.call("PASID 1 again", () => device.attach(table, 1));
    bench.call("PASID 2^20", () => device.attach(table, 2 ** 20));
    bench.call("PASID 2^32 - 1", () => device.attach(table, 2 ** 32 - 1));
    bench.call("the function to a table without PASID", () => device.attach(plain));
    bench.call("PASID 0", () => device.attach(table, 0));
    bench.call("PASID 1 to a table without", () => device.attach(plain, 1));
    bench.call("PASID 1 to the IOAS", () => device.attach(ioas, 1));
    bench.call("PASID 1 to an unknown id", () => device.attach(UNKNOWN_ID, 1));
    bench.call("detach PASID 1", () => device.detach(1));
  },
};

export const hwptGroups: readonly Group[] = [flags, forms, attach, faults, dirty, noDirty, pasid, noPasid];
