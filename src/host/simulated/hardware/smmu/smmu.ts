import { ACCESS_EXECUTE, ACCESS_WRITE, type HeldEntry } from "../../../../translation/index.js";
import {
  ABORTED,
  CommandRules,
  dropCached,
  featuresOf,
  heldEntries,
  KIND_ATS_REQUEST,
  KIND_ATS_TRANSLATED,
  KIND_TRANSACTION,
  type LookupFeatures,
  READ_AS_ZERO,
  StreamTranslator,
  TRANSLATED,
} from "../../../../smmuv3/lookup/index.js";
import {
  ATC_SIZE_ALL,
  CERROR_ATC_INV_SYNC,
  CERROR_ILL,
  CERROR_NONE,
  CMD,
  CR0,
  CR2,
  deposit,
  extract,
  get,
  getAddress,
  IDR0,
  IDR1,
  isCfgiOrTlbi,
  OP,
  STRTAB_BASE_CFG,
  SYNC_CS_IRQ,
} from "../../../../smmuv3/spec/index.js";
import { NO_PASID } from "../device-cache.js";
import { DirtyState } from "./dirty-state.js";
import type { KnownSmmu } from "../known.js";
import { HostStreamTable } from "./stream-table.js";
import type { PhysicalMemory } from "../physical-memory.js";
import { HardwareUnit } from "../unit.js";
import { shownIdRegisters } from "./id-registers.js";
import { LostCommands } from "./lost-commands.js";

/**
 * A physical SMMUv3 with the part of its driver that is plain wiring: the stream table in host memory, the
 * command queue and the event queue. Translation on, ATS checks on (CR0.SMMUEN, CR0.ATSCHK), as Linux
 * resets it. Nothing cached is dropped but by commands.
 */
export class HardwareSmmu extends HardwareUnit<KnownSmmu, (record: Int32Array) => void> {
  /** IDR0 to IDR5 as read from the registers: see `shownIdRegisters`. */
  readonly idr: Int32Array;
  readonly features: LookupFeatures;
  private readonly rules: CommandRules;
  /** CD.A = 0. */
  outDiscarded = false;

  protected readonly translator: StreamTranslator;
  private readonly table: HostStreamTable;
  private readonly dirtyState: DirtyState;
  private readonly keepsDirtyState: boolean;
  private readonly words = new Int32Array(4);
  /** Erratum T264-SMMU-3; null: it has it not. */
  private readonly losesFirst: LostCommands | null;
  /** A CMD_ATC_INV since the last CMD_SYNC was not answered. */
  private invalidationTimedOut = false;

  constructor(
    description: KnownSmmu,
    private readonly memory: PhysicalMemory,
    streamIds: readonly number[],
  ) {
    super(description);
    this.idr = shownIdRegisters(description);
    this.features = featuresOf(this.idr);
    this.rules = new CommandRules(this.idr);
    this.table = new HostStreamTable(memory, extract(this.idr[0], IDR0.ST_LEVEL) !== 0, extract(this.idr[1], IDR1.SIDSIZE), streamIds);
    this.translator = new StreamTranslator(memory.words, this.features);
    this.dirtyState = new DirtyState(memory.words, this.features);
    this.keepsDirtyState = this.features.httu === 2;
    this.translator.enabled = true;
    this.translator.atsCheck = true;
    this.translator.recordInvalidSid = true;
    this.translator.table.base = this.table.base;
    this.translator.table.format = this.table.format;
    this.translator.table.split = this.table.split;
    this.translator.table.log2Size = this.table.log2Size;
    this.losesFirst = this.hasErratum("nvidia-t264-smmu-3") ? new LostCommands() : null;
  }

  get iidr(): number {
    return this.description.iidr;
  }

  get aidr(): number {
    return this.description.aidr;
  }

  /** Devices' accesses are coherent, No-Snoop included (IORT's CANWBS). */
  get coherent(): boolean {
    return this.description.coherent;
  }

  /** Stores an STE (sixteen words) into the stream table in memory; the SMMU sees it after a CMD_CFGI_STE. */
  writeSte(streamId: number, words: Int32Array): void {
    this.table.write(streamId, words);
  }

  /** The STE that memory has for a StreamID, sixteen words. */
  readSte(streamId: number): Int32Array {
    return this.table.read(streamId);
  }

  /** Called with each event record: eight words, to be copied. */
  onEvent(listener: (record: Int32Array) => void): void {
    this.listeners.push(listener);
  }

  /**
   * Executes one command of the Non-secure command queue (Arm IHI 0070, chapter 4).
   *
   * @returns CERROR_NONE, CERROR_ILL where the command is not one of this SMMU, CERROR_ATC_INV_SYNC of a
   *   CMD_SYNC after an ATS invalidation that was not answered
   */
  command(w0: number, w1: number, w2: number, w3: number): number {
    const { words } = this;
    words[0] = w0;
    words[1] = w1;
    words[2] = w2;
    words[3] = w3;
    const opcode = get(words, CMD.OPCODE);
    this.countCommand(opcode);
    if (!this.rules.admit(words)) {
      return CERROR_ILL;
    }
    if (this.losesFirst !== null && isCfgiOrTlbi(opcode) && !this.losesFirst.isSecond(words)) {
      return CERROR_NONE;
    }
    switch (opcode) {
      case OP.PREFETCH_CONFIG:
      case OP.PREFETCH_ADDR:
        return this.hasErratum("hisilicon-161010101") ? CERROR_ILL : CERROR_NONE;
      case OP.ATC_INV:
        this.invalidateDevice(words[1] >>> 0);
        return CERROR_NONE;
      case OP.SYNC:
        return this.synchronize();
      default:
        dropCached(this.translator, words);
        return CERROR_NONE;
    }
  }

