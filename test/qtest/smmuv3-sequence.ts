/**
 * The sequence of QEMU's own iommu-smmuv3-test (tests/qtest/libqos/qos-smmuv3.c, qos-iommu-testdev.c): the
 * same register writes, tables at the same fixed addresses, one DMA of 4 bytes by iommu-testdev. Stage 1 and
 * stage 2 share their tables.
 */
import type { QtestClient } from "../../src/qtest/index.js";

export const SEQUENCE_ARGUMENTS = "-machine virt,acpi=off,gic-version=3,iommu=smmuv3 -smp 1 -m 512 -cpu max -net none -device iommu-testdev";

export type Mode = "stage 1" | "stage 2" | "nested";
export const MODES: readonly Mode[] = ["stage 1", "stage 2", "nested"];
const CONFIG: Record<Mode, number> = { "stage 1": 5, "stage 2": 6, nested: 7 };

const ECAM = 0x40_1000_0000;
const BAR = 0x1000_0000;
const SMMU = 0x0905_0000;
/** Where virt's RAM begins: the tables are at fixed places in it. */
const RAM = 0x4000_0000n;
const IOVA = 0x80_8060_4567n;
const ROOT_TABLE = 0x0e4d_0000n + RAM;
/** The table that every entry of level 0, 1 and 2 leads to. */
const NEXT = [0x0e4d_1000n + RAM, 0x0e4d_2000n + RAM, 0x0e4d_3000n + RAM];
/** Where the IOVA leads to. */
const PAGE = 0x0ecb_a000n + RAM;
const STREAM_TABLE = 0x0e17_9000n + RAM;
const CONTEXT = STREAM_TABLE - 0x40n;
const COMMANDS = 0x0e16_b000n + RAM;
const EVENTS = 0x0e17_0000n + RAM;
const ADDRESS = 0x0000_ffff_ffff_f000n;
const TABLE_BITS = 0x8000_0000_0000_0003n;
/** Bits 7:6 of a leaf: 1 is read and write in stage 1, read only in stage 2; 3 is read only in stage 1, read and write in stage 2. */
const LEAF_1 = 0x0400_0000_0000_0763n;
const LEAF_3 = 0x0400_0000_0000_07e3n;

export interface Outcome {
  /** iommu-testdev's result: 0 where what it wrote was at the physical address. */
  readonly result: bigint;
  readonly memory: bigint;
  /** IDR0, IDR1, IDR5, CR0, CR0ACK, GERROR, CMDQ_CONS, EVENTQ_PROD after the DMA. */
  readonly registers: readonly bigint[];
}

export const GOOD: Pick<Outcome, "result" | "memory"> = { result: 0n, memory: 0x1234_5678n };

