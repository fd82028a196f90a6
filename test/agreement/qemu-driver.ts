/** A real QEMU as the suite's driver: every access is a line on its qtest socket (QEMU docs/devel/testing/qtest). */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AccessSize } from "../../src/port/index.js";
import type { Driver, MachineRequest, QemuVersion } from "./driver.js";
import type { QemuProgram } from "./find-qemu.js";

const LETTER = { 1: "b", 2: "w", 4: "l", 8: "q" } as const;
/** What edu waits before a transfer is 100 ms of virtual time. */
const STEP_NANOSECONDS = 200_000_000;

/** Firmware of a QEMU without the qtest accelerator: wfi, and back to it. */
const WAIT = { aarch64: [0x7f, 0x20, 0x03, 0xd5, 0xff, 0xff, 0xff, 0x17], x86_64: [] };

/** The process has ended. */
export class QemuGone extends Error {}

export class Qemu implements Driver {
  readonly name: string;
  readonly version: QemuVersion;
  private text = "";
  private readonly waiting: Array<((reply: string) => void) | null> = [];
  private readonly reject: Array<(reason: Error) => void> = [];
  private outgoing: string[] = [];
  private failure: Error | null = null;

  private constructor(
    program: QemuProgram,
    private readonly process: ChildProcess,
    private readonly folder: string,
    private readonly socket: Socket,
    /** The clock stands still but for steps over qtest. */
    private readonly steps: boolean,
    said: () => string,
  ) {
    this.name = program.name;
    this.version = program.version;
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => this.received(data));
    socket.on("error", () => {});
    socket.on("close", () => {
      // Its last words may come later than the end of the socket.
      setTimeout(() => this.fail(new QemuGone(`${this.name} has gone: ${process.signalCode ?? String(process.exitCode)} ${said()}`)), 200);
    });
  }

  static async start(program: QemuProgram, request: MachineRequest): Promise<Qemu> {
    const folder = mkdtempSync(join(tmpdir(), "viommu-agreement-"));
    const path = join(folder, "qtest");
    const server = createServer();
    server.listen(path);
    await once(server, "listening");
    const quiet = ["-display", "none", "-nodefaults", "-monitor", "none", "-serial", "none", "-qtest", `unix:${path}`, "-qtest-log", "/dev/null"];
    if (program.qtestAccelerator) {
      quiet.push("-accel", "qtest");
    } else {
      // A CPU that waits for ever, and a clock that leaps to the next timer when nothing is to be done.
      const firmware = join(folder, "wait.bin");
      writeFileSync(firmware, Buffer.from(WAIT[program.architecture]));
      quiet.push("-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios", firmware);
    }
    const child = spawn(program.command[0], [...program.command.slice(1), ...quiet, ...request.arguments], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr?.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-2000)));
    const connected = once(server, "connection") as Promise<[Socket]>;
    const gone = once(child, "exit").then(([code]) => Promise.reject(new Error(`${program.name} ended with ${String(code)}: ${request.arguments.join(" ")}\n${said}`)));
    gone.catch(() => {});
    try {
      const [socket] = await Promise.race([connected, gone]);
      return new Qemu(program, child, folder, socket, program.qtestAccelerator, () => said);
    } finally {
      server.close();
    }
  }

  private received(data: string): void {
    const lines = (this.text + data).split("\n");
    this.text = lines.pop() ?? "";
    for (const line of lines) {
      if (line.startsWith("IRQ")) {
        continue;
      }
      if (!line.startsWith("OK")) {
        this.fail(new Error(`${this.name} answered ${line}`));
      }
      this.waiting.shift()?.(line);
    }
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.reject.splice(0).forEach((reject) => reject(error));
  }

  /** Queues a line; all lines of one turn go out together. */
  private send(line: string, reply: ((text: string) => void) | null): void {
    if (this.failure !== null) {
      return;
    }
    if (this.outgoing.length === 0) {
      queueMicrotask(() => {
        this.socket.write(this.outgoing.join(""));
        this.outgoing = [];
      });
    }
    this.outgoing.push(line);
    this.waiting.push(reply);
  }

  private ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.failure !== null) {
        reject(this.failure);
        return;
      }
      this.reject.push(reject);
      this.send(line, (reply) => {
        this.reject.splice(this.reject.indexOf(reject), 1);
        resolve(reply.slice(3));
      });
    });
  }

  async read(address: number, size: AccessSize): Promise<bigint> {
    return BigInt.asUintN(8 * size, BigInt(await this.ask(`read${LETTER[size]} ${address}\n`)));
  }

  write(address: number, size: AccessSize, value: bigint | number): void {
    this.send(`write${LETTER[size]} ${address} ${BigInt.asUintN(8 * size, BigInt(value))}\n`, null);
  }

  async load(address: number, length: number): Promise<Uint8Array> {
    return Buffer.from(await this.ask(`b64read ${address} ${length}\n`), "base64");
  }

  store(address: number, data: Uint8Array): void {
    this.send(`b64write ${address} ${data.length} ${Buffer.from(data.buffer, data.byteOffset, data.length).toString("base64")}\n`, null);
  }

  fill(address: number, length: number, byte: number): void {
    this.send(`memset ${address} ${length} ${byte}\n`, null);
  }

  async finish(address: number, size: AccessSize, busy: bigint): Promise<void> {
    if (this.steps) {
      this.send(`clock_step ${STEP_NANOSECONDS}\n`, null);
      return;
    }
    while (((await this.read(address, size)) & busy) !== 0n) {
      // Its clock leaps to the next timer as soon as it has nothing else to do.
    }
  }

  end(): void {
    this.failure ??= new Error(`${this.name} is closed`);
    this.socket.destroy();
    this.process.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
