/**
 * Each ioctl of iommufd as bytes: sizes, what lies behind the structure, reserved fields (drivers/iommu/iommufd/
 * main.c: a size below the least is EINVAL, ones behind what the kernel knows are E2BIG).
 */
import { HwptAllocFlags } from "../../iommufd/index.js";
import type { Bench } from "../bench.js";
import type { Group } from "../group.js";
import { type RawField, request, structure, word } from "../raw.js";
import { MIB, U64_MAX, UNKNOWN_ID, Work } from "../work.js";

/** A structure's fields behind its size, and where the pointers are. */
interface Form {
  readonly number: number;
  readonly fields: readonly RawField[];
  readonly pointers?: ReadonlyArray<{ readonly at: number; readonly to: Uint8Array }>;
  /** Fields that are to be zero: their places in `fields`, by name. */
  readonly reserved?: Readonly<Record<string, number>>;
}

function give(bench: Bench, { number, fields, pointers }: Form, options: { size?: number; tail?: number; ones?: boolean } = {}): Uint8Array {
  const tail = options.tail ?? 0;
  const whole = structure([[4, 0], ...fields], tail);
  new DataView(whole.buffer).setUint32(0, options.size ?? whole.length, true);
  if (options.ones === true) {
    whole[whole.length - 1] = 1;
  }
  bench.ioctl(bench.iommufd.fd, request(number), whole, pointers);
  return whole;
}

