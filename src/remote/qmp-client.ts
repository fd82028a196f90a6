/** As much of a QMP client as an operator and an inspector need: commands one after the other, and events. */
import type { ByteStream } from "../chardev/index.js";
import { Refusal } from "../support/index.js";

interface Message {
  readonly QMP?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: unknown;
}

interface Waiting {
  readonly command: string;
  resolve(value: unknown): void;
  reject(reason: Error): void;
}

/** A command that the other side refuses. */
export class QmpRefusal extends Refusal {
  /** @param description in its own words */
  constructor(command: string, readonly errorClass: string, readonly description: string) {
    super(`${command}: ${description}`);
  }
}

/** Characters of one answer; who sends more without a line's end speaks something else. */
const LONGEST = 1 << 28;

export class QmpClient {
  private readonly waiting: Waiting[] = [];
  private readonly listeners = new Set<(event: string, data: unknown) => void>();
  private text = "";
  private gone = false;
  private end = (): void => {};
  /** Resolves when the other side has gone. */
  readonly ended = new Promise<void>((resolve) => (this.end = resolve));

  constructor(private readonly stream: ByteStream) {
    const { readable, writable } = stream;
    readable.setEncoding("utf8");
    readable.on("data", (data: string) => this.receive(data));
    readable.once("end", () => stream.close());
    readable.once("close", () => this.closed());
    readable.on("error", () => {});
    writable.on("error", () => {});
    readable.resume();
  }

  /** Leaves the negotiation mode, in which nothing else is answered. */
  async negotiate(): Promise<void> {
    await this.execute("qmp_capabilities");
  }

  /** @returns what the command returns. @throws Refusal with the other side's description where it is refused */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.gone) {
        reject(new Refusal(`${command}: the QMP socket has closed`));
        return;
      }
      this.waiting.push({ command, resolve, reject });
      this.stream.writable.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  /** Calls `listener` for each event. @returns ends it */
  onEvent(listener: (event: string, data: unknown) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  close(): void {
    this.stream.close();
  }

  private receive(data: string): void {
    if (!data.includes("\n")) {
      // A long answer comes in many pieces.
      this.text += data;
      if (this.text.length > LONGEST) {
        this.stream.close();
      }
      return;
    }
    const lines = (this.text + data).split("\n");
    this.text = lines.pop()!;
    for (const line of lines.filter((one) => one.trim() !== "")) {
      let message: Message;
      try {
        message = JSON.parse(line) as Message;
      } catch {
        // No QMP speaks there: what is asked for will not come.
        this.stream.close();
        return;
      }
      this.take(message);
    }
  }

  private take(message: Message): void {
    if (message.event !== undefined) {
      [...this.listeners].forEach((listener) => listener(message.event!, message.data));
    } else if (message.QMP === undefined) {
      const waiting = this.waiting.shift();
      if (message.error !== undefined) {
        waiting?.reject(new QmpRefusal(waiting.command, message.error.class, message.error.desc));
      } else {
        waiting?.resolve(message.return);
      }
    }
  }

  private closed(): void {
    this.gone = true;
    this.end();
    this.waiting.splice(0).forEach(({ command, reject }) => reject(new Refusal(`${command}: the QMP socket has closed`)));
  }
}
