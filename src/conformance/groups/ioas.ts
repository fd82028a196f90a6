/** Address spaces: mapping, unmapping, copying, ranges, options. */
import { HwptAllocFlags, OptionId } from "../../iommufd/index.js";
import { hex } from "../../support/index.js";
import type { Group } from "../group.js";
import { request, structure } from "../raw.js";
import { MIB, NO_FD, U64_MAX, UNKNOWN_ID, Work } from "../work.js";

const ioas: Group = {
  name: "ioas",
  about: "mapping, unmapping, and what attaching takes of the IOVAs",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device } = work;
    const ram = bench.memory(0x40_0000);
    let hwpt = 0;
    bench.quiet(() => work.map(ram, 0x4000_0000n));
    bench.call("map the same again", () => work.map(ram, 0x4000_0000n));
    bench.call("map length 0", () => work.map(ram, 0x6000_0000n, 0n));
    bench.call("map misaligned iova", () => work.map(ram, 0x5000_0800n));
    bench.call("map wrapping the address space", () => work.map(ram, 0xffff_ffff_ffff_f000n));
    bench.call("map unknown flag", () => work.map(ram, 0x6000_0000n, MIB, { extraFlags: 0x80 }));
    bench.call("map without fixed iova", () => work.map(ram, null));
    bench.call("unmap a hole", () => work.unmap(0x7000_0000n, MIB));
    bench.call("unmap across mapping and hole", () => work.unmap(0x4000_0000n, 0x20_0000n));
    bench.quiet(() => work.map(ram, 0x6000_0000n));
    bench.call("unmap exactly", () => work.unmap(0x6000_0000n, MIB));
    bench.quiet(() => work.map(ram, 0x6000_0000n));
    bench.call("unmap all", () => work.unmap(0n, U64_MAX));
    bench.call("unmap all of an empty IOAS", () => work.unmap(0n, U64_MAX));
    bench.call("HWPT_ALLOC nest parent from the IOAS", () => {
      hwpt = work.table(bench.facts.nesting ? HwptAllocFlags.NEST_PARENT : 0);
    });
    bench.call("ranges after the HWPT", () => work.ranges());
    bench.call("attach device to the IOAS", () => device.attach(work.ioas));
    bench.call("ranges after attach", () => work.ranges());
    bench.call("map above the address width", () => work.map(ram, (lastOf(work) ?? U64_MAX >> 1n) + 1n));
    bench.call("destroy the IOAS in use", () => iommufd.destroy(work.ioas));
    bench.call("destroy the HWPT attached by autodomain or not", () => iommufd.destroy(hwpt));
    bench.call("detach again", () => device.detach());
  },
};

/** The last IOVA that the IOAS has. */
function lastOf(work: Work): bigint | null {
  return work.bench.quiet(() => work.iommufd.ioasIovaRanges(work.ioas).ranges.at(-1)?.last ?? null);
}

