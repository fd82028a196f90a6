/** A QEMU that is asked: QMP over its standard streams, its qtest socket for configuration space. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** It ended before it could be asked; `words` is what it said. */
export class QemuEnded extends Error {
  constructor(words, signal) {
    super(words);
    this.words = words;
    this.signal = signal;
  }
}

export class Qemu {
  #child;
  #said = "";
  #replies = [];
  #answers = [];
  #folder;
  #socket = null;

  /** @param command words of the program @param words its arguments beside those of the recorder */
  static async start(command, words, { qtest = true } = {}) {
    const qemu = new Qemu();
    qemu.#folder = mkdtempSync(path.join(tmpdir(), "record-devices-"));
    const server = createServer();
    const socketPath = path.join(qemu.#folder, "qtest");
    const quiet = ["-S", "-accel", "tcg", "-display", "none", "-nodefaults", "-serial", "none", "-monitor", "none", "-qmp", "stdio"];
    if (qtest) {
      server.listen(socketPath);
      await once(server, "listening");
      quiet.push("-qtest", `unix:${socketPath}`, "-qtest-log", "/dev/null");
    }
    const connection = qtest ? once(server, "connection") : null;
    const child = spawn(command[0], [...command.slice(1), ...quiet, ...words], { stdio: ["pipe", "pipe", "pipe"] });
    qemu.#child = child;
    child.stdin.on("error", () => {});
    child.stderr.on("data", (data) => (qemu.#said += data.toString()));
    const gone = once(child, "close").then(([code, signal]) => {
      rmSync(qemu.#folder, { recursive: true, force: true });
      const error = new QemuEnded(qemu.#said.trim() || `it ended with ${code}`, signal ?? (code > 128 ? code : null));
      qemu.#replies.splice(0).forEach(({ reject }) => reject(error));
      qemu.#answers.splice(0).forEach(({ reject }) => reject(error));
      throw error;
    });
    gone.catch(() => {});
    const greeting = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const message = JSON.parse(line);
        if (message.QMP !== undefined) {
          resolve(message.QMP);
        } else if (message.event === undefined) {
          qemu.#replies.shift()?.resolve(message);
        }
      });
    });
    try {
      const [greeted, socket] = await Promise.race([Promise.all([greeting, connection]), gone]);
      const { major, minor, micro } = greeted.version.qemu;
      qemu.version = `${major}.${minor}.${micro}`;
      if (socket !== null) {
        [qemu.#socket] = socket;
        qemu.#socket.on("error", () => {});
        createInterface({ input: qemu.#socket }).on("line", (line) => qemu.#answers.shift()?.resolve(line));
      }
      await qemu.command("qmp_capabilities");
      return qemu;
    } finally {
      server.close();
    }
  }

  /** @returns the reply as it came: `return` or `error` */
  async reply(execute, args = {}) {
    const reply = new Promise((resolve, reject) => this.#replies.push({ resolve, reject }));
    this.#child.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    return reply;
  }

  async command(execute, args = {}) {
    const reply = await this.reply(execute, args);
    if (reply.error !== undefined) {
      throw new Error(`${execute}: ${reply.error.desc}`);
    }
    return reply.return;
  }

  /** A line of the qtest protocol (QEMU docs/devel/testing/qtest). */
  async qtest(line) {
    const answer = new Promise((resolve, reject) => this.#answers.push({ resolve, reject }));
    this.#socket.write(`${line}\n`);
    const text = await answer;
    if (!text.startsWith("OK")) {
      throw new Error(`${line}: ${text}`);
    }
    return text.slice(3);
  }

  async read(address, length) {
    return Buffer.from((await this.qtest(`read 0x${address.toString(16)} 0x${length.toString(16)}`)).slice(2), "hex");
  }

  async write(address, bytes) {
    await this.qtest(`write 0x${address.toString(16)} 0x${bytes.length.toString(16)} 0x${Buffer.from(bytes).toString("hex")}`);
  }

  async end() {
    const closed = once(this.#child, "close");
    this.reply("quit").catch(() => {});
    await closed;
  }
}

/** What a program prints. */
export async function printed(command, words) {
  const child = spawn(command[0], [...command.slice(1), ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.on("data", (data) => (text += data.toString()));
  await once(child, "close");
  return text;
}