const sizes: Group = {
  name: "structures",
  about: "sizes, trailing bytes and reserved fields of each ioctl of an iommufd",
  run: (bench) => {
    const work = new Work(bench);
    const { devId, ioas, iommufd } = work;
    const ram = bench.memory(0x20_0000);
    const address = BigInt(ram.address);
    const table = bench.id("a table", () => work.table(0));
    const bytes = (length: number): Uint8Array => new Uint8Array(length);
    const spare = (): number => bench.quiet(() => iommufd.ioasAlloc()) ?? 0;
    const { nesting, iommu } = bench.facts;
    const smmu = nesting && iommu === "smmuv3";
    const parent = smmu ? (bench.quiet(() => work.table(HwptAllocFlags.NEST_PARENT)) ?? 0) : 0;
    const viommu = smmu ? (bench.quiet(() => work.viommu(parent)) ?? 0) : 0;
    let iova = 0x1000_0000n;
    const next = (): bigint => (iova += 0x10_0000n);
    // Calls that would give a descriptor are made so that they are refused: nobody would close it.
    const forms: ReadonlyArray<readonly [string, () => Form]> = [
      ["DESTROY", () => ({ number: 0x80, fields: [[4, spare()]] })],
      ["IOAS_ALLOC", () => ({ number: 0x81, fields: [[4, 0], [4, 0]] })],
      ["IOAS_ALLOW_IOVAS", () => ({ number: 0x82, fields: [[4, ioas], [4, 0], [4, 0], [8, 0]], reserved: { reserved: 2 } })],
      ["IOAS_COPY", () => ({ number: 0x83, fields: [[4, 7], [4, ioas], [4, ioas], [8, 0x1000], [8, next()], [8, 0x0800_0000]] })],
      ["IOAS_IOVA_RANGES", () => ({ number: 0x84, fields: [[4, ioas], [4, 8], [4, 0], [8, 0], [8, 0]], pointers: [{ at: 16, to: bytes(128) }], reserved: { reserved: 2 } })],
      ["IOAS_MAP", () => ({ number: 0x85, fields: [[4, 7], [4, ioas], [4, 0], [8, address], [8, 0x1000], [8, next()]], reserved: { reserved: 2 } })],
      ["IOAS_UNMAP", () => ({ number: 0x86, fields: [[4, ioas], [8, 0], [8, U64_MAX]] })],
      ["OPTION", () => ({ number: 0x87, fields: [[4, 1], [2, 1], [2, 0], [4, ioas], [8, 0]], reserved: { reserved: 2 } })],
      ["VFIO_IOAS", () => ({ number: 0x88, fields: [[4, 0], [2, 0], [2, 0]], reserved: { reserved: 2 } })],
      ["HWPT_ALLOC", () => ({ number: 0x89, fields: [[4, 0], [4, devId], [4, ioas], [4, 0], [4, 0], [4, 0], [4, 0], [8, 0], [4, 0], [4, 0]], reserved: { reserved: 4, reserved2: 9 } })],
      ["GET_HW_INFO", () => ({ number: 0x8a, fields: [[4, 0], [4, devId], [4, 0], [8, 0], [4, 0], [4, 0], [8, 0]], reserved: { "the bytes behind the type": 5 } })],
      ["HWPT_SET_DIRTY_TRACKING", () => ({ number: 0x8b, fields: [[4, 0], [4, table], [4, 0]], reserved: { reserved: 2 } })],
      ["HWPT_GET_DIRTY_BITMAP", () => ({ number: 0x8c, fields: [[4, table], [4, 0], [4, 0], [8, 0], [8, 0x1000], [8, 0x1000], [8, 0]], pointers: [{ at: 40, to: bytes(64) }], reserved: { reserved: 2 } })],
      ["HWPT_INVALIDATE", () => ({ number: 0x8d, fields: [[4, viommu], [8, 0], [4, 1], [4, 16], [4, 0], [4, 0]], reserved: { reserved: 5 } })],
      ["FAULT_QUEUE_ALLOC", () => ({ number: 0x8e, fields: [[4, 1], [4, 0], [4, 0]] })],
      ["IOAS_MAP_FILE", () => ({ number: 0x8f, fields: [[4, 7], [4, ioas], [4, -1], [8, 0], [8, 0x1000], [8, next()]] })],
      ["VIOMMU_ALLOC", () => ({ number: 0x90, fields: [[4, 0], [4, 0], [4, devId], [4, parent], [4, 0], [4, 0], [4, 0], [8, 0]], reserved: { reserved: 6 } })],
      ["VDEVICE_ALLOC", () => ({ number: 0x91, fields: [[4, UNKNOWN_ID], [4, devId], [4, 0], [8, 1]] })],
      ["IOAS_CHANGE_PROCESS", () => ({ number: 0x92, fields: [[4, 0]], reserved: { reserved: 0 } })],
      ["VEVENTQ_ALLOC", () => ({ number: 0x93, fields: [[4, 0], [4, UNKNOWN_ID], [4, 1], [4, 8], [4, 0], [4, 0], [4, 0]], reserved: { reserved: 6 } })],
      ["HW_QUEUE_ALLOC", () => ({ number: 0x94, fields: [[4, 0], [4, UNKNOWN_ID], [4, 1], [4, 0], [4, 0], [8, 0], [8, 0x1000]] })],
      ["IOAS_NOIOMMU_GET_PA", () => ({ number: 0x95, fields: [[4, 0], [4, ioas], [4, 0], [8, 0], [8, 0x1000], [8, 0]], reserved: { reserved: 2 } })],
    ];
    for (const [name, form] of forms) {
      bench.call(name, () => void give(bench, form()));
      bench.call(`${name}, size 0`, () => void give(bench, form(), { size: 0 }));
      bench.call(`${name}, size 4`, () => void give(bench, form(), { size: 4 }));
      bench.call(`${name}, zeros behind`, () => void give(bench, form(), { tail: 16 }));
      bench.call(`${name}, ones behind`, () => void give(bench, form(), { tail: 16, ones: true }));
      for (const [field, place] of Object.entries(form().reserved ?? {})) {
        bench.call(`${name}, ${field} not zero`, () => {
          const made = form();
          void give(bench, { ...made, fields: made.fields.map(([length, value], index) => [length, index === place ? 1 : value] as const) });
        });
      }
      bench.call(`${name}, a null pointer`, () => void bench.ioctl(iommufd.fd, request(form().number), null));
    }
    for (const number of [0x7f, 0x96, 0xbe, 0xff]) {
      bench.call(`ioctl 0x${number.toString(16)}`, () => void bench.ioctl(iommufd.fd, request(number), bytes(64)));
    }
    bench.call("ioctl of another type", () => void bench.ioctl(iommufd.fd, 0x4180, bytes(64)));
  },
};

