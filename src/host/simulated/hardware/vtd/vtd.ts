import { get, highWord, lowWord, toNumber } from "../../../../support/index.js";
import {
  DESCRIPTOR_PROBLEMS,
  DescriptorRules,
  deviceRangeBits,
  dropCached,
  BLOCKED,
  featuresOf,
  heldEntries,
  KIND_TRANSLATED,
  KIND_TRANSLATION_REQUEST,
  KIND_UNTRANSLATED,
  NO_PASID,
  PASID_NESTED,
  TRANSLATED,
  type VtdFeatures,
  VtdTranslator,
} from "../../../../vtd/lookup/index.js";
import {
  DESCRIPTOR_TYPE,
  descriptorType,
  DEVICE_TLB_DESC,
  FAULT,
  GCMD,
  PASID_DEVICE_TLB_DESC,
  RTADDR,
  WAIT_DESC,
} from "../../../../vtd/spec/index.js";
import type { HeldEntry } from "../../../../translation/index.js";
import type { PhysicalMemory } from "../physical-memory.js";
import { HardwareUnit } from "../unit.js";
import { capabilityRegisters } from "./capability-registers.js";
import type { VtdDescription } from "../../file/index.js";

/** In place of an IQEI code: a wait descriptor after a device-TLB invalidation that was not answered (FSTS.ITE). */
export const INVALIDATION_TIMEOUT = -1;

/** Bits of host-physical addresses: what page tables hold. */
const HOST_ADDRESS_BITS = 52;

/**
 * Called with each fault record: the four words of a fault recording register (11.4.7.6), to be copied;
 * whose fault it is: "first" that of the first stage of a nested PASID entry, "tables" one that the second stage
 * met on the way to that one's tables, "other" another of a nested entry, "own" one without a nested entry.
 */
export type FaultListener = (record: Int32Array, origin: "first" | "tables" | "other" | "own") => void;

/**
 * A physical Intel VT-d remapping unit. Its root, context and PASID tables are the host kernel's, in host
 * memory; it reads them, keeps what it has read (context cache, PASID cache, IOTLB) and drops nothing but by
 * descriptors of the invalidation queue. Interrupts pass: the host's interrupt remapping is not simulated.
 */
export class HardwareVtd extends HardwareUnit<VtdDescription, FaultListener> {
  /** CAP and ECAP as read from the registers: see `capabilityRegisters`. */
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly features: VtdFeatures;
  /** VT-d ends no request well without memory. */
  readonly outDiscarded = false;

  protected readonly translator: VtdTranslator;
  private readonly rules: DescriptorRules;
  private readonly words = new Int32Array(4);
  /** A device-TLB invalidation since the last wait descriptor was not answered. */
  private timedOut = false;

  constructor(
    description: VtdDescription,
    private readonly memory: PhysicalMemory,
  ) {
    super(description);
    const { cap, ecap } = capabilityRegisters(description);
    this.cap = cap;
    this.ecap = ecap;
    this.features = { ...featuresOf(cap, ecap, HOST_ADDRESS_BITS), updatesReadOnly: this.hasErratum("772415") };
    this.translator = new VtdTranslator(memory.words, this.features);
    this.rules = new DescriptorRules(Int32Array.of(lowWord(cap), highWord(cap)), Int32Array.of(lowWord(ecap), highWord(ecap)));
  }

  onFault(listener: FaultListener): void {
    this.listeners.push(listener);
  }

  /** HPA of the root table. */
  get rootTable(): number {
    return this.translator.rootTable;
  }

  /** RTADDR and GCMD.SRTP: the root table and the mode (TTM_*). All caches are dropped (CAP.ESRTPS). */
  setRootTable(address: number, mode: number): void {
    this.translator.rootTable = address;
    this.translator.mode = mode;
    this.translator.reset();
  }

  /** GCMD.TE. */
  enableTranslation(on: boolean): void {
    this.translator.enabled = on;
  }

