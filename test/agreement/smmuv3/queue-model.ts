/**
 * The architecture's command and event queue, plainly (Arm IHI 0070 3.5, 4 and 7), with switches for what QEMU does
 * instead: what `reference.ts` is for translation.
 */
import { CMD, encodeCommand, EVENT, extract, GERROR, get, OP, REG } from "../../../src/smmuv3/spec/index.js";
import { RAM } from "./layout.js";

export const QUEUE_QUIRKS = ["S-40", "S-41", "S-42", "S-43", "S-44", "S-45"] as const;
export type QueueQuirk = (typeof QUEUE_QUIRKS)[number];

const CR0_EVENTQEN = 4;
const CR0_CMDQEN = 8;
const OVERFLOW = 2 ** 31;
const CERROR_ILL = 1;
const CERROR_ABT = 2;

const STAGE1_COMMANDS: readonly number[] = [OP.CFGI_CD, OP.CFGI_CD_ALL, OP.TLBI_NH_ALL, OP.TLBI_NH_ASID, OP.TLBI_NH_VA, OP.TLBI_NH_VAA];
const STAGE2_COMMANDS: readonly number[] = [OP.TLBI_S12_VMALL, OP.TLBI_S2_IPA];
const ALWAYS: readonly number[] = [OP.PREFETCH_CONFIG, OP.PREFETCH_ADDR, OP.CFGI_STE, OP.CFGI_STE_RANGE, OP.TLBI_NSNH_ALL, OP.SYNC];
const WITH_SSEC: readonly number[] = [OP.PREFETCH_CONFIG, OP.PREFETCH_ADDR, OP.CFGI_STE, OP.CFGI_STE_RANGE, OP.CFGI_CD, OP.CFGI_CD_ALL];
const RANGED: readonly number[] = [OP.TLBI_NH_VA, OP.TLBI_NH_VAA, OP.TLBI_S2_IPA];
/** Not offered by IDR0, taken by every QEMU. */
const NOT_OFFERED: readonly number[] = [
  OP.TLBI_EL3_ALL, OP.TLBI_EL3_VA, OP.TLBI_EL2_ALL, OP.TLBI_EL2_ASID, OP.TLBI_EL2_VA, OP.TLBI_EL2_VAA, OP.ATC_INV, OP.PRI_RESP, OP.RESUME, OP.STALL_TERM,
];

export interface QueueMachine {
  readonly stages: "1" | "2" | "nested";
  /** The QEMU judges stage-2 commands; older ones take them. */
  readonly judgesStage2: boolean;
  /** StreamIDs behind which there is a function. */
  readonly streams: readonly number[];
}

export class QueueModel {
  private readonly registers = new Map<number, bigint>();
  private readonly memory = new Map<number, Int32Array>();

  constructor(
    private readonly machine: QueueMachine,
    private readonly quirks: ReadonlySet<QueueQuirk>,
  ) {}

  private get(offset: number): number {
    return Number((this.registers.get(offset) ?? 0n) & 0xffff_ffffn);
  }

  private set(offset: number, value: number): void {
    this.registers.set(offset, BigInt(value));
  }

  get active(): number {
    return (this.get(REG.GERROR) ^ this.get(REG.GERRORN)) >>> 0;
  }

  reads(offset: number): number {
    return this.get(offset);
  }

  enabled(bit: number): boolean {
    return (this.get(REG.CR0) & bit) !== 0;
  }

  private place(offset: number): { base: number; entries: number; mask: number } {
    const value = this.registers.get(offset) ?? 0n;
    const log2Size = Number(value & 0x1fn);
    return { base: Number(value & 0xf_ffff_ffff_ffe0n), entries: 1 << log2Size, mask: (2 << log2Size) - 1 };
  }

  /** A command at an address. */
  store(address: number, words: Int32Array): void {
    this.memory.set(address, words);
  }

  write(offset: number, value: bigint): void {
    this.registers.set(offset, value);
    if (offset === REG.CR0 || offset === REG.CMDQ_PROD || offset === REG.GERRORN) {
      this.drain();
    }
  }

  private raise(error: number): void {
    this.set(REG.GERROR, (this.get(REG.GERROR) ^ (error & ~this.active)) >>> 0);
  }

