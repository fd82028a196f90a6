import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { placeArm64Linux, readArm64Image } from "../../src/boot/index.js";
import { Refusal } from "../../src/support/index.js";

const MIB = 2 ** 20;

/** An Image with the header of Linux 6.x: text_offset 0, image_size, flags 0xa (4K pages, placed anywhere). */
function image(change: (view: DataView) => void = () => {}, length = 4096): Uint8Array {
  const file = new Uint8Array(length);
  const view = new DataView(file.buffer);
  view.setUint32(0, 0xfa40_5a4d, true);
  view.setBigUint64(16, 0x180_0000n, true);
  view.setBigUint64(24, 0xan, true);
  view.setUint32(56, 0x644d_5241, true);
  change(view);
  return file;
}

function zboot(payload: Uint8Array, compression: string): Uint8Array {
  const file = Buffer.alloc(128 + payload.length);
  file.write("MZ", 0, "latin1");
  file.write("zimg", 4, "latin1");
  file.writeUInt32LE(128, 8);
  file.writeUInt32LE(payload.length, 12);
  file.write(compression, 24, "latin1");
  file.set(payload, 128);
  return file;
}

function refused(act: () => unknown): Refusal {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(Refusal);
    return error as Refusal;
  }
  throw new Error("taken");
}

describe("the Image of an arm64 Linux", () => {
  it("tells where it is put, what memory it takes, and its pages", () => {
    const { payload, textOffset, bytes, pageSize } = readArm64Image(image(), "k");
    expect([payload.length, textOffset, bytes, pageSize]).toEqual([4096, 0, 0x180_0000, "4 KiB"]);
    const moved = readArm64Image(image((view) => view.setBigUint64(8, 0x8_0000n, true)), "k");
    expect(moved.textOffset).toBe(0x8_0000);
  });

  it("of a kernel before 3.17 has no size: its offset is 512 KiB", () => {
    const { textOffset, bytes } = readArm64Image(image((view) => view.setBigUint64(16, 0n, true)), "k");
    expect([textOffset, bytes]).toEqual([0x8_0000, 4096]);
  });

  it("is read out of gzip and of an EFI zboot image", () => {
    expect(readArm64Image(gzipSync(image()), "k").payload.length).toBe(4096);
    expect(readArm64Image(zboot(gzipSync(image()), "gzip"), "k").bytes).toBe(0x180_0000);
  });

  it("says what a file is that is none", () => {
    const found = (file: Uint8Array): string => refused(() => readArm64Image(file, "k")).found ?? "";
    const bz = new Uint8Array(2048);
    new DataView(bz.buffer).setUint32(0x202, 0x5372_6448, true);
    const elf = new Uint8Array(2048);
    elf.set([0x7f, 0x45, 0x4c, 0x46]);
    elf[18] = 183;
    expect(found(bz)).toBe("a bzImage for x86");
    expect(found(elf)).toBe("an ELF file for AArch64 (a vmlinux)");
    expect(found(gzipSync(elf))).toBe("an ELF file for AArch64 (a vmlinux)");
    expect(found(new Uint8Array(10))).toBe("10 bytes without the magic of an Image");
    expect(found(gzipSync(image()).subarray(0, 40))).toContain("a gzip file that cannot be decompressed");
    expect(found(zboot(image(), "lzma"))).toBe("an EFI zboot image with lzma");
    expect(found(image((view) => view.setBigUint64(24, 0xbn, true)))).toBe("k: a big-endian kernel");
  });
});

describe("places for an arm64 Linux", () => {
  const ram = { base: 0x4000_0000, size: 512 * MIB };

  it("are a multiple of 2 MiB behind the tables, and 128 MiB from the start of RAM for the ramdisk", () => {
    expect(placeArm64Linux(readArm64Image(image(), "k"), 5000, ram, 0x2_0000)).toEqual({ instruction: 0x4020_0000, ramdisk: { base: 0x4800_0000, size: 5000 } });
    expect(placeArm64Linux(readArm64Image(image((view) => view.setBigUint64(8, 0x8_0000n, true)), "k"), 0, ram, 3 * MIB)).toEqual({ instruction: 0x4048_0000, ramdisk: null });
  });

  it("are half of a small RAM, behind a large kernel", () => {
    const small = { base: 0x4000_0000, size: 64 * MIB };
    expect(placeArm64Linux(readArm64Image(image(), "k"), 5000, small, 0x2_0000).ramdisk!.base).toBe(0x4200_0000);
    const large = readArm64Image(image((view) => view.setBigUint64(16, BigInt(40 * MIB), true)), "k");
    expect(placeArm64Linux(large, 5000, small, 0x2_0000).ramdisk!.base).toBe(0x4000_0000 + 42 * MIB);
  });

  it("are refused with the memory that would do", () => {
    const small = { base: 0x4000_0000, size: 16 * MIB };
    expect(refused(() => placeArm64Linux(readArm64Image(image(), "k"), 0, small, 0)).wouldWork).toBe("-m 24M");
    const disk = (megabytes: number): number | undefined => placeArm64Linux(readArm64Image(image(), "k"), 40 * MIB, { ...small, size: megabytes * MIB }, 0x1_0000).ramdisk?.base;
    expect(refused(() => disk(64)).wouldWork).toBe("-m 80M, or a smaller -initrd");
    expect(disk(80)).toBe(0x4000_0000 + 40 * MIB);
  });
});
