import { describe, expect, it } from "vitest";
import { loadX86Linux, type MapEntry, readBzImage, readVmlinux } from "../../src/boot/index.js";
import { Refusal } from "../../src/support/index.js";

/** A bzImage with a setup of one sector, a header to 0x268 and 0x1000 bytes of payload. */
function image(change: (view: DataView) => void = () => {}): Uint8Array {
  const file = new Uint8Array(512 * 2 + 0x1000).fill(0xcc, 512 * 2);
  const view = new DataView(file.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x200, 0xeb);
  view.setUint8(0x201, 0x66);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint8(0x234, 1);
  view.setUint16(0x236, 0x3f, true);
  view.setUint32(0x238, 2047, true);
  view.setBigUint64(0x258, 0x100_0000n, true);
  view.setUint32(0x260, 0x80_0000, true);
  change(view);
  return file;
}

const MAP: MapEntry[] = [
  { base: 0, size: 0x9_fc00, type: 1 },
  { base: 0x10_0000, size: 0x7ef_0000, type: 1 },
  { base: 0x7ff_0000, size: 0x1_0000, type: 3 },
];

function load(options: { kernel?: Uint8Array; ramdisk?: Uint8Array; line?: string; map?: MapEntry[] }): { writes: Map<number, Buffer>; entry: ReturnType<typeof loadX86Linux> } {
  const writes = new Map<number, Buffer>();
  const entry = loadX86Linux(
    { kernel: readBzImage(options.kernel ?? image(), "k"), ramdisk: options.ramdisk ?? null, commandLine: options.line ?? "", memoryMap: options.map ?? MAP, acpiRoot: 0x7ff_0000, descriptors: [0n, 0n, 1n, 2n] },
    (address, bytes) => {
      writes.set(address, Buffer.from(bytes));
      return true;
    },
  );
  return { writes, entry };
}

const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(Refusal);
    return (error as Refusal).message;
  }
  throw new Error("taken");
};

describe("starting Linux on x86", () => {
  it("puts the kernel at its preferred address and enters it 0x200 behind", () => {
    const { writes, entry } = load({});
    expect(writes.get(0x100_0000)!.length).toBe(0x1000);
    expect(entry).toEqual({ instruction: 0x100_0200, bootParameters: 0x7000, pageTables: 0x9000, descriptors: 0x500 });
  });

  it("fills struct boot_params: header, loader, command line, memory map, ACPI root", () => {
    const { writes } = load({ line: "console=ttyS0" });
    const parameters = writes.get(0x7000)!;
    expect(parameters.length).toBe(4096);
    expect(parameters.readUInt32LE(0x202)).toBe(0x5372_6448);
    expect([parameters[0x210], parameters[0x211] & 1]).toEqual([0xff, 1]);
    expect(writes.get(parameters.readUInt32LE(0x228))!.toString("latin1")).toBe("console=ttyS0\0");
    expect(parameters.readBigUInt64LE(0x70)).toBe(0x7ff_0000n);
    expect(parameters[0x1e8]).toBe(3);
    expect([parameters.readBigUInt64LE(0x2d0 + 20), parameters.readBigUInt64LE(0x2d0 + 28), parameters.readUInt32LE(0x2d0 + 36)]).toEqual([0x10_0000n, 0x7ef_0000n, 1]);
    expect(parameters.readUInt32LE(0x260)).toBe(0x80_0000);
  });

  it("puts the ramdisk as high as RAM and the kernel's limit allow, above what the kernel needs", () => {
    const { writes } = load({ ramdisk: new Uint8Array(5000) });
    const parameters = writes.get(0x7000)!;
    expect([parameters.readUInt32LE(0x218), parameters.readUInt32LE(0x21c)]).toEqual([0x7ff_0000 - 0x2000, 5000]);
    const low = load({ ramdisk: new Uint8Array(5000), kernel: image((view) => view.setUint32(0x22c, 0x3ff_ffff, true)) });
    expect(low.writes.get(0x7000)!.readUInt32LE(0x218)).toBe(0x400_0000 - 0x2000);
    expect(refusal(() => load({ ramdisk: new Uint8Array(0x700_0000) }))).toContain("the initial ramdisk does not fit into memory");
  });

  it("maps 4 GiB one to one by pages of 2 MiB", () => {
    const tables = load({}).writes.get(0x9000)!;
    expect(tables.length).toBe(6 * 4096);
    expect([tables.readBigUInt64LE(0), tables.readBigUInt64LE(0x1000), tables.readBigUInt64LE(0x1018)]).toEqual([0xa003n, 0xb003n, 0xe003n]);
    expect([tables.readBigUInt64LE(0x2000), tables.readBigUInt64LE(0x2008), tables.readBigUInt64LE(0x5ff8)]).toEqual([0x83n, 0x20_0083n, 0xffe0_0083n]);
  });

  it("moves a kernel that can be moved, and refuses one without a place", () => {
    const small: MapEntry[] = [{ base: 0x10_0000, size: 0xb0_0000, type: 1 }];
    expect(load({ map: small }).entry.instruction).toBe(0x20_0200);
    expect(refusal(() => load({ map: [{ base: 0x10_0000, size: 0x10_0000, type: 1 }] }))).toContain("does not fit into memory");
    expect(refusal(() => load({ map: small, kernel: image((view) => view.setUint8(0x234, 0)) }))).toContain("does not fit into memory");
  });

  it("says what a file is that is no such kernel", () => {
    const arm = new Uint8Array(2048);
    new DataView(arm.buffer).setUint32(56, 0x644d_5241, true);
    const elf = new Uint8Array(2048);
    elf.set([0x7f, 0x45, 0x4c, 0x46]);
    elf[18] = 62;
    const found = (file: Uint8Array): string => {
      try {
        readBzImage(file, "k");
      } catch (error) {
        return (error as Refusal).found ?? "";
      }
      return "taken";
    };
    expect(found(arm)).toBe("an Image for AArch64");
    expect(found(elf)).toBe("an ELF file for x86-64 (a vmlinux)");
    expect(found(image((view) => view.setUint16(0x236, 0, true)))).toBe("k: a kernel of 32 bits");
    expect(found(image((view) => view.setUint16(0x206, 0x0206, true)))).toBe("k: boot protocol 2.6");
    expect(found(new Uint8Array(10))).toBe("10 bytes without the boot flag and magic of a bzImage");
  });

  it("refuses a command line that the kernel would cut", () => {
    expect(refusal(() => load({ line: "x".repeat(2048) }))).toContain("command line is too long");
  });
});

