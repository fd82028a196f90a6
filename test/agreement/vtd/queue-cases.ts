/** Random uses of the invalidation queue: made along the architecture's model, played the same on both machines. */
import { FSTS, GCMD, REG } from "../../../src/vtd/spec/index.js";
import type { Random } from "../../fuzz/random.js";
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { QUEUE, STATUS } from "./layout.js";
import { type Offer, UNIT } from "./machines.js";
import { QueueModel, type QueueQuirk } from "./queue-model.js";

export type QueueStep =
  | { readonly do: "mode"; readonly mode: number }
  | { readonly do: "queue"; readonly size: number; readonly wide: boolean }
  | { readonly do: "enable"; readonly on: boolean }
  | { readonly do: "store"; readonly address: number; readonly words: readonly bigint[] }
  | { readonly do: "tail"; readonly tail: bigint }
  | { readonly do: "error" }
  | { readonly do: "completion" }
  | { readonly do: "mask"; readonly register: "fault" | "completion"; readonly on: boolean };

const QIE = GCMD.QIE.inPlace >>> 0;
const SRTP = GCMD.SRTP.inPlace >>> 0;
const IM = 0x8000_0000;
const IP = 0x4000_0000n;
/** Bytes of status words. */
const STATUS_BYTES = 64;

export function generateQueueCase(random: Random, offer: Offer): QueueStep[] {
  const model = new QueueModel(offer, new Set());
  const steps: QueueStep[] = [];
  const add = (step: QueueStep): void => {
    steps.push(step);
    apply(model, step);
  };
  const mode = offer.scalableMode ? random.pick([0, 0, 1, 1, 1, 1, 2, 3]) : 0;
  add({ do: "mode", mode });
  const wide = random.oneIn(12) ? random.oneIn(2) : mode === 1;
  const size = random.oneIn(4) ? random.below(4) : 0;
  add({ do: "queue", size, wide });
  add({ do: "enable", on: true });
  const bytes = wide ? 32 : 16;
  const end = 4096 << size;
  // A descriptor in error stops the queue: some cases have few of them.
  const wild = random.pick([3, 20, 200]);
  let tail = 0;
  for (let n = 0; n < 14; n++) {
    switch (random.below(10)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        for (let count = random.oneIn(10) ? random.below(end / bytes) : 1 + random.below(4); count > 0; count--) {
          const words = random.oneIn(wild) ? descriptor(random, wide) : plain(random, mode === 1);
          add({ do: "store", address: QUEUE + tail, words: wide ? words : words.slice(0, 2) });
          tail = (tail + bytes) % end;
        }
        add({ do: "tail", tail: BigInt(tail) });
        break;
      }
      case 4:
        add({ do: "error" });
        break;
      case 5:
      case 6: {
        // What Linux does about a descriptor in error: a wait in its place, then the acknowledgement, then the tail again.
        add({ do: "store", address: QUEUE + Number(model.headOffset), words: [0x25n, BigInt(STATUS), 0n, 0n].slice(0, wide ? 4 : 2) });
        add({ do: "error" });
        add({ do: "tail", tail: BigInt(tail) });
        break;
      }
      case 7:
        add({ do: "completion" });
        break;
      case 8:
        add({ do: "mask", register: random.pick(["fault", "completion"]), on: random.oneIn(2) });
        break;
      default:
        switch (random.below(6)) {
          case 0:
            add({ do: "tail", tail: BigInt((end + 16 * random.below(64)) & 0x7_fff0) });
            break;
          case 1:
            add({ do: "tail", tail: BigInt((tail + 16) % end) });
            break;
          case 2:
            add({ do: "enable", on: false });
            tail = 0;
            add({ do: "tail", tail: 0n });
            add({ do: "enable", on: true });
            break;
          default:
            add({ do: "tail", tail: BigInt(tail) });
        }
    }
  }
  return steps;
}