const map: Group = {
  name: "IOAS_MAP",
  about: "without a table, and with one",
  run: (bench) => {
    const work = new Work(bench);
    const ram = bench.memory(0x40_0000);
    bench.call("ranges of an empty IOAS", () => work.ranges());
    bench.call("of an unknown IOAS", () => work.map(ram, 0n, MIB, { ioas: UNKNOWN_ID }));
    bench.call("of a device's id", () => work.map(ram, 0n, MIB, { ioas: work.devId }));
    bench.call("neither readable nor writable", () => work.map(ram, 0x1000_0000n, MIB, { readable: false, writable: false }));
    bench.call("readable", () => work.map(ram, 0x1000_0000n, MIB, { writable: false }));
    bench.call("writable", () => work.map(ram, 0x1100_0000n, MIB, { readable: false }));
    bench.call("one byte", () => work.map(ram, 0x1200_0000n, 1n));
    bench.call("a byte behind it", () => work.map(ram, 0x1200_0001n, 1n));
    bench.call("4095 bytes across pages", () => work.map(ram, 0x1200_0801n, 4095n));
    bench.call("an address that is not aligned as the iova is", () => work.map(ram, 0x1300_0000n, 0x1000n, { offset: 0x123 }));
    bench.call("at 0", () => work.map(ram, 0n, 0x1000n));
    bench.call("overlap at the front", () => work.map(ram, 0x0ff0_0000n, 0x20_0000n));
    bench.call("overlap at the end", () => work.map(ram, 0x1008_0000n, MIB));
    bench.call("around what is mapped", () => work.map(ram, 0x0ff0_0000n, 0x40_0000n));
    bench.call("within what is mapped", () => work.map(ram, 0x1001_0000n, 0x1000n));
    bench.call("the last page", () => work.map(ram, U64_MAX - 0xfffn, 0x1000n));
    bench.call("the last byte but one", () => work.map(ram, U64_MAX - 1n, 1n));
    bench.call("iova 2^64 - 1", () => work.map(ram, U64_MAX, 1n));
    bench.call("length 2^64 - 1", () => work.map(ram, 0x2000_0000n, U64_MAX));
    bench.call("length 2^64 - 2", () => work.map(ram, 0x2000_0000n, U64_MAX - 1n));
    bench.call("length 2^63 without fixed iova", () => work.map(ram, null, 1n << 63n));
    bench.call("memory that the process has not", () => work.map({ address: 0x1000, bytes: 0x1000, file: null }, 0x3000_0000n, 0x1000n));
    bench.call("one page without fixed iova", () => work.map(ram, null, 0x1000n));
    bench.call("another page without fixed iova", () => work.map(ram, null, 0x1000n));
    bench.call("three pages without fixed iova", () => work.map(ram, null, 0x3000n));
    bench.call("a table with what is mapped so", () => void work.table(0));
    bench.call("unmap all", () => work.unmap(0n, U64_MAX));
    bench.id("a table", () => work.table(0));
    bench.call("ranges with a table", () => `align=${work.iommufd.ioasIovaRanges(work.ioas).alignment}`);
    bench.call("one byte with a table", () => work.map(ram, 0x1200_0000n, 1n));
    bench.call("misaligned iova with a table", () => work.map(ram, 0x1200_0800n, 0x1000n));
    bench.call("misaligned address with a table", () => work.map(ram, 0x1200_0000n, 0x1000n, { offset: 0x800 }));
    bench.call("misaligned address without fixed iova, with a table", () => work.map(ram, null, 0x1000n, { offset: 0x800 }));
    bench.call("a page with a table", () => work.map(ram, 0x1200_0000n, 0x1000n));
    bench.call("readable with a table", () => work.map(ram, 0x1300_0000n, MIB, { writable: false }));
    bench.call("writable with a table", () => work.map(ram, 0x1400_0000n, MIB, { readable: false }));
    bench.call("memory that the process has not, with a table", () => work.map({ address: 0x1000, bytes: 0x1000, file: null }, 0x3000_0000n, 0x1000n));
    bench.call("nothing of it is mapped", () => work.unmap(0x3000_0000n, 0x1000n));
    bench.call("2 MiB with a table", () => work.map(ram, 0x4000_0000n, 0x20_0000n));
    bench.call("in the last page, with a table", () => work.map(ram, U64_MAX - 0xfffn, 0x1000n));
  },
};

