/**
 * The protocol's commands (QEMU system/qtest.c) besides the register-sized accesses, which server.ts does
 * without strings. Where QEMU asserts, and so ends, the answer here is a line that starts with ERR.
 */
import type { SteppedClock } from "../port/index.js";
import { parseSigned, parseUnsigned } from "./numbers.js";
import type { Output } from "./output.js";
import type { QtestTarget } from "./target.js";

/** Addresses from here on are nobody's; JavaScript's numbers are exact below. */
const ADDRESS_LIMIT = 1n << 52n;
/** Bytes that one command moves at the most. */
export const DATA_LIMIT = 64 * 2 ** 20;
const CHUNK = 64 * 1024;
/** The largest port number. */
const PORT_LIMIT = 0xffffn;
const PORT_BYTES: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4 };
const LETTER_BYTES: Readonly<Record<string, number>> = { ...PORT_BYTES, q: 8 };

/** What a client said that QEMU takes for a reason to end. */
class Malformed extends Error {}

/** One connection's state. */
export class Commands {
  /** The last level that each interrupt was told with. */
  private readonly levels = new Map<number, number>();
  /** The one device whose lines are listened to: a second one is refused, as in QEMU. */
  private intercepted: object | null = null;

  constructor(
    private readonly target: QtestTarget,
    private readonly output: Output,
    /** Called after a line that no command has asked for. */
    private readonly said: () => void,
  ) {}

  /** A new peer: lines are told anew. What is intercepted stays so. */
  opened(): void {
    this.levels.clear();
  }

  /** Does a command. `words` are the line split at each space. @returns false where the answer is not OK */
  run(words: readonly string[]): boolean {
    try {
      return this.dispatch(words);
    } catch (error) {
      if (error instanceof Malformed) {
        this.output.text(`ERR ${error.message}\n`);
        return false;
      }
      throw error;
    }
  }

  private dispatch(words: readonly string[]): boolean {
    const [command] = words;
    switch (command) {
      case "":
        throw new Malformed("empty command");
      case "outb":
      case "outw":
      case "outl":
        this.portWrite(words, PORT_BYTES[command[3]]);
        return this.ok();
      case "inb":
      case "inw":
      case "inl":
        return this.portRead(words, PORT_BYTES[command[2]]);
      case "writeb":
      case "writew":
      case "writel":
      case "writeq":
        this.writeWord(words, LETTER_BYTES[command[5]]);
        return this.ok();
      case "readb":
      case "readw":
      case "readl":
      case "readq":
        return this.readWord(words, LETTER_BYTES[command[4]]);
      case "read":
        return this.read(words);
      case "b64read":
        return this.readBase64(words);
      case "write":
        return this.write(words);
      case "b64write":
        return this.writeBase64(words);
      case "memset":
        this.fill(words);
        return this.ok();
      case "endianness":
        this.output.text("OK little\n");
        return true;
      case "irq_intercept_in":
        return this.intercept(words, "in");
      case "irq_intercept_out":
        return this.intercept(words, "out");
      case "set_irq_in":
        return this.setIrq(words);
      case "module_load":
        wordAt(words, 2);
        return this.fail("");
      case "clock_step":
      case "clock_set":
        if (this.target.clock !== null) {
          return command === "clock_step" ? this.step(words, this.target.clock) : this.setClock(words, this.target.clock);
        }
        break;
      default:
    }
    return this.fail(`Unknown command '${command}'`);
  }

  private ok(): true {
    this.output.ok();
    return true;
  }

  private fail(reason: string): false {
    this.output.text(reason === "" ? "FAIL\n" : `FAIL ${reason}\n`);
    return false;
  }

  private portWrite(words: readonly string[], size: number): void {
    const port = portAt(words);
    const value = unsignedAt(words, 2);
    this.target.ports?.write(port, size, BigInt.asUintN(8 * size, value));
  }

  private portRead(words: readonly string[], size: number): boolean {
    const port = portAt(words);
    const value = BigInt.asUintN(8 * size, this.target.ports?.read(port, size) ?? -1n);
    this.output.text(`OK 0x${value.toString(16).padStart(4, "0")}\n`);
    return true;
  }

