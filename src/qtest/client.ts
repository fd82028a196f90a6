/** A client of the qtest protocol: requests go out without waiting for the answers of those before them. */
import type { AccessSize, PortSize } from "../port/index.js";
import type { QtestPeer } from "./server.js";

const LETTER = { 1: "b", 2: "w", 4: "l", 8: "q" } as const;
/** Bytes of memory that one line carries: servers look at a line again with each piece of it that comes. */
const CHUNK = 16 * 1024;

/** The other side answered FAIL or ERR, or is gone. */
export class QtestError extends Error {
  override readonly name = "QtestError";
}

interface Waiting {
  readonly line: string;
  resolve(answer: string): void;
  reject(reason: QtestError): void;
}

export class QtestClient {
  /** Called for each `IRQ raise N` and `IRQ lower N`. */
  onInterrupt: (pin: number, raised: boolean) => void = () => {};
  private readonly waiting: Waiting[] = [];
  /** Where the oldest is: shifting a long array costs its length. */
  private oldest = 0;
  private text = "";
  private outgoing: string[] = [];
  private gone: QtestError | null = null;

  constructor(private readonly peer: QtestPeer) {
    peer.readable.setEncoding("latin1");
    peer.readable.on("data", (data: string) => this.receive(data));
    peer.readable.once("end", () => peer.close());
    peer.readable.once("close", () => this.fail(new QtestError("the qtest socket has closed")));
    peer.readable.on("error", () => {});
    peer.writable.on("error", () => {});
    peer.readable.resume();
  }

  /**
   * Sends one line.
   * @returns what follows `OK`, "" where nothing does
   * @throws QtestError with the answer where it is another
   */
  async request(line: string): Promise<string> {
    const answer = await this.ask(line);
    if (answer !== "OK" && !answer.startsWith("OK ")) {
      throw new QtestError(`qtest: ${line.length > 80 ? `${line.slice(0, 80)}...` : line}: ${answer}`);
    }
    return answer.slice(3);
  }

  /** Sends one line. @returns the whole answer, whatever it is. @throws QtestError where the socket closes before */
  ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.gone !== null) {
        reject(this.gone);
        return;
      }
      this.waiting.push({ line, resolve, reject });
      // All lines of one turn of the event loop go out together.
      if (this.outgoing.length === 0) {
        queueMicrotask(() => this.flush());
      }
      this.outgoing.push(line, "\n");
    });
  }

  private flush(): void {
    const text = this.outgoing.join("");
    this.outgoing = [];
    if (this.gone === null) {
      this.peer.writable.write(text, "latin1");
    }
  }

  async read(address: number, size: AccessSize): Promise<bigint> {
    return BigInt.asUintN(8 * size, BigInt(await this.request(`read${LETTER[size]} 0x${address.toString(16)}`)));
  }

  async write(address: number, size: AccessSize, value: bigint): Promise<void> {
    await this.request(`write${LETTER[size]} 0x${address.toString(16)} 0x${BigInt.asUintN(8 * size, value).toString(16)}`);
  }

  /** I/O port space. */
  async readPort(port: number, size: PortSize): Promise<number> {
    return Number(await this.request(`in${LETTER[size]} 0x${port.toString(16)}`));
  }

  async writePort(port: number, size: PortSize, value: number): Promise<void> {
    await this.request(`out${LETTER[size]} 0x${port.toString(16)} 0x${(value >>> 0).toString(16)}`);
  }

  async readMemory(address: number, length: number): Promise<Uint8Array> {
    const pieces: Array<Promise<string>> = [];
    for (let done = 0; done < length; done += CHUNK) {
      pieces.push(this.request(`b64read 0x${(address + done).toString(16)} 0x${Math.min(CHUNK, length - done).toString(16)}`));
    }
    return new Uint8Array(Buffer.concat((await Promise.all(pieces)).map((piece) => Buffer.from(piece, "base64"))));
  }

  async writeMemory(address: number, data: Uint8Array): Promise<void> {
    const pieces: Array<Promise<string>> = [];
    for (let done = 0; done < data.length; done += CHUNK) {
      const part = data.subarray(done, done + CHUNK);
      pieces.push(this.request(`b64write 0x${(address + done).toString(16)} 0x${part.length.toString(16)} ${Buffer.from(part.buffer, part.byteOffset, part.length).toString("base64")}`));
    }
    await Promise.all(pieces);
  }

  /** Steps the machine's time, to its next timer where no number is given. @returns the time, in nanoseconds */
  async clockStep(nanoseconds?: bigint): Promise<bigint> {
    return BigInt(await this.request(nanoseconds === undefined ? "clock_step" : `clock_step ${nanoseconds}`));
  }

  async interceptIn(path: string): Promise<void> {
    await this.request(`irq_intercept_in ${path}`);
  }

  async interceptOut(path: string, name?: string): Promise<void> {
    await this.request(name === undefined ? `irq_intercept_out ${path}` : `irq_intercept_out ${path} ${name}`);
  }

  async setIrqIn(path: string, name: string, pin: number, level: number): Promise<void> {
    await this.request(`set_irq_in ${path} ${name} ${pin} ${level}`);
  }

  close(): void {
    this.fail(new QtestError("the qtest socket was closed here"));
    this.peer.close();
  }

  private receive(data: string): void {
    const lines = (this.text + data).split("\n");
    this.text = lines.pop()!;
    for (const line of lines) {
      const interrupt = /^IRQ (raise|lower) (\d+)$/.exec(line);
      if (interrupt !== null) {
        this.onInterrupt(Number(interrupt[2]), interrupt[1] === "raise");
      } else {
        this.answer(line);
      }
    }
  }

  private answer(line: string): void {
    const waiting = this.waiting[this.oldest];
    if (waiting === undefined) {
      return;
    }
    this.oldest++;
    if (this.oldest >= 4096) {
      this.waiting.splice(0, this.oldest);
      this.oldest = 0;
    }
    waiting.resolve(line);
  }

  private fail(reason: QtestError): void {
    if (this.gone !== null) {
      return;
    }
    this.gone = reason;
    for (const { line, reject } of this.waiting.splice(0).slice(this.oldest)) {
      reject(new QtestError(`${reason.message} before it answered ${line.slice(0, 80)}`));
    }
    this.oldest = 0;
  }
}