/** A wait, or what drivers send most. */
function plain(random: Random, scalable: boolean): bigint[] {
  const domain = BigInt(random.below(4)) << 16n;
  const always: Array<() => bigint[]> = [
    () => [0x25n | (BigInt(random.word()) << 32n), BigInt(STATUS + 4 * random.below(STATUS_BYTES / 4)), 0n, 0n],
    () => [0x15n | (random.oneIn(2) ? 0x40n : 0n), 0n, 0n, 0n],
    () => [0x11n, 0n, 0n, 0n],
    () => [0x31n | domain | (BigInt(random.below(256)) << 32n), 0n, 0n, 0n],
    () => [0x22n | domain | (random.oneIn(2) ? 0xc0n : 0n), 0n, 0n, 0n],
    () => [0x32n | domain, (random.wide() & 0xffff_ffff_f000n) | BigInt(random.below(19)), 0n, 0n],
    () => [0x4n, 0n, 0n, 0n],
    () => [0x14n | (BigInt(random.below(32)) << 27n) | (BigInt(random.below(256)) << 32n), 0n, 0n, 0n],
  ];
  const ofScalableMode: Array<() => bigint[]> = [
    () => [0x26n | domain, 0n, 0n, 0n],
    () => [0x36n | domain, (random.wide() & 0xffff_ffff_f000n) | BigInt(random.below(19)), 0n, 0n],
    () => [0x17n | domain, 0n, 0n, 0n],
    () => [0x37n, 0n, 0n, 0n],
  ];
  return random.pick(scalable ? [...always, ...ofScalableMode] : always)();
}

/** Anything, but no wait with both SW and IF, and none that writes where nothing undoes it. */
function descriptor(random: Random, wide: boolean): bigint[] {
  const words = random.oneIn(3) ? [BigInt(random.below(16)) | (BigInt(random.below(4)) << 4n), 0n, 0n, 0n] : plain(random, random.oneIn(2));
  if (random.oneIn(4)) {
    words[0] = (words[0] & ~0xe0fn) | BigInt(random.below(10)) | (random.oneIn(6) ? BigInt(random.below(8)) << 9n : 0n);
  }
  for (let flips = random.below(3); flips > 0; flips--) {
    words[random.below(wide ? 4 : 2)] ^= 1n << BigInt(random.below(64));
  }
  if ((words[0] & 0xfn) === 5n) {
    if ((words[0] & 0x30n) === 0x30n) {
      words[0] ^= 0x10n;
    }
    // Where the status goes is nobody's case; its reserved bits are.
    words[1] = BigInt(STATUS) | (words[1] & 3n);
  }
  return words;
}

function apply(model: QueueModel, step: QueueStep): void {
  switch (step.do) {
    case "mode":
      return model.setMode(step.mode);
    case "queue":
      return model.setQueue(QUEUE, step.size, step.wide);
    case "enable":
      return model.enable(step.on);
    case "store":
      return model.store(step.address, step.words);
    case "tail":
      return model.writeTail(step.tail);
    case "error":
      return model.acknowledgeError();
    case "completion":
      return model.acknowledgeCompletion();
    case "mask":
      return step.register === "fault" ? model.maskFault(step.on) : model.maskCompletion(step.on);
  }
}

interface Shown {
  readonly head: bigint;
  readonly enabled: boolean;
  readonly error: boolean;
  readonly reason: number;
  readonly complete: boolean;
  readonly completionPending: boolean;
  readonly faultPending: boolean;
}

const print = (shown: Shown): string =>
  `IQH ${shown.head.toString(16)}${shown.enabled ? " QIES" : ""}${shown.error ? ` IQE ${shown.reason}` : ""}${shown.complete ? " IWC" : ""}${shown.completionPending ? " IECTL.IP" : ""}${shown.faultPending ? " FECTL.IP" : ""}`;

/** The steps in words, with what was seen of them. */
export function describeSteps(steps: readonly QueueStep[], seen: Observation): string {
  return steps.map((step, n) => `    ${keyOf(n, step)}: ${seen[keyOf(n, step)] ?? ""}`).join("\n");
}

function keyOf(n: number, step: QueueStep): string {
  const values = Object.entries(step).map(([name, value]) => (name === "words" ? (value as readonly bigint[]).map((word) => word.toString(16)).join(":") : typeof value === "number" || typeof value === "bigint" ? `${name} ${value.toString(16)}` : String(value)));
  return `${String(n).padStart(3)} ${values.join(" ")}`;
}

/** What the registers show after each step but stores, and the status words at the end. */
export function expectQueueCase(steps: readonly QueueStep[], offer: Offer, quirks: ReadonlySet<QueueQuirk>): Observation {
  const model = new QueueModel(offer, quirks);
  const out: Observation = {};
  for (const [n, step] of steps.entries()) {
    apply(model, step);
    if (step.do !== "store") {
      out[keyOf(n, step)] = print(model.state);
    }
  }
  out.status = Array.from({ length: STATUS_BYTES / 4 }, (_unused, n) => (model.status.get(STATUS + 4 * n) ?? 0).toString(16)).join(" ");
  return out;
}