  /**
   * Translates an Untranslated transaction.
   *
   * @param ssid SubstreamID, -1 without one
   * @param access ACCESS_*
   * @returns whether it may go on; with `outDiscarded` it ends well without memory. Else its event, if the
   *   architecture has one, has been recorded.
   */
  translate(streamId: number, ssid: number, high: number, low: number, access: number): boolean {
    const answer = this.pass(streamId, ssid, high, low, access, KIND_TRANSACTION);
    this.outDiscarded = answer === READ_AS_ZERO;
    return answer >= 0 || this.outDiscarded;
  }

  /**
   * Answers an ATS Translation Request (3.9.1.2). `access` holds what is asked for; reading always is.
   *
   * @returns ACCESS_* bits of read, write and execute that are granted; 0: none, or not an answer of success
   */
  translationRequest(streamId: number, ssid: number, high: number, low: number, access: number): number {
    const answer = this.pass(streamId, ssid, high, low, access, KIND_ATS_REQUEST);
    return answer < 0 ? 0 : this.translator.outPermissions;
  }

  /** Checks a Translated transaction (3.9.1.3), which has no use for a SubstreamID; returns whether it may go on. */
  translated(streamId: number, _ssid: number, high: number, low: number, access: number): boolean {
    this.outDiscarded = false;
    return this.pass(streamId, NO_PASID, high, low, access, KIND_ATS_TRANSLATED) >= 0;
  }

  /** What it goes by, for who looks. It has no queues in memory. */
  registers(): Map<string, bigint> {
    const { idr, table } = this;
    const enables = CR0.SMMUEN.inPlace | CR0.EVENTQEN.inPlace | CR0.CMDQEN.inPlace | CR0.ATSCHK.inPlace;
    const configuration = deposit(deposit(deposit(0, STRTAB_BASE_CFG.LOG2SIZE, table.log2Size), STRTAB_BASE_CFG.SPLIT, table.split), STRTAB_BASE_CFG.FMT, table.format);
    const words: Array<[string, number]> = [
      ...Array.from(idr, (value, n): [string, number] => [`IDR${n}`, value]),
      ["IIDR", this.iidr],
      ["AIDR", this.aidr],
      ["CR0", enables],
      ["CR0ACK", enables],
      ["CR2", CR2.RECINVSID.inPlace],
      ["STRTAB_BASE", table.base],
      ["STRTAB_BASE_CFG", configuration],
    ];
    return new Map(words.map(([name, value]) => [name, name === "STRTAB_BASE" ? BigInt(value) : BigInt(value >>> 0)]));
  }

  /** What it has cached, for who looks. */
  held(): Generator<HeldEntry> {
    return heldEntries(this.translator);
  }

  /** Gives the stream table's memory back. */
  close(): void {
    this.table.close();
  }

  private pass(streamId: number, ssid: number, high: number, low: number, access: number, kind: number): number {
    const { translator, counters } = this;
    this.begin();
    if (kind === KIND_ATS_REQUEST && this.keepsDirtyState && (access & ACCESS_WRITE) !== 0) {
      // 3.13: a request for write permission makes the page dirty, since the writes to come are not seen.
      this.walkDirty(streamId, ssid, high, low, access & ~ACCESS_EXECUTE, KIND_TRANSACTION);
    }
    const answer = this.walkDirty(streamId, ssid, high, low, access, kind);
    this.end(answer, answer === TRANSLATED);
    if (translator.hasEvent) {
      counters.events++;
      for (const listener of this.listeners) {
        listener(translator.event);
      }
    }
    return answer;
  }

  /** Translates; a write to a clean page that hardware may make dirty does so and is tried again, once a stage. */
  private walkDirty(streamId: number, ssid: number, high: number, low: number, access: number, kind: number): number {
    const { translator } = this;
    for (let round = 0; ; round++) {
      translator.event[0] = 0;
      const answer = translator.translate(streamId, ssid, high, low, access, kind);
      if (answer !== ABORTED || !this.keepsDirtyState || round === 2 || !this.table.has(streamId)) {
        return answer;
      }
      if (!this.dirtyState.update(translator.event, this.table.read(streamId))) {
        return answer;
      }
    }
  }

  /** CMD_ATC_INV (4.5.1): an Invalidate Request to the function with that StreamID, if there is one. */
  private invalidateDevice(sid: number): void {
    const { words } = this;
    const target = this.targets.get(sid);
    if (target === undefined) {
      return;
    }
    const hasPasid = get(words, CMD.SSV) !== 0;
    const size = get(words, CMD.ATC_SIZE);
    const answered = target.invalidateCache(
      hasPasid ? get(words, CMD.SSID) : NO_PASID,
      hasPasid && get(words, CMD.GLOBAL) !== 0,
      words[3],
      words[2] & ~0xfff,
      size >= ATC_SIZE_ALL ? 64 : 12 + size,
    );
    if (!answered) {
      this.invalidationTimedOut = true;
    }
  }

  /** CMD_SYNC (4.7.3): its message, and the error of an earlier ATS invalidation. */
  private synchronize(): number {
    const { words } = this;
    this.losesFirst?.synchronized();
    if (this.invalidationTimedOut) {
      this.invalidationTimedOut = false;
      return CERROR_ATC_INV_SYNC;
    }
    const address = getAddress(words, CMD.SYNC_MSIADDRESS);
    if (get(words, CMD.SYNC_CS) === SYNC_CS_IRQ && address !== 0 && extract(this.idr[0], IDR0.MSI) !== 0) {
      const data = new Uint8Array(Int32Array.of(words[1]).buffer);
      this.memory.write(address, data);
    }
    return CERROR_NONE;
  }
}