const unmap: Group = {
  name: "IOAS_UNMAP",
  about: "holes, parts, ends",
  run: (bench) => {
    const work = new Work(bench);
    const ram = bench.memory(0x40_0000);
    const three = (): void => {
      for (const iova of [0x1000_0000n, 0x1010_0000n, 0x1030_0000n]) {
        bench.quiet(() => work.map(ram, iova));
      }
    };
    bench.call("of an unknown IOAS", () => work.unmap(0n, U64_MAX, UNKNOWN_ID));
    bench.call("all of an empty IOAS", () => work.unmap(0n, U64_MAX));
    bench.call("length 0", () => work.unmap(0x1000_0000n, 0n));
    bench.call("iova 0 and length 0", () => work.unmap(0n, 0n));
    bench.call("iova 2^64 - 1", () => work.unmap(U64_MAX, 1n));
    bench.call("iova 1 and length 2^64 - 1", () => work.unmap(1n, U64_MAX));
    bench.call("wrapping", () => work.unmap(U64_MAX - 0xfffn, 0x2000n));
    three();
    bench.call("the first half of a mapping", () => work.unmap(0x1000_0000n, 0x8_0000n));
    bench.call("the last half of a mapping", () => work.unmap(0x1008_0000n, 0x8_0000n));
    bench.call("the middle of a mapping", () => work.unmap(0x1004_0000n, 0x1000n));
    bench.call("a mapping and half of the next", () => work.unmap(0x1000_0000n, 0x18_0000n));
    bench.call("what is left of them", () => work.unmap(0x1000_0000n, 0x20_0000n));
    bench.quiet(() => work.unmap(0n, U64_MAX));
    three();
    bench.call("two that touch", () => work.unmap(0x1000_0000n, 0x20_0000n));
    three();
    bench.call("more than all three", () => work.unmap(0x0f00_0000n, 0x200_0000n));
    bench.call("the same again", () => work.unmap(0x0f00_0000n, 0x200_0000n));
    three();
    bench.call("from 0, all but the last byte of the space", () => work.unmap(0n, U64_MAX - 1n));
    bench.id("a table", () => work.table(0));
    three();
    bench.call("the first half of a mapping, with a table", () => work.unmap(0x1000_0000n, 0x8_0000n));
    bench.call("one, with a table", () => work.unmap(0x1010_0000n, MIB));
    bench.call("all, with a table", () => work.unmap(0n, U64_MAX));
  },
};

const copy: Group = {
  name: "IOAS_COPY",
  about: "within an IOAS and to another",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd } = work;
    const ram = bench.memory(0x40_0000);
    const other = bench.id("another IOAS", () => iommufd.ioasAlloc());
    bench.quiet(() => work.map(ram, 0x1000_0000n));
    bench.quiet(() => work.map(ram, 0x1010_0000n, MIB, { offset: 0x10_0000 }));
    bench.quiet(() => work.map(ram, 0x2000_0000n, MIB, { writable: false }));
    const make = (srcIova: bigint, length: bigint, dstIova: bigint | null, rights: { readable?: boolean; writable?: boolean; src?: number; dst?: number } = {}): string => {
      const { readable = true, writable = true, src = work.ioas, dst = other } = rights;
      return `iova=${hex(iommufd.ioasCopy({ dstIoasId: dst, srcIoasId: src, length, dstIova, srcIova, readable, writable }))}`;
    };
    bench.call("all of a mapping", () => make(0x1000_0000n, MIB, 0x4000_0000n));
    bench.call("the same again", () => make(0x1000_0000n, MIB, 0x4000_0000n));
    bench.call("a part of a mapping", () => make(0x1004_0000n, 0x1000n, 0x5000_0000n));
    bench.call("two that touch", () => make(0x1000_0000n, 0x20_0000n, 0x6000_0000n));
    bench.call("a mapping and a hole", () => make(0x1010_0000n, 0x20_0000n, 0x7000_0000n));
    bench.call("a hole", () => make(0x3000_0000n, MIB, 0x7000_0000n));
    bench.call("without fixed iova", () => make(0x1000_0000n, MIB, null));
    bench.call("into the same IOAS", () => make(0x1000_0000n, MIB, 0x8000_0000n, { dst: work.ioas }));
    bench.call("writable of what is readable alone", () => make(0x2000_0000n, MIB, 0x9000_0000n));
    bench.call("readable of what is readable alone", () => make(0x2000_0000n, MIB, 0x9000_0000n, { writable: false }));
    bench.call("neither readable nor writable", () => make(0x1000_0000n, MIB, 0xa000_0000n, { readable: false, writable: false }));
    bench.call("length 0", () => make(0x1000_0000n, 0n, 0xa000_0000n));
    bench.call("length 2^64 - 1", () => make(0x1000_0000n, U64_MAX, 0xa000_0000n));
    bench.call("wrapping at the source", () => make(U64_MAX - 0xfffn, 0x2000n, 0xa000_0000n));
    bench.call("wrapping at the target", () => make(0x1000_0000n, MIB, U64_MAX - 0xfffn));
    bench.call("from an unknown IOAS", () => make(0x1000_0000n, MIB, 0xa000_0000n, { src: UNKNOWN_ID }));
    bench.call("to an unknown IOAS", () => make(0x1000_0000n, MIB, 0xa000_0000n, { dst: UNKNOWN_ID }));
    bench.call("unmap the source", () => work.unmap(0x1000_0000n, MIB));
    bench.call("unmap the copy", () => work.unmap(0x4000_0000n, MIB, other));
    bench.id("a table of the target", () => work.table(0, other));
    bench.call("with a table", () => make(0x1010_0000n, MIB, 0xb000_0000n));
    bench.call("misaligned, with a table", () => make(0x1010_0000n, 0x1000n, 0xc000_0800n));
  },
};