export class QueuePlayer {
  private queue = { size: 0, wide: false };

  constructor(
    readonly driver: Driver,
    private readonly offer: Offer,
  ) {}

  private write(offset: number, size: 4 | 8, value: number | bigint): void {
    this.driver.write(UNIT + offset, size, value);
  }

  private async show(): Promise<Shown> {
    const read = (offset: number, size: 4 | 8): Promise<bigint> => this.driver.read(UNIT + offset, size);
    const [head, status, errors, reason, complete, completion, fault] = await Promise.all([
      read(REG.IQH, 8), read(REG.GSTS, 4), read(REG.FSTS, 4), read(REG.IQERCD, 4), read(REG.ICS, 4), read(REG.IECTL, 4), read(REG.FECTL, 4),
    ]);
    return {
      head,
      enabled: (status & BigInt(QIE)) !== 0n,
      error: (errors & BigInt(FSTS.IQE.inPlace)) !== 0n,
      reason: Number(reason & 0xfn),
      complete: complete !== 0n,
      completionPending: (completion & IP) !== 0n,
      faultPending: (fault & IP) !== 0n,
    };
  }

  async play(steps: readonly QueueStep[]): Promise<Observation> {
    const { driver } = this;
    await this.reset();
    const shown: Array<Promise<[string, string]>> = [];
    for (const [n, step] of steps.entries()) {
      this.step(step);
      if (step.do !== "store") {
        shown.push(this.show().then((state) => [keyOf(n, step), print(state)]));
      }
    }
    const words = new Uint32Array((await driver.load(STATUS, STATUS_BYTES)).slice().buffer);
    return { ...Object.fromEntries(await Promise.all(shown)), status: Array.from(words, (word) => word.toString(16)).join(" ") };
  }

  private step(step: QueueStep): void {
    switch (step.do) {
      case "mode":
        this.write(REG.RTADDR, 8, step.mode << 10);
        this.write(REG.GCMD, 4, SRTP);
        break;
      case "queue":
        this.queue = { size: step.size, wide: step.wide && this.offer.scalableMode };
        this.write(REG.IQA, 8, QUEUE | (step.wide ? 0x800 : 0) | step.size);
        break;
      case "enable":
        this.write(REG.GCMD, 4, step.on ? QIE : 0);
        break;
      case "store":
        this.driver.store(step.address, new Uint8Array(BigUint64Array.from(step.words).buffer));
        break;
      case "tail":
        this.write(REG.IQT, 8, step.tail);
        break;
      case "error":
        this.write(REG.FSTS, 4, FSTS.IQE.inPlace);
        break;
      case "completion":
        this.write(REG.ICS, 4, 1);
        break;
      case "mask":
        this.write(step.register === "fault" ? REG.FECTL : REG.IECTL, 4, step.on ? IM : 0);
    }
  }

  /** An empty queue, off, whose last descriptor was a wait: else a QEMU does not switch it off (V-33). */
  async reset(): Promise<void> {
    const { driver } = this;
    this.write(REG.FSTS, 4, FSTS.IQE.inPlace);
    if (((await driver.read(UNIT + REG.GSTS, 4)) & BigInt(QIE)) === 0n) {
      this.queue = { size: 0, wide: false };
      this.step({ do: "mode", mode: 0 });
      this.write(REG.IQA, 8, QUEUE);
      this.write(REG.IQT, 8, 0);
      this.write(REG.GCMD, 4, QIE);
    }
    const head = Number(await driver.read(UNIT + REG.IQH, 8));
    driver.store(QUEUE + head, new Uint8Array(BigUint64Array.of(0x25n, BigInt(STATUS), 0n, 0n).buffer));
    this.write(REG.IQT, 8, (head + (this.queue.wide ? 32 : 16)) % (4096 << this.queue.size));
    this.write(REG.GCMD, 4, 0);
    this.write(REG.IQT, 8, 0);
    this.write(REG.FSTS, 4, FSTS.IQE.inPlace);
    this.write(REG.ICS, 4, 1);
    this.write(REG.IECTL, 4, IM);
    this.write(REG.FECTL, 4, IM);
    driver.fill(STATUS, STATUS_BYTES, 0);
    driver.fill(QUEUE, 4096 << 3, 0);
  }
}