const rest: Group = {
  name: "structures beyond",
  about: "calls that the methods have not: VFIO_IOAS, CHANGE_PROCESS, room for ranges",
  run: (bench) => {
    const work = new Work(bench);
    const { ioas: first, devId, iommufd } = work;
    const compatible = (op: number, id = 0): Uint8Array => give(bench, { number: 0x88, fields: [[4, id], [2, op], [2, 0]] });
    bench.call("VFIO_IOAS GET where there is none", () => void compatible(0));
    bench.call("VFIO_IOAS SET of an unknown id", () => void compatible(1, UNKNOWN_ID));
    bench.call("VFIO_IOAS SET of the device", () => void compatible(1, devId));
    bench.call("VFIO_IOAS SET", () => void compatible(1, first));
    bench.call("VFIO_IOAS GET", () => (word(compatible(0), 4) === first ? "what was set" : "something else"));
    bench.call("destroy the IOAS that is set", () => iommufd.destroy(first));
    const left = bench.id("another IOAS", () => iommufd.ioasAlloc());
    bench.call("VFIO_IOAS GET once it is destroyed", () => void compatible(0));
    bench.call("VFIO_IOAS SET of the other", () => void compatible(1, left));
    bench.call("VFIO_IOAS CLEAR", () => void compatible(2));
    bench.call("VFIO_IOAS CLEAR again", () => void compatible(2));
    bench.call("VFIO_IOAS operation 3", () => void compatible(3));
    const room = (count: number): Uint8Array =>
      give(bench, { number: 0x84, fields: [[4, left], [4, count], [4, 0], [8, 0], [8, 0]], pointers: [{ at: 16, to: new Uint8Array(16 * Math.max(1, count)) }] });
    bench.call("IOVA_RANGES with room for none", () => void room(0));
    bench.call("IOVA_RANGES with room for four", () => `ranges=${word(room(4), 8)}`);
    const ram = bench.memory(0x20_0000);
    bench.call("CHANGE_PROCESS without mappings", () => void give(bench, { number: 0x92, fields: [[4, 0]] }));
    bench.call("IOAS_MAP of memory", () => work.map(ram, 0x1000_0000n, MIB, { ioas: left }));
    bench.call("CHANGE_PROCESS with a mapping of memory", () => void give(bench, { number: 0x92, fields: [[4, 0]] }));
    bench.call("SET_DIRTY_TRACKING flags=2", () => void give(bench, { number: 0x8b, fields: [[4, 2], [4, UNKNOWN_ID], [4, 0]] }));
    bench.call("OPTION operation 2", () => void give(bench, { number: 0x87, fields: [[4, 1], [2, 2], [2, 0], [4, left], [8, 0]] }));
    bench.call("FAULT_QUEUE_ALLOC flags=1", () => void give(bench, { number: 0x8e, fields: [[4, 1], [4, 0], [4, 0]] }));
    bench.call("IOAS_COPY flag bit 3", () => void give(bench, { number: 0x83, fields: [[4, 15], [4, left], [4, left], [8, 0x1000], [8, 0x2000_0000], [8, 0x1000_0000]] }));
    bench.call("GET_HW_INFO, data_len without a pointer", () => void give(bench, { number: 0x8a, fields: [[4, 0], [4, devId], [4, 8], [8, 0], [4, 0], [4, 0], [8, 0]] }));
    bench.call("HWPT_ALLOC, data_len without a pointer", () => void give(bench, { number: 0x89, fields: [[4, 0], [4, devId], [4, left], [4, 0], [4, 0], [4, 1], [4, 16], [8, 0], [4, 0], [4, 0]] }));
    bench.call("NOIOMMU_GET_PA of the IOAS", () => void give(bench, { number: 0x95, fields: [[4, 0], [4, left], [4, 0], [8, 0x1000_0000], [8, 0x1000], [8, 0]] }));
    bench.call("NOIOMMU_GET_PA of length 0", () => void give(bench, { number: 0x95, fields: [[4, 0], [4, left], [4, 0], [8, 0x1000_0000], [8, 0], [8, 0]] }));
  },
};