const ranges: Group = {
  name: "IOAS_ALLOW_IOVAS",
  about: "allowed ranges, and what they do to places and attachments",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device } = work;
    const ram = bench.memory(0x20_0000);
    const allow = (...list: ReadonlyArray<readonly [bigint, bigint]>): void => iommufd.ioasAllowIovas(work.ioas, list.map(([start, last]) => ({ start, last })));
    bench.call("ranges of an unknown IOAS", () => void iommufd.ioasIovaRanges(UNKNOWN_ID));
    bench.call("of an unknown IOAS", () => iommufd.ioasAllowIovas(UNKNOWN_ID, []));
    bench.call("none", () => allow());
    bench.call("one range", () => allow([0x4000_0000n, 0x7fff_ffffn]));
    bench.call("a mapping within it", () => work.map(ram, 0x4000_0000n));
    bench.call("a mapping outside of it", () => work.map(ram, 0x1000_0000n));
    bench.call("a mapping without fixed iova", () => work.map(ram, null));
    bench.call("ranges", () => work.ranges());
    bench.call("two ranges", () => allow([0x1000_0000n, 0x1fff_ffffn], [0x4000_0000n, 0x7fff_ffffn]));
    bench.call("two in the wrong order", () => allow([0x4000_0000n, 0x7fff_ffffn], [0x1000_0000n, 0x1fff_ffffn]));
    bench.call("two that overlap", () => allow([0x1000_0000n, 0x4fff_ffffn], [0x4000_0000n, 0x7fff_ffffn]));
    bench.call("two that touch", () => allow([0x1000_0000n, 0x3fff_ffffn], [0x4000_0000n, 0x7fff_ffffn]));
    bench.call("one that ends before it begins", () => allow([0x4000_0000n, 0x3fff_ffffn]));
    bench.call("one of a byte", () => allow([0x4000_0000n, 0x4000_0000n]));
    bench.call("all", () => allow([0n, U64_MAX]));
    bench.call("a table where all are allowed", () => void work.table(0));
    bench.call("none again", () => allow());
    bench.call("attach the IOAS", () => device.attach(work.ioas));
    bench.call("all while it is attached", () => allow([0n, U64_MAX]));
    bench.call("some while it is attached", () => allow([0x4000_0000n, 0x7fff_ffffn]));
    bench.call("detach", () => device.detach());
    bench.call("map what the IOMMU or the platform reserves", () => work.map(ram, reservedIova(bench.facts.iommu), 0x1000n));
    bench.call("attach with that mapped", () => device.attach(work.ioas));
    bench.call("unmap it", () => work.unmap(reservedIova(bench.facts.iommu), 0x1000n));
    bench.call("allow it", () => allow([reservedIova(bench.facts.iommu), reservedIova(bench.facts.iommu) + 0xfffn]));
    bench.call("attach with that allowed", () => device.attach(work.ioas));
    bench.call("allow none", () => allow());
    bench.call("attach without", () => device.attach(work.ioas));
    bench.call("map what is reserved while it is attached", () => work.map(ram, reservedIova(bench.facts.iommu), 0x1000n));
  },
};