describe("a vmlinux", () => {
  /** An ELF-64 of two segments to load, the second with zeros behind its bytes, and one that is not to be loaded. */
  function elf(change: (view: DataView) => void = () => {}): Uint8Array {
    const file = new Uint8Array(0x400);
    const view = new DataView(file.buffer);
    view.setUint32(0, 0x7f45_4c46);
    view.setUint8(4, 2);
    view.setUint16(18, 62, true);
    view.setBigUint64(24, 0x100_0010n, true);
    view.setBigUint64(32, 64n, true);
    view.setUint16(54, 56, true);
    view.setUint16(56, 3, true);
    const segments: Array<[type: number, offset: number, address: number, bytes: number, size: number]> = [
      [1, 0x200, 0x100_0000, 0x100, 0x100],
      [1, 0x300, 0x120_0000, 0x40, 0x3000],
      [4, 0x340, 0, 0x20, 0x20],
    ];
    segments.forEach(([type, offset, address, bytes, size], n) => {
      view.setUint32(64 + 56 * n, type, true);
      [offset, 0, address, bytes, size].forEach((word, index) => view.setBigUint64(64 + 56 * n + 8 * (index + 1), BigInt(word), true));
    });
    file.fill(0x11, 0x200, 0x300).fill(0x22, 0x300, 0x340);
    change(view);
    return file;
  }

  it("is loaded by its segments, zeros behind them, and entered at its own entry", () => {
    const writes = new Map<number, Uint8Array>();
    const kernel = readVmlinux(elf(), "vmlinux")!;
    const request = { kernel, ramdisk: new Uint8Array(0x2000).fill(7), commandLine: "quiet", memoryMap: MAP, acpiRoot: null, descriptors: [0n, 0n, 1n, 2n] };
    const entry = loadX86Linux(request, (address, bytes) => writes.set(address, bytes).size > 0);
    expect(entry.instruction).toBe(0x100_0010);
    expect([...writes].filter(([address]) => address >= 0x100_0000 && address < 0x200_0000).map(([address, bytes]) => [address, bytes.length, bytes[0]])).toEqual([
      [0x100_0000, 0x100, 0x11],
      [0x120_0000, 0x40, 0x22],
      [0x120_0040, 0x2fc0, 0],
    ]);
    const parameters = Buffer.from(writes.get(0x7000)!);
    expect([parameters.readUInt16LE(0x1fe), parameters.readUInt32LE(0x202), parameters.readUInt16LE(0x206)]).toEqual([0xaa55, 0x5372_6448, 0x020f]);
    expect(writes.get(parameters.readUInt32LE(0x218))).toEqual(request.ramdisk);
  });

  it("is another file where it begins otherwise, and refused where it cannot be entered", () => {
    expect(readVmlinux(image(), "k")).toBeNull();
    expect(readVmlinux(new Uint8Array(3), "k")).toBeNull();
    expect(refusal(() => readVmlinux(elf((view) => view.setUint16(18, 183, true)), "k"))).toContain("an ELF file for AArch64");
    expect(refusal(() => readVmlinux(elf((view) => view.setBigUint64(24, 0xffff_ffff_8100_0000n, true)), "k"))).toContain("its entry 0x");
    expect(refusal(() => readVmlinux(elf((view) => view.setUint16(56, 60_000, true)), "k"))).toContain("60000 program headers");
    expect(refusal(() => readVmlinux(elf((view) => view.setBigUint64(64 + 32, 2n ** 40n, true)), "k"))).toContain("a segment of");
    expect(refusal(() => readVmlinux(elf((view) => view.setBigUint64(64 + 24, 2n ** 33n, true)), "k"))).toContain("at 0x200000000");
  });
});