/** VFIO ioctls by their numbers (VFIO_BASE is 100). */
const device: Group = {
  name: "VFIO structures",
  about: "sizes and flags of the character device's ioctls",
  run: (bench) => {
    const work = new Work(bench);
    const cdev = work.device;
    const call = (name: string, number: number, fields: readonly RawField[], size?: number): void =>
      bench.call(name, () => {
        const bytes = structure([[4, 0], ...fields]);
        new DataView(bytes.buffer).setUint32(0, size ?? bytes.length, true);
        bench.ioctl(cdev.fd, request(number), bytes);
      });
    call("GET_INFO argsz 0", 107, [[4, 0], [4, 0], [4, 0]], 0);
    call("GET_INFO argsz 12", 107, [[4, 0], [4, 0], [4, 0]], 12);
    call("GET_INFO argsz 16", 107, [[4, 0], [4, 0], [4, 0]]);
    call("GET_REGION_INFO argsz 16", 108, [[4, 0], [4, 7], [4, 0], [8, 0], [8, 0]], 16);
    call("GET_REGION_INFO argsz 32", 108, [[4, 0], [4, 7], [4, 0], [8, 0], [8, 0]]);
    call("GET_IRQ_INFO argsz 8", 109, [[4, 0], [4, 2], [4, 0]], 8);
    call("GET_IRQ_INFO argsz 16", 109, [[4, 0], [4, 2], [4, 0]]);
    call("BIND argsz 8", 118, [[4, 0], [4, bench.iommufd.fd], [4, 0]], 8);
    call("BIND flags=2", 118, [[4, 2], [4, bench.iommufd.fd], [4, 0]]);
    call("BIND a second time", 118, [[4, 0], [4, bench.iommufd.fd], [4, 0]]);
    call("ATTACH argsz 8", 119, [[4, 0], [4, work.ioas]], 8);
    call("ATTACH argsz 12", 119, [[4, 0], [4, work.ioas], [4, 0]], 12);
    call("ATTACH flags=2", 119, [[4, 2], [4, work.ioas], [4, 0]]);
    call("ATTACH with a PASID and argsz 12", 119, [[4, 1], [4, work.ioas], [4, 1]], 12);
    call("DETACH argsz 4", 120, [[4, 0]], 4);
    call("DETACH argsz 8", 120, [[4, 0]]);
    call("DETACH flags=2", 120, [[4, 2], [4, 0]]);
    call("DETACH with a PASID and argsz 8", 120, [[4, 1], [4, 1]], 8);
    call("HOT_RESET_INFO argsz 8", 112, [[4, 0], [4, 0]], 8);
    call("HOT_RESET argsz 8", 113, [[4, 0], [4, 0]], 8);
    call("HOT_RESET flags=1", 113, [[4, 1], [4, 0]]);
    call("FEATURE argsz 4", 117, [[4, 0]], 4);
    call("FEATURE flags=PROBE of feature 0xfffe", 117, [[4, (1 << 18) | 0xfffe]]);
    call("IOEVENTFD argsz 8", 116, [[4, 0], [8, 0], [8, 0], [4, -1], [4, 0]], 8);
    call("IOEVENTFD flags=0", 116, [[4, 0], [8, 0], [8, 0], [4, -1], [4, 0]]);
    call("IOEVENTFD of 16 bytes", 116, [[4, 16], [8, 0], [8, 0], [4, -1], [4, 0]]);
    call("IOEVENTFD of the configuration space", 116, [[4, 4], [8, 7n << 40n], [8, 0], [4, -1], [4, 0]]);
    bench.call("GET_INFO, a null pointer", () => void bench.ioctl(cdev.fd, request(107), null));
    bench.call("ATTACH, a null pointer", () => void bench.ioctl(cdev.fd, request(119), null));
    bench.call("GET_API_VERSION", () => void bench.ioctl(cdev.fd, request(100), null));
    bench.call("GROUP_GET_STATUS", () => void bench.ioctl(cdev.fd, request(103), new Uint8Array(8)));
    bench.call("ioctl 0x3b7f", () => void bench.ioctl(cdev.fd, request(0x7f), new Uint8Array(64)));
    bench.call("an ioctl of iommufd", () => void bench.ioctl(cdev.fd, request(0x81), structure([[4, 12], [4, 0], [4, 0]])));
    bench.call("an ioctl of VFIO on the iommufd", () => void bench.ioctl(bench.iommufd.fd, request(107), structure([[4, 16], [4, 0], [4, 0], [4, 0]])));
  },
};

export const structureGroups: readonly Group[] = [sizes, rest, device];