/** A page of the window for MSIs: Arm's (0x8000000 to 0x80fffff in Linux's drivers), the processor's on x86. */
function reservedIova(iommu: string): bigint {
  return iommu === "smmuv3" ? 0x800_0000n : 0xfee0_0000n;
}

const options: Group = {
  name: "OPTION",
  about: "RLIMIT_MODE and HUGE_PAGES",
  run: (bench) => {
    const fresh = bench.openIommufd();
    const { RLIMIT_MODE, HUGE_PAGES } = OptionId;
    bench.call("RLIMIT_MODE get", () => `${fresh.option(RLIMIT_MODE, "get", 0, 0n)}`);
    bench.call("RLIMIT_MODE get of object 1", () => `${fresh.option(RLIMIT_MODE, "get", 1, 0n)}`);
    bench.call("RLIMIT_MODE set 2", () => void fresh.option(RLIMIT_MODE, "set", 0, 2n));
    bench.call("RLIMIT_MODE set 1", () => void fresh.option(RLIMIT_MODE, "set", 0, 1n));
    bench.call("RLIMIT_MODE get then", () => `${fresh.option(RLIMIT_MODE, "get", 0, 0n)}`);
    bench.call("RLIMIT_MODE set 0", () => void fresh.option(RLIMIT_MODE, "set", 0, 0n));
    const work = new Work(bench);
    const { iommufd } = work;
    bench.call("RLIMIT_MODE set where there are objects", () => void iommufd.option(RLIMIT_MODE, "set", 0, 1n));
    bench.call("RLIMIT_MODE set 2 where there are objects", () => void iommufd.option(RLIMIT_MODE, "set", 0, 2n));
    bench.call("HUGE_PAGES get", () => `${iommufd.option(HUGE_PAGES, "get", work.ioas, 0n)}`);
    bench.call("HUGE_PAGES set 2", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 2n));
    bench.call("HUGE_PAGES set 0", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 0n));
    bench.call("HUGE_PAGES get then", () => `${iommufd.option(HUGE_PAGES, "get", work.ioas, 0n)}`);
    bench.call("alignment then", () => `align=${iommufd.ioasIovaRanges(work.ioas).alignment}`);
    bench.call("HUGE_PAGES set 1", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 1n));
    bench.call("HUGE_PAGES of an unknown IOAS", () => `${iommufd.option(HUGE_PAGES, "get", UNKNOWN_ID, 0n)}`);
    bench.call("HUGE_PAGES of the device", () => `${iommufd.option(HUGE_PAGES, "get", work.devId, 0n)}`);
    const ram = bench.memory(0x20_0000);
    bench.call("map a byte", () => work.map(ram, 0x1000_0000n, 1n));
    bench.call("HUGE_PAGES set 0 with that", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 0n));
    bench.call("unmap it", () => work.unmap(0x1000_0000n, 1n));
    bench.call("map 2 MiB", () => work.map(ram, 0x4000_0000n, 0x20_0000n));
    bench.id("a table", () => work.table(0));
    bench.call("HUGE_PAGES set 0 with a table and mappings", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 0n));
    bench.call("HUGE_PAGES set 1 with a table and mappings", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 1n));
    bench.call("unmap all", () => work.unmap(0n, U64_MAX));
    bench.call("HUGE_PAGES set 0 with a table", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 0n));
    bench.call("map 2 MiB of pages", () => work.map(ram, 0x4000_0000n, 0x20_0000n));
    bench.call("HUGE_PAGES set 1 with a table and pages", () => void iommufd.option(HUGE_PAGES, "set", work.ioas, 1n));
    bench.call("unknown option", () => `${iommufd.option(7, "get", 0, 0n)}`);
  },
};

