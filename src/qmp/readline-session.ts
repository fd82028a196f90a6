/** A monitor for people over a byte stream: a prompt, a line, what it prints (-monitor, -mon mode=readline). Nothing is echoed. */
import type { ByteStream } from "../chardev/index.js";
import type { CommandContext } from "./command.js";
import { executeLine } from "./hmp/execute.js";
import { QEMU_VERSION } from "./version.js";

const PROMPT = "(qemu) ";
/** Characters of a line; QEMU's READLINE_CMD_BUF_SIZE. */
const LINE_LIMIT = 4095;

export class ReadlineSession {
  private pending = "";

  constructor(
    private readonly stream: ByteStream,
    private readonly context: CommandContext,
  ) {
    const { readable, writable } = stream;
    readable.on("data", (bytes: Buffer | string) => this.receive(bytes.toString("latin1")));
    readable.once("end", () => stream.end());
    writable.on("error", () => stream.close());
    writable.on("drain", () => readable.resume());
    this.print(`QEMU ${QEMU_VERSION.major}.${QEMU_VERSION.minor}.${QEMU_VERSION.micro} monitor - type 'help' for more information\n${PROMPT}`);
    readable.resume();
  }

  private receive(text: string): void {
    const lines = (this.pending + text).split("\n");
    // A line that is too long is cut, as in QEMU.
    this.pending = lines.pop()!.slice(0, LINE_LIMIT);
    for (const line of lines) {
      this.print(`${executeLine(line.replace(/\r$/, "").slice(0, LINE_LIMIT), this.context)}${PROMPT}`);
    }
  }

  private print(text: string): void {
    const { readable, writable } = this.stream;
    if (writable.writable && !writable.write(text.replaceAll("\n", "\r\n"))) {
      readable.pause();
    }
  }
}
