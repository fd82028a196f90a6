/** A real QEMU as the suite's driver, over its qtest socket. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AccessSize, PortSize } from "../../src/port/index.js";
import { QtestClient } from "../../src/qtest/index.js";
import type { Driver, MachineRequest, QemuVersion } from "./driver.js";
import type { Architecture, QemuProgram } from "./find-qemu.js";

/** What edu waits before a transfer is 100 ms of virtual time. */
const STEP_NANOSECONDS = 200_000_000n;
/** The last that it says comes at about the time of the socket's end. */
const LAST_WORDS_MS = 200;

/** Firmware of a QEMU without the qtest accelerator: wfi, or cli and hlt where an x86 begins, and back to it. */
const WAIT: Record<Architecture, Uint8Array> = {
  aarch64: Uint8Array.of(0x7f, 0x20, 0x03, 0xd5, 0xff, 0xff, 0xff, 0x17),
  x86_64: x86Firmware([0xfa, 0xf4, 0xeb, 0xfc]),
};

/** 64 KiB that end with what is done at the reset vector, 16 bytes before the end. */
function x86Firmware(instructions: readonly number[]): Uint8Array {
  const image = new Uint8Array(0x1_0000);
  image.set(instructions, image.length - 16);
  return image;
}

/** The process has ended. */
export class QemuGone extends Error {}

export class Qemu implements Driver {
  readonly name: string;
  readonly version: QemuVersion;
  private failure: unknown = null;

  private constructor(
    private readonly program: QemuProgram,
    private readonly process: ChildProcess,
    private readonly folder: string,
    private readonly client: QtestClient,
    private readonly said: () => string,
  ) {
    this.name = program.name;
    this.version = program.version;
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
      writeFileSync(firmware, WAIT[program.architecture]);
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
      const client = new QtestClient({ readable: socket, writable: socket, end: () => void socket.end(), close: () => void socket.destroy() });
      return new Qemu(program, child, folder, client, () => said);
    } finally {
      server.close();
    }
  }

  /** Waits for an answer; what a line before it was refused with is thrown as well. */
  private async answer<T>(reply: Promise<T>): Promise<T> {
    try {
      const value = await reply;
      if (this.failure !== null) {
        throw this.failure;
      }
      return value;
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS));
      const { signalCode, exitCode } = this.process;
      throw signalCode === null && exitCode === null ? error : new QemuGone(`${this.name} has gone: ${signalCode ?? String(exitCode)} ${this.said()}`);
    }
  }

  private post(reply: Promise<unknown>): void {
    reply.catch((error: unknown) => (this.failure ??= error));
  }

  read(address: number, size: AccessSize): Promise<bigint> {
    return this.answer(this.client.read(address, size));
  }

  write(address: number, size: AccessSize, value: bigint | number): void {
    this.post(this.client.write(address, size, BigInt(value)));
  }

  readPort(port: number, size: PortSize): Promise<number> {
    return this.answer(this.client.readPort(port, size));
  }

  writePort(port: number, size: PortSize, value: number): void {
    this.post(this.client.writePort(port, size, value));
  }

  load(address: number, length: number): Promise<Uint8Array> {
    return this.answer(this.client.readMemory(address, length));
  }

  store(address: number, data: Uint8Array): void {
    this.post(this.client.writeMemory(address, data));
  }

  fill(address: number, length: number, byte: number): void {
    this.post(this.client.request(`memset 0x${address.toString(16)} 0x${length.toString(16)} 0x${byte.toString(16)}`));
  }

  async finish(address: number, size: AccessSize, busy: bigint): Promise<void> {
    if (this.program.qtestAccelerator) {
      this.post(this.client.clockStep(STEP_NANOSECONDS));
      return;
    }
    while (((await this.read(address, size)) & busy) !== 0n) {
      // Its clock leaps to the next timer as soon as it has nothing else to do.
    }
  }

  end(): void {
    this.client.close();
    this.process.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
