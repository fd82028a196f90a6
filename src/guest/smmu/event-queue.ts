/** The event queue's consumer (Arm IHI 0070, 3.5 and 7), as Linux's event thread runs it, and decoded records. */
import {
  EVENT,
  EVENTQ_ENTRY_BYTES,
  EVENT_WORDS,
  EVT,
  REG,
  eventName,
  get,
  getWide,
} from "../../smmuv3/spec/index.js";
import type { DecodedEvent } from "../iommu/events.js";
import type { GuestMemory } from "../memory.js";
import type { RegisterAccess } from "./command-queue.js";

const OVERFLOW = 0x8000_0000;

/** Decodes a record of eight words. Fields that its event number does not have are what the words hold there. */
export function decodeEvent(words: Int32Array, iommu: string): DecodedEvent {
  const number = get(words, EVT.NUMBER);
  // C_BAD_SUBSTREAMID always has a SubstreamID and no SSV (7.3.9).
  const ssv = get(words, EVT.SSV) === 1 || number === EVENT.C_BAD_SUBSTREAMID;
  const event = {
    iommu,
    name: eventName(number),
    number,
    streamId: get(words, EVT.SID),
    substreamId: ssv ? get(words, EVT.SSID) : null,
    inputAddress: getWide(words, EVT.INPUT_ADDR),
    ipa: getWide(words, EVT.IPA),
    fetchAddress: getWide(words, EVT.FETCH_ADDR),
    read: get(words, EVT.RNW) === 1,
    instruction: get(words, EVT.IND) === 1,
    privileged: get(words, EVT.PNU) === 1,
    stage2: get(words, EVT.S2) === 1,
    faultClass: get(words, EVT.CLASS),
    stall: get(words, EVT.STALL) === 1,
    stag: get(words, EVT.STAG),
    translationRelated: number >= EVENT.F_TRANSLATION && number <= EVENT.F_PERMISSION,
    words: [...words].map((word) => word >>> 0),
  };
  return { ...event, text: formatSmmuEvent(event) };
}

/** A line such as Linux prints for an event. */
function formatSmmuEvent(event: Omit<DecodedEvent, "text">): string {
  const ssid = event.substreamId === null ? "" : ` ssid 0x${event.substreamId.toString(16)}`;
  const head = `${event.name} sid 0x${event.streamId.toString(16)}${ssid}`;
  if (event.translationRelated) {
    const kind = `${event.privileged ? "priv" : "unpriv"} ${event.instruction ? "inst" : "data"} ${event.read ? "read" : "write"}`;
    return `${head} iova 0x${event.inputAddress.toString(16)} ${kind} ${event.stage2 ? "s2" : "s1"} ${["CD", "TT", "IN", "reserved"][event.faultClass ?? 0]}`;
  }
  return head;
}

export class EventQueue {
  private prod = 0;
  private cons = 0;
  /** How often the queue had overflown when it was read. */
  overflows = 0;

  constructor(
    private readonly name: string,
    private readonly registers: RegisterAccess,
    private readonly memory: GuestMemory,
    readonly base: number,
    readonly log2Entries: number,
  ) {}

  get producer(): number {
    return this.prod;
  }

  get consumer(): number {
    return this.cons;
  }

  /** Takes all records: EVENTQ_CONS is moved after each, overflow is acknowledged at the end. */
  async drain(sink: (event: DecodedEvent) => void): Promise<void> {
    const wrapMask = (2 << this.log2Entries) - 1;
    const empty = (): boolean => ((this.prod ^ this.cons) & wrapMask) === 0;
    do {
      while (!empty()) {
        const at = this.base + (this.cons & ((1 << this.log2Entries) - 1)) * EVENTQ_ENTRY_BYTES;
        const words = await this.memory.readWords(at, EVENT_WORDS);
        this.cons = ((this.cons & OVERFLOW) | ((this.cons + 1) & wrapMask)) >>> 0;
        await this.registers.write32(REG.EVENTQ_CONS, this.cons);
        sink(decodeEvent(words, this.name));
      }
      const prod = (await this.registers.read32(REG.EVENTQ_PROD)) >>> 0;
      if (((prod ^ this.prod) & OVERFLOW) !== 0) {
        this.overflows++;
      }
      this.prod = prod;
    } while (!empty());
    if (((this.prod ^ this.cons) & OVERFLOW) !== 0) {
      this.cons = ((this.prod & OVERFLOW) | (this.cons & wrapMask)) >>> 0;
      await this.registers.write32(REG.EVENTQ_CONS, this.cons);
    }
  }
}