  private drain(): void {
    const { base, entries, mask } = this.place(REG.CMDQ_BASE);
    while (this.enabled(CR0_CMDQEN) && (this.active & GERROR.CMDQ_ERR.inPlace) === 0) {
      const at = this.get(REG.CMDQ_CONS) & mask;
      const left = (this.get(REG.CMDQ_PROD) - at) & mask;
      if (left === 0 || (left > entries && !this.quirks.has("S-45"))) {
        return;
      }
      const address = base + 16 * (at & (entries - 1));
      const error = address >= RAM.base + RAM.size ? CERROR_ABT : this.illegal(this.memory.get(address) ?? new Int32Array(4)) ? CERROR_ILL : 0;
      if (error !== 0) {
        this.set(REG.CMDQ_CONS, at + error * 0x100_0000);
        this.raise(GERROR.CMDQ_ERR.inPlace);
        return;
      }
      this.set(REG.CMDQ_CONS, (this.get(REG.CMDQ_CONS) & 0x7f00_0000) + ((at + 1) & mask));
    }
  }

  private illegal(words: Int32Array): boolean {
    const { stages, judgesStage2, streams } = this.machine;
    const opcode = get(words, CMD.OPCODE);
    const odd = this.quirks.has("S-40");
    if (odd && NOT_OFFERED.includes(opcode)) {
      return false;
    }
    if (odd && !judgesStage2 && STAGE2_COMMANDS.includes(opcode)) {
      return false;
    }
    const loose = this.quirks.has("S-41");
    if (WITH_SSEC.includes(opcode) && get(words, CMD.SSEC) !== 0 && !(loose && (opcode === OP.PREFETCH_CONFIG || opcode === OP.PREFETCH_ADDR))) {
      return true;
    }
    if (opcode === OP.CFGI_CD || opcode === OP.CFGI_CD_ALL) {
      return stages === "2" && !(this.quirks.has("S-42") && !streams.includes(words[1] >>> 0));
    }
    const offered =
      ALWAYS.includes(opcode) || (stages !== "2" && STAGE1_COMMANDS.includes(opcode)) || (stages !== "1" && STAGE2_COMMANDS.includes(opcode));
    if (!offered) {
      return true;
    }
    if (loose) {
      return false;
    }
    if (opcode === OP.SYNC) {
      return get(words, CMD.SYNC_CS) === 3;
    }
    // 4.4.1.1: a range of one page without a level.
    const third = words[2];
    const granule = extract(third, CMD.TG);
    const level = extract(third, CMD.TTL);
    return RANGED.includes(opcode) && granule !== 0 && get(words, CMD.NUM) === 0 && (get(words, CMD.SCALE) & 31) === 0 && (level === 0 || (granule === 2 && level === 1));
  }

  /** A transaction whose StreamID is beyond the table. */
  fault(): void {
    if (!this.enabled(CR0_EVENTQEN)) {
      return;
    }
    if ((this.active & GERROR.EVENTQ_ABT_ERR.inPlace) !== 0 && !this.quirks.has("S-44")) {
      return;
    }
    const { base, entries, mask } = this.place(REG.EVENTQ_BASE);
    const prod = this.get(REG.EVENTQ_PROD_PAGE0);
    const cons = this.get(REG.EVENTQ_CONS_PAGE0);
    const used = (prod - cons) & mask;
    if (this.quirks.has("S-43") ? used === entries : used >= entries) {
      if (this.quirks.has("S-43")) {
        this.raise(GERROR.EVENTQ_ABT_ERR.inPlace);
      } else if ((prod ^ cons) >>> 31 === 0) {
        this.set(REG.EVENTQ_PROD_PAGE0, (prod ^ OVERFLOW) >>> 0);
      }
      return;
    }
    if (base >= RAM.base + RAM.size) {
      this.raise(GERROR.EVENTQ_ABT_ERR.inPlace);
      return;
    }
    this.set(REG.EVENTQ_PROD_PAGE0, ((prod & ~mask) | ((prod + 1) & mask)) >>> 0);
  }
}

export const SYNC = encodeCommand(OP.SYNC);
export const FAULT_EVENT = EVENT.C_BAD_STREAMID;
