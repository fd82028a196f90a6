/** Trace events of the same accesses, as viommu's program and a QEMU print them: names, arguments, order, form. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { CMD_WORDS, encodeCommand, OP, REG } from "../../src/smmuv3/spec/index.js";
import { compile, play } from "../qtest/process.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { againstQemus } from "./suite.js";
import { COMMAND_QUEUE, EVENT_QUEUE } from "./smmuv3/layout.js";
import { EDU_DEVFN, LEGACY_SMMU } from "./smmuv3/machines.js";

/** Those that both have and that do not depend on what an implementation caches or calls a memory region. */
const PATTERNS = ["smmuv3_cmdq_*", "smmuv3_*_mmio", "smmuv3_range_inval", "smmuv3_write_gerror*", "smmuv3_trigger_irq", "smmu_iotlb_inv_*", "smmu_configs_inv_sid_range"];
const MACHINE = ["-machine", "virt,iommu=smmuv3,gic-version=3", "-cpu", "max", "-m", "512", "-nodefaults", "-device", `edu,addr=0x${(EDU_DEVFN >> 3).toString(16)}`];

const QUEUE_BITS = 5;
const SID = EDU_DEVFN;
/** CR0 with everything on; IRQ_CTRL with both wired interrupts. */
const [ENABLED, INTERRUPTS] = [0xd, 0x5];

const COMMANDS: ReadonlyArray<readonly [opcode: number, operands: Readonly<Record<string, number | bigint>>]> = [
  [OP.CFGI_STE, { SID, LEAF: 1 }],
  [OP.CFGI_STE_RANGE, { SID: 0xf0, RANGE: 3 }],
  [OP.CFGI_STE_RANGE, { RANGE: 31 }],
  [OP.CFGI_CD, { SID, LEAF: 1 }],
  [OP.CFGI_CD_ALL, { SID }],
  [OP.TLBI_NH_ALL, {}],
  [OP.TLBI_NH_ASID, { ASID: 0x1234 }],
  [OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1000_0000n, LEAF: 1 }],
  [OP.TLBI_NH_VA, { ASID: 1, ADDRESS: 0x1000_0000n, NUM: 3, SCALE: 1, TG: 1, TTL: 3 }],
  [OP.TLBI_NH_VAA, { ADDRESS: 0xffff_ffff_ffff_f000n }],
  [OP.TLBI_S12_VMALL, { VMID: 7 }],
  [OP.TLBI_S2_IPA, { VMID: 7, ADDRESS: 0x4000n }],
  [OP.TLBI_NSNH_ALL, {}],
  [OP.PREFETCH_CONFIG, { SID }],
  [OP.SYNC, {}],
  [OP.SYNC, { SYNC_CS: 1 }],
  // Illegal: the queue stops here.
  [0xff, {}],
];

async function traces(command: readonly string[]): Promise<string[]> {
  const played = await play(command, [...MACHINE, ...PATTERNS.flatMap((pattern) => ["-trace", pattern])]);
  const { client } = played;
  const write = (offset: number, size: 4 | 8, value: number | bigint) => client.write(LEGACY_SMMU + offset, size, BigInt(value));
  await write(REG.CMDQ_BASE, 8, COMMAND_QUEUE | QUEUE_BITS);
  await write(REG.EVENTQ_BASE, 8, EVENT_QUEUE | QUEUE_BITS);
  await write(REG.IRQ_CTRL, 4, INTERRUPTS);
  await write(REG.CR0, 4, ENABLED);
  const ring = new Int32Array(CMD_WORDS * COMMANDS.length);
  COMMANDS.forEach(([opcode, operands], n) => ring.set(encodeCommand(opcode, operands), n * CMD_WORDS));
  await client.writeMemory(COMMAND_QUEUE, new Uint8Array(ring.buffer));
  await write(REG.CMDQ_PROD, 4, COMMANDS.length);
  await client.read(LEGACY_SMMU + REG.CMDQ_CONS, 4);
  await client.read(LEGACY_SMMU + REG.GERROR, 4);
  await write(REG.GERRORN, 4, 1);
  await client.read(LEGACY_SMMU + REG.CMDQ_BASE, 8);
  await played.end();
  return played
    .out()
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => /^smmu(v3)?_/.test(line));
}

let built: ReturnType<typeof compile>;
let ours: string[];

beforeAll(async () => {
  built = compile();
  ours = await traces([...built.command, "run", "--quiet", "--"]);
}, 120_000);
afterAll(() => built.remove());

const old = (program: QemuProgram): string | null => (atLeast(program.version, 11, 1) ? null : "the events are those of 11.1");

againstQemus("aarch64", "traces", old, (program) => {
  it("have QEMU's names, arguments, order and form", async () => {
    const theirs = await traces(program.command);
    console.log(`${program.name}: traces: ${theirs.length} lines of ${new Set(theirs.map((line) => line.split(" ")[0])).size} events`);
    expect(theirs.length).toBeGreaterThan(60);
    expect(ours).toEqual(theirs);
  });
});