/** Runs one mode on a machine that has just started. */
export async function runSequence(qtest: QtestClient, mode: Mode): Promise<Outcome> {
  const slot = await findTestdev(qtest);
  const config = ECAM + slot * 0x8000;
  await configWrite(qtest, config + 0x10, [0xff, 0xff, 0xff, 0xff]);
  await configWrite(qtest, config + 0x10, [0, 0, 0, BAR >>> 24]);
  await configWrite(qtest, config + 4, [6, 0]);
  const target = PAGE + (IOVA & 0xfffn);
  await qtest.request(`memset ${hex(target)} 0x4 0x0`);
  await buildTables(qtest, mode, BigInt(slot * 8));
  await programRegisters(qtest);
  const result = await triggerDma(qtest, target);
  const memory = BigInt(await qtest.request(`read ${hex(target)} 0x4`));
  const registers = await Promise.all([0, 4, 0x14, 0x20, 0x24, 0x60, 0x9c, 0x100a8].map((at) => qtest.read(SMMU + at, 4)));
  // Bytes in memory's order.
  const swapped = Buffer.from(memory.toString(16).padStart(8, "0"), "hex").readUInt32LE();
  return { result, memory: BigInt(swapped), registers };
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

async function configWrite(qtest: QtestClient, address: number, bytes: number[]): Promise<void> {
  await qtest.request(`write ${hex(address)} ${hex(bytes.length)} 0x${Buffer.from(bytes).toString("hex")}`);
}

async function findTestdev(qtest: QtestClient): Promise<number> {
  for (let slot = 0; slot < 32; slot++) {
    // Vendor and device id 1b36:0005, read as libqos reads configuration space.
    if ((await qtest.request(`read ${hex(ECAM + slot * 0x8000)} 0x4`)) === "0x361b0500") {
      return slot;
    }
  }
  throw new Error("no iommu-testdev on bus 0");
}

async function triggerDma(qtest: QtestClient, target: bigint): Promise<bigint> {
  const registers: Array<[number, bigint]> = [
    [0x04, IOVA & 0xffff_ffffn],
    [0x08, IOVA >> 32n],
    [0x1c, target & 0xffff_ffffn],
    [0x20, target >> 32n],
    [0x0c, 4n],
    // Non-secure, and the space is said to be valid.
    [0x18, 0b1010n],
    [0x14, 1n],
  ];
  for (const [offset, value] of registers) {
    await qtest.write(BAR + offset, 4, value);
  }
  await qtest.read(BAR, 4);
  for (let i = 0; i < 1000; i++) {
    const result = await qtest.read(BAR + 0x10, 4);
    if (result !== 0xffff_fffen) {
      return result;
    }
  }
  throw new Error("iommu-testdev stays busy");
}

async function writeWords(qtest: QtestClient, address: bigint, words: readonly bigint[]): Promise<void> {
  for (const [i, word] of words.entries()) {
    const at = Number(address) + i * 4;
    await qtest.write(at, 4, word);
    if ((await qtest.read(at, 4)) !== word) {
      throw new Error(`the word at ${hex(at)} is not what was written`);
    }
  }
}

async function buildTables(qtest: QtestClient, mode: Mode, streamId: bigint): Promise<void> {
  const ste = new Array<bigint>(16).fill(0n);
  ste[0] = 1n | (BigInt(CONFIG[mode]) << 1n) | (CONTEXT & 0xffff_ffc0n);
  ste[1] = CONTEXT >> 32n;
  // S2T0SZ 20, S2SL0 2, S2TG 4 KiB, S2PS 48 bits, S2AA64 (Arm IHI 0070, 5.2).
  ste[5] = 0x14n | (2n << 6n) | (5n << 16n) | (1n << 19n);
  ste[6] = ROOT_TABLE & 0xffff_fff0n;
  ste[7] = ROOT_TABLE >> 32n;
  await writeWords(qtest, STREAM_TABLE + streamId * 64n, ste);
  if (mode !== "stage 2") {
    const cd = new Array<bigint>(16).fill(0n);
    // T0SZ 16, EPD1, V; IPS 44 bits, AA64, R, A, ASID 0x1e20; NSCFG0 and NSCFG1 (5.4).
    cd[0] = 0x10n | (1n << 30n) | (1n << 31n);
    cd[1] = 4n | (1n << 9n) | (1n << 13n) | (1n << 14n) | (0x1e20n << 16n);
    cd[2] = (ROOT_TABLE & 0xffff_fff0n) | 1n;
    cd[3] = ROOT_TABLE >> 32n;
    cd[4] = 1n;
    await writeWords(qtest, CONTEXT, cd);
  }
  // Where stage 1's tables are is an address for stage 2, so each level's entry is mapped there too.
  const tables = [ROOT_TABLE, ...NEXT];
  const leaf = PAGE | (mode === "stage 2" ? LEAF_3 : LEAF_1);
  for (let level = 0; level < 4; level++) {
    const entry = entryAddress(tables[level], level, IOVA);
    await mapInStage2(qtest, entry, LEAF_1);
    await qtest.write(Number(entry), 8, level < 3 ? NEXT[level] | TABLE_BITS : leaf);
  }
  await mapInStage2(qtest, leaf, LEAF_3);
  if (mode === "nested") {
    await mapInStage2(qtest, CONTEXT, LEAF_1);
  }
}

function entryAddress(table: bigint, level: number, address: bigint): bigint {
  return (table & ADDRESS) + ((address >> BigInt(39 - 9 * level)) & 0x1ffn) * 8n;
}

async function mapInStage2(qtest: QtestClient, ipa: bigint, leafBits: bigint): Promise<void> {
  const tables = [ROOT_TABLE, ...NEXT];
  for (let level = 0; level < 4; level++) {
    const value = level < 3 ? NEXT[level] | TABLE_BITS : (ipa & ADDRESS) | leafBits;
    await qtest.write(Number(entryAddress(tables[level], level, ipa)), 8, value);
  }
}

async function programRegisters(qtest: QtestClient): Promise<void> {
  const writes: Array<[offset: number, size: 4 | 8, value: bigint]> = [
    [0x44, 4, 0x8000_0000n],
    [0x20, 4, 0n],
    [0x28, 4, 0x0d75n],
    [0x90, 8, COMMANDS | 0x0an],
    [0x9c, 4, 0n],
    [0x98, 4, 0n],
    [0xa0, 8, EVENTS | 0x0an],
    [0x100a8, 4, 0n],
    [0x100ac, 4, 0n],
    // Linear, 32 streams.
    [0x88, 4, 5n],
    [0x80, 8, STREAM_TABLE],
    [0x20, 4, 0xdn],
  ];
  for (const [offset, size, value] of writes) {
    await qtest.write(SMMU + offset, size, value);
  }
}
