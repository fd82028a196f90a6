/**
 * A real QEMU as the guest's machine: CPU accesses and RAM over its qtest socket, the operator's part over QMP.
 * No CPU and no ITS tables run there, so messages cannot be seen: the MSI controller is hidden from the guest,
 * and the SMMU's interrupts are read off its registers.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import type { AccessSize, Interrupt, MachineOperator, MachinePort } from "../../src/port/index.js";

const LETTER = { 1: "b", 2: "w", 4: "l", 8: "q" } as const;
const CHUNK = 4096;
/** What QEMU's edu waits before a transfer, in nanoseconds, and more. */
const STEP = 200_000_000;

/** Lines in, lines out. */
class LineSocket {
  private text = "";
  private readonly waiting: Array<(line: string) => void> = [];

  constructor(
    private readonly socket: Socket,
    private readonly isReply: (line: string) => boolean,
  ) {
    socket.on("data", (data) => {
      const lines = (this.text + data.toString()).split("\n");
      this.text = lines.pop() ?? "";
      lines.filter((line) => line !== "" && this.isReply(line)).forEach((line) => this.waiting.shift()?.(line));
    });
  }

  ask(line: string): Promise<string> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.socket.write(`${line}\n`);
    });
  }

  end(): void {
    this.socket.destroy();
  }
}

export interface SmmuPlace {
  readonly base: number;
  /** INTID of the event queue's interrupt; the global errors' is three more. */
  readonly interrupt: number;
}

export class QemuMachine {
  private readonly deleted = new Map<string, () => void>();

  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    private readonly qtest: LineSocket,
    private readonly qmp: LineSocket,
    private readonly smmus: readonly SmmuPlace[],
  ) {}

  static async start(command: string, args: readonly string[], smmus: readonly SmmuPlace[]): Promise<QemuMachine> {
    const folder = mkdtempSync(join(tmpdir(), "viommu-qemu-"));
    const paths = ["qtest", "qmp"].map((name) => join(folder, name));
    const servers = await Promise.all(paths.map((path) => listen(path)));
    const sockets = servers.map(async (server): Promise<Socket> => ((await once(server, "connection")) as [Socket])[0]);
    const [program, ...first] = command.split(" ");
    const quiet = ["-display", "none", "-nodefaults", "-accel", "qtest", "-qtest", `unix:${paths[0]}`, "-qtest-log", "/dev/null", "-qmp", `unix:${paths[1]}`];
    const child = spawn(program, [...first, ...quiet, ...args], { stdio: ["ignore", "ignore", "inherit"] });
    const [qtest, qmp] = await Promise.all(sockets);
    servers.forEach((server) => server.close());
    let machine: QemuMachine | null = null;
    const monitor = new LineSocket(qmp, (line) => {
      const message = JSON.parse(line) as { QMP?: unknown; event?: string; data?: { device?: string } };
      if (message.event === "DEVICE_DELETED") {
        machine?.deleted.get(message.data?.device ?? "")?.();
      }
      return message.event === undefined && message.QMP === undefined;
    });
    machine = new QemuMachine(child, folder, new LineSocket(qtest, (line) => !line.startsWith("IRQ")), monitor, smmus);
    await machine.execute("qmp_capabilities");
    return machine;
  }

  private async qtestOk(line: string): Promise<string> {
    const reply = await this.qtest.ask(line);
    if (!reply.startsWith("OK")) {
      throw new Error(`qtest: ${line.slice(0, 80)}: ${reply}`);
    }
    return reply.slice(3);
  }

  private async execute(execute: string, args: object = {}): Promise<unknown> {
    const reply = JSON.parse(await this.qmp.ask(JSON.stringify({ execute, arguments: args }))) as { return?: unknown; error?: { desc: string } };
    if (reply.error !== undefined) {
      throw new Error(`${execute}: ${reply.error.desc}`);
    }
    return reply.return;
  }

  private read(address: number, size: AccessSize): Promise<bigint> {
    return this.qtestOk(`read${LETTER[size]} 0x${address.toString(16)}`).then((text) => BigInt(text) & ((1n << BigInt(8 * size)) - 1n));
  }

  port(): MachinePort {
    return {
      read: (address, size) => this.read(address, size),
      write: async (address, size, value) => {
        await this.qtestOk(`write${LETTER[size]} 0x${address.toString(16)} 0x${value.toString(16)}`);
      },
      readMemory: async (address, length) => {
        const out = Buffer.alloc(length);
        for (let done = 0; done < length; done += CHUNK) {
          const bytes = Math.min(CHUNK, length - done);
          const text = await this.qtestOk(`read 0x${(address + done).toString(16)} 0x${bytes.toString(16)}`);
          out.set(Buffer.from(text.slice(2), "hex"), done);
        }
        const its = out.indexOf("arm,gic-v3-its");
        if (its >= 0) {
          out.write("no,", its);
        }
        return new Uint8Array(out);
      },
      writeMemory: async (address, data) => {
        for (let done = 0; done < data.length; done += CHUNK) {
          const part = data.subarray(done, done + CHUNK);
          await this.qtestOk(`write 0x${(address + done).toString(16)} 0x${part.length.toString(16)} 0x${Buffer.from(part).toString("hex")}`);
        }
      },
      interrupts: async () => {
        await this.qtestOk(`clock_step ${STEP}`);
        const out: Interrupt[] = [];
        for (const { base, interrupt } of this.smmus) {
          const enabled = Number(await this.read(base + 0x50, 4));
          if ((enabled & 4) !== 0 && (await this.read(base + 0x100a8, 4)) !== (await this.read(base + 0x100ac, 4))) {
            out.push({ kind: "spi", intid: interrupt });
          }
          if ((enabled & 1) !== 0 && (await this.read(base + 0x60, 4)) !== (await this.read(base + 0x64, 4))) {
            out.push({ kind: "spi", intid: interrupt + 3 });
          }
        }
        return out;
      },
      // Without a kernel QEMU puts the device tree at the start of RAM.
      firmware: async () => ({ deviceTree: 0x4000_0000, acpiRoot: null }),
    };
  }

  operator(): MachineOperator {
    return {
      requestUnplug: async (id) => {
        const gone = new Promise<void>((resolve) => this.deleted.set(id, resolve));
        await this.execute("device_del", { id });
        await gone;
      },
      plug: async (argument) => {
        const [driver, ...rest] = argument.split(",");
        await this.execute("device_add", { driver, ...Object.fromEntries(rest.map((pair) => pair.split("=", 2))) });
      },
      isPlugged: async (id) => ((await this.execute("qom-list", { path: "/machine/peripheral" })) as Array<{ name: string }>).some(({ name }) => name === id),
      reset: async () => {
        await this.execute("system_reset");
        await this.execute("query-status");
        await this.qtestOk(`clock_step ${STEP}`);
      },
    };
  }

  end(): void {
    this.qtest.end();
    this.qmp.end();
    this.process.kill();
    rmSync(this.folder, { recursive: true });
  }
}

async function listen(path: string): Promise<Server> {
  const server = createServer();
  server.listen(path);
  await once(server, "listening");
  return server;
}