  /**
   * Executes one descriptor of the invalidation queue (6.5.2); the upper half of a wide one is zero.
   *
   * @returns 0; an IQEI code where the descriptor is invalid; INVALIDATION_TIMEOUT
   */
  submit(w0: number, w1: number, w2: number, w3: number): number {
    const { words, translator } = this;
    words[0] = w0;
    words[1] = w1;
    words[2] = w2;
    words[3] = w3;
    const type = descriptorType(w0);
    this.countCommand(type);
    const problem = this.rules.problem(w0, w1, w2, w3, 0, type, translator.mode);
    if (problem !== 0) {
      return DESCRIPTOR_PROBLEMS[problem].iqei;
    }
    if (dropCached(translator, words)) {
      return 0;
    }
    switch (type) {
      case DESCRIPTOR_TYPE.DEVICE_TLB:
        this.invalidateDevice(get(words, DEVICE_TLB_DESC.SID), NO_PASID, false);
        return 0;
      case DESCRIPTOR_TYPE.PASID_DEVICE_TLB:
        this.invalidateDevice(
          get(words, PASID_DEVICE_TLB_DESC.SID),
          get(words, PASID_DEVICE_TLB_DESC.PASID),
          get(words, PASID_DEVICE_TLB_DESC.G) !== 0,
        );
        return 0;
      case DESCRIPTOR_TYPE.WAIT:
        return this.wait();
      default:
        // Interrupt entries are not cached.
        return 0;
    }
  }

  /** Translates an untranslated request. A blocked one has been recorded where the architecture wants that. */
  translate(requesterId: number, pasid: number, high: number, low: number, access: number): boolean {
    return this.pass(requesterId, pasid, high, low, access, KIND_UNTRANSLATED) > BLOCKED;
  }

  /** Answers an ATS translation request: 0 also where the completion wants untranslated requests. */
  translationRequest(requesterId: number, pasid: number, high: number, low: number, access: number): number {
    const answer = this.pass(requesterId, pasid, high, low, access, KIND_TRANSLATION_REQUEST);
    return answer < 0 || this.translator.outUntranslatedOnly ? 0 : this.translator.outPermissions;
  }

  translated(requesterId: number, pasid: number, high: number, low: number, access: number): boolean {
    return this.pass(requesterId, pasid, high, low, access, KIND_TRANSLATED) >= 0;
  }

  /** What it goes by, for who looks. It has no queue in memory. */
  registers(): Map<string, bigint> {
    const { enabled, rootTable, mode } = this.translator;
    const status = rootTable === 0 && !enabled ? 0 : GCMD.SRTP.inPlace | (enabled ? GCMD.TE.inPlace : 0);
    return new Map([
      ["CAP", this.cap],
      ["ECAP", this.ecap],
      ["GSTS", BigInt(status >>> 0)],
      ["RTADDR", BigInt(rootTable) | BigInt(mode << RTADDR.TTM.shift)],
    ]);
  }

  /** What it has cached, for who looks. */
  held(): Generator<HeldEntry> {
    return heldEntries(this.translator);
  }

  /** Its tables are the kernel's. */
  close(): void {
    this.listeners.length = 0;
  }

  private pass(requesterId: number, pasid: number, high: number, low: number, access: number, kind: number): number {
    const { translator, counters } = this;
    this.begin();
    const answer = translator.translate(requesterId, pasid, high, low, access, kind);
    this.end(answer, answer === TRANSLATED && kind !== KIND_TRANSLATED);
    if (answer < 0 && translator.hasFault) {
      counters.events++;
      for (const listener of this.listeners) {
        listener(translator.record, this.faultOrigin());
      }
    }
    return answer;
  }

  private faultOrigin(): "first" | "tables" | "other" | "own" {
    const { entryKind, faultStage, faultOnTables, reason } = this.translator;
    if (entryKind !== PASID_NESTED) {
      return "own";
    }
    // SRE, canonical addresses and the interrupt range are no tables' fault; in a nested entry the guest has said all.
    const isGuests = faultStage === 1 || reason === FAULT.SM_SRE || reason === FAULT.SM_NOT_CANONICAL || reason === FAULT.SM_INTERRUPT_RANGE;
    return isGuests ? "first" : faultOnTables ? "tables" : "other";
  }

  /** 6.5.2.5, 6.5.2.6. */
  private invalidateDevice(requesterId: number, pasid: number, global: boolean): void {
    const target = this.targets.get(requesterId);
    if (target === undefined) {
      return;
    }
    const { words } = this;
    const bits = deviceRangeBits(words);
    const highMask = bits >= 64 ? 0 : bits > 32 ? -1 << (bits - 32) : -1;
    const lowMask = bits >= 32 ? 0 : -1 << bits;
    if (!target.invalidateCache(pasid, global, words[3] & highMask, words[2] & lowMask, bits)) {
      this.timedOut = true;
    }
  }

  /** 6.5.2.8: its status write; the completion interrupt is nobody's here. */
  private wait(): number {
    const { words } = this;
    if (this.timedOut) {
      this.timedOut = false;
      return INVALIDATION_TIMEOUT;
    }
    if (get(words, WAIT_DESC.SW) !== 0) {
      this.memory.write(toNumber(words[3], words[2] & ~3), new Uint8Array(Int32Array.of(words[1]).buffer));
    }
    return 0;
  }
}