/** IOAS_MAP_FILE. */
function mapFile(work: Work, fd: number, offset: number, length: bigint, iova: bigint | null = 0x1000_0000n, { rights = true, ioas = work.ioas } = {}): string {
  return `iova=${hex(work.iommufd.ioasMap({ ioasId: ioas, source: { fd, offset }, length, iova, readable: rights, writable: rights }))}`;
}

const files: Group = {
  name: "IOAS_MAP_FILE",
  about: "mappings of files in memory, without a table and with one",
  needs: ["files"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd } = work;
    const { fd, offset } = bench.memory(0x20_0000).file!;
    bench.call("of a file", () => mapFile(work, fd, offset, MIB));
    bench.call("of the same part again", () => mapFile(work, fd, offset, MIB, 0x2000_0000n));
    bench.call("length 0", () => mapFile(work, fd, offset, 0n, 0x3100_0000n));
    bench.call("CHANGE_PROCESS", () => bench.ioctl(iommufd.fd, request(0x92), structure([[4, 8], [4, 0]])));
    bench.id("a table of what is mapped", () => work.table(0));
    bench.call("with a table", () => mapFile(work, fd, offset, MIB, 0x3000_0000n));
    bench.call("beyond the end, with a table", () => mapFile(work, fd, 0, 0x1000_0000n, 0x1_0000_0000n));
    bench.call("from the middle of a page, with a table", () => mapFile(work, fd, offset + 0x800, 0x1000n, 0x5000_0000n));
    bench.call("unmap it", () => work.unmap(0x1000_0000n, MIB));
    const other = bench.id("another IOAS", () => iommufd.ioasAlloc());
    bench.call("beyond the end", () => mapFile(work, fd, 0, 0x1000_0000n, 0x1_0000_0000n, { ioas: other }));
    bench.call("a table of what is beyond the end", () => void work.table(0, other));
    bench.call("unmap what is beyond the end", () => work.unmap(0x1_0000_0000n, 0x1000_0000n, other));
    bench.call("from the middle of a page", () => mapFile(work, fd, offset + 0x800, 0x1000n, 0x3000_0000n, { ioas: other }));
    bench.call("a table of the middle of a page", () => void work.table(0, other));
  },
};

const noFiles: Group = {
  name: "files of no memory",
  about: "IOAS_MAP_FILE of descriptors that nothing can be mapped of",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device } = work;
    bench.call("a descriptor that is closed", () => mapFile(work, NO_FD, 0, MIB));
    bench.call("descriptor -1", () => mapFile(work, -1, 0, MIB));
    bench.call("neither readable nor writable", () => mapFile(work, NO_FD, 0, MIB, 0n, { rights: false }));
    bench.call("length 2^64 - 1", () => mapFile(work, NO_FD, 0, U64_MAX));
    bench.call("iova 2^64 - 1", () => mapFile(work, NO_FD, 0, 0x1000n, U64_MAX));
    bench.call("an iommufd", () => mapFile(work, iommufd.fd, 0, MIB));
    bench.call("a table of that", () => iommufd.destroy(work.table(0)));
    bench.call("unmap that", () => work.unmap(0x1000_0000n, MIB));
    bench.call("the character device", () => mapFile(work, device.fd, 0, MIB));
    bench.call("a table of the character device", () => iommufd.destroy(work.table(0)));
    bench.call("unmap the character device", () => work.unmap(0x1000_0000n, MIB));
    bench.id("a table", () => work.table(0));
    bench.call("an iommufd, with a table", () => mapFile(work, iommufd.fd, 0, MIB));
    bench.call("the character device, with a table", () => mapFile(work, device.fd, 0, MIB));
  },
};

export const ioasGroups: readonly Group[] = [ioas, map, unmap, copy, ranges, options, files, noFiles];