  private writeWord(words: readonly string[], size: number): void {
    const address = unsignedAt(words, 1);
    const value = unsignedAt(words, 2);
    if (address < ADDRESS_LIMIT) {
      this.target.memory.writeWord(Number(address), size, BigInt.asUintN(8 * size, value));
    }
  }

  private readWord(words: readonly string[], size: number): boolean {
    const address = unsignedAt(words, 1);
    const value = address < ADDRESS_LIMIT ? this.target.memory.readWord(Number(address), size) : 0n;
    this.output.value(Number(value >> 32n), Number(value & 0xffff_ffffn));
    return true;
  }

  private read(words: readonly string[]): boolean {
    const address = unsignedAt(words, 1);
    const length = lengthAt(words, 2);
    if (length === 0) {
      throw new Malformed("a read of 0 bytes has no answer");
    }
    this.output.text("OK 0x");
    this.eachPiece(address, length, (piece) => this.output.hex(piece));
    this.output.text("\n");
    return true;
  }

  private readBase64(words: readonly string[]): boolean {
    const address = unsignedAt(words, 1);
    const length = lengthAt(words, 2);
    this.output.text("OK ");
    this.eachPiece(address, length, (piece) => this.output.text(Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString("base64")));
    this.output.text("\n");
    return true;
  }

  /** Reads memory in pieces of a multiple of 3 bytes, so that their base64 joins. */
  private eachPiece(address: bigint, length: number, take: (piece: Uint8Array) => void): void {
    const piece = new Uint8Array(Math.min(length, CHUNK - (CHUNK % 3)));
    for (let done = 0; done < length; done += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, length - done));
      const at = address + BigInt(done);
      if (at < ADDRESS_LIMIT) {
        this.target.memory.readBytes(Number(at), part);
      } else {
        part.fill(0);
      }
      take(part);
    }
  }

  private write(words: readonly string[]): boolean {
    const address = unsignedAt(words, 1);
    const length = lengthAt(words, 2);
    const digits = wordAt(words, 3);
    if (digits.length < 3) {
      this.output.text("ERR invalid argument size\n");
      return false;
    }
    this.store(address, hexData(digits, length));
    return this.ok();
  }

  private writeBase64(words: readonly string[]): boolean {
    const address = unsignedAt(words, 1);
    const length = lengthAt(words, 2);
    const text = wordAt(words, 3);
    if (text.length < 3) {
      this.output.text("ERR invalid argument size\n");
      return false;
    }
    // Characters that are none of base64's are skipped, as glib does; bytes beyond the data keep their value.
    const data = Buffer.from(text, "base64");
    this.store(address, data.subarray(0, length));
    return this.ok();
  }

  private fill(words: readonly string[]): void {
    const address = unsignedAt(words, 1);
    const length = lengthAt(words, 2);
    const pattern = unsignedAt(words, 3);
    const piece = new Uint8Array(Math.min(length, CHUNK)).fill(Number(pattern & 0xffn));
    for (let done = 0; done < length; done += piece.length) {
      this.store(address + BigInt(done), piece.subarray(0, Math.min(piece.length, length - done)));
    }
  }

  private store(address: bigint, data: Uint8Array): void {
    if (address < ADDRESS_LIMIT) {
      this.target.memory.writeBytes(Number(address), data);
    }
  }

  private intercept(words: readonly string[], direction: "in" | "out"): boolean {
    const path = wordAt(words, 1);
    const name = words.length > 2 ? words[2] : null;
    const device = this.target.findDevice(path);
    if (device === null) {
      return this.fail("Unknown device");
    }
    if (name !== null && direction === "in") {
      return this.fail("Interception of named in-GPIOs not yet supported");
    }
    if (this.intercepted !== null) {
      return this.intercepted === device ? this.ok() : this.fail("IRQ intercept already enabled");
    }
    const listener = (pin: number, level: number): void => this.tell(pin, level);
    if (!device.intercept(direction, name, listener)) {
      return this.fail("No intercepts installed");
    }
    this.intercepted = device;
    return this.ok();
  }

  private tell(pin: number, level: number): void {
    if ((this.levels.get(pin) ?? 0) !== level) {
      this.levels.set(pin, level);
      this.output.text(`IRQ ${level === 0 ? "lower" : "raise"} ${pin}\n`);
      this.said();
    }
  }

  private setIrq(words: readonly string[]): boolean {
    const path = wordAt(words, 1);
    const name = wordAt(words, 2);
    const pin = intAt(words, 3);
    const level = intAt(words, 4);
    const device = this.target.findDevice(path);
    if (device === null) {
      return this.fail("Unknown device");
    }
    if (!device.set(name === "unnamed-gpio-in" ? null : name, pin, level)) {
      throw new Malformed(`'${path}' has no input ${name} ${pin}`);
    }
    return this.ok();
  }

  private step(words: readonly string[], clock: SteppedClock): boolean {
    const before = clock.now;
    if (words.length > 1) {
      clock.advanceTo(BigInt.asIntN(64, before + signedAt(words, 1)));
    } else {
      const { deadline } = clock;
      if (deadline === null) {
        return this.fail("cannot advance clock to the next deadline because there is no pending deadline");
      }
      clock.advanceTo(deadline);
    }
    return clock.now > before ? this.time(true, clock.now) : this.fail("could not advance time");
  }

  private setClock(words: readonly string[], clock: SteppedClock): boolean {
    const time = signedAt(words, 1);
    clock.advanceTo(time);
    return this.time(clock.now === time, clock.now);
  }

  private time(good: boolean, now: bigint): boolean {
    this.output.text(`${good ? "OK" : "FAIL"} ${now}\n`);
    return good;
  }
}

function wordAt(words: readonly string[], index: number): string {
  if (index >= words.length) {
    throw new Malformed(`${words[0]} needs ${index} argument${index === 1 ? "" : "s"}`);
  }
  return words[index];
}

function unsignedAt(words: readonly string[], index: number): bigint {
  const word = wordAt(words, index);
  const value = parseUnsigned(word);
  if (value === null) {
    throw new Malformed(`'${shown(word)}' is not a 64-bit number`);
  }
  return value;
}

function signedAt(words: readonly string[], index: number): bigint {
  const word = wordAt(words, index);
  const value = parseSigned(word);
  if (value === null) {
    throw new Malformed(`'${shown(word)}' is not a signed 64-bit number`);
  }
  return value;
}

function intAt(words: readonly string[], index: number): number {
  const word = wordAt(words, index);
  const value = parseSigned(word);
  if (value === null || BigInt.asIntN(32, value) !== value) {
    throw new Malformed(`'${shown(word)}' is not a signed 32-bit number`);
  }
  return Number(value);
}

function lengthAt(words: readonly string[], index: number): number {
  const value = unsignedAt(words, index);
  if (value > BigInt(DATA_LIMIT)) {
    throw new Malformed(`${value} bytes are more than the ${DATA_LIMIT} that one command moves`);
  }
  return Number(value);
}

function portAt(words: readonly string[]): number {
  const port = unsignedAt(words, 1);
  if (port > PORT_LIMIT) {
    throw new Malformed(`port ${port} is beyond 0xffff`);
  }
  return Number(port);
}

function shown(word: string): string {
  return word.length > 40 ? `${word.slice(0, 40)}...` : word;
}

function hexData(digits: string, length: number): Uint8Array {
  const data = new Uint8Array(length);
  // The first two characters are 0x, whatever they are; a last digit alone counts for nothing.
  const given = Math.min(length, (digits.length - 2) >> 1);
  for (let i = 0; i < given; i++) {
    // A character that is no digit is -1 in QEMU: as a high half 0xf0, as a low one 0xff.
    data[i] = (nibble(digits.charCodeAt(2 * i + 2)) << 4) | nibble(digits.charCodeAt(2 * i + 3));
  }
  return data;
}

function nibble(code: number): number {
  if (code >= 0x30 && code <= 0x39) {
    return code - 0x30;
  }
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
