/**
 * One client of a monitor: greeting, negotiation, commands in the order of their coming, events (QEMU's
 * docs/interop/qmp-spec.rst). What it sends is taken piece by piece and is bounded; an answer that it does
 * not read holds its commands back, and events that it does not read are dropped.
 */
import type { ByteStream } from "../chardev/index.js";
import { checkArguments, type Arguments, type CommandContext, type QmpCommand } from "./command.js";
import { asQmpError, generic, QmpError } from "./errors.js";
import { formatJson, type Json } from "./json.js";
import { JsonInput } from "./json-input.js";
import { QEMU_VERSION } from "./version.js";

/** Commands that wait; beyond, reading stops (QEMU has 8). */
const QUEUE_LIMIT = 8;
/** Bytes that a client has not read, beyond which its commands wait and it gets no events. */
const UNREAD_LIMIT = 4 << 20;

export interface SessionOwner {
  readonly context: CommandContext;
  find(name: string): QmpCommand | undefined;
  /** Around a command: events are held back until its answer is sent. */
  begin(): void;
  end(): void;
}

export class QmpSession {
  private readonly input: JsonInput;
  private readonly queue: Array<() => void | Promise<void>> = [];
  private negotiated = false;
  /** The client may say exec-oob: no command here is one that may run out of band, so that it is refused by name. */
  private outOfBand = false;
  private working = false;
  private closed = false;

  constructor(
    private readonly stream: ByteStream,
    private readonly owner: SessionOwner,
    private readonly pretty: boolean,
  ) {
    this.input = new JsonInput(
      (value) => this.enqueue(() => this.request(value)),
      (error) => this.enqueue(() => this.send(errorAnswer(generic(error.message)))),
    );
    const { readable, writable } = stream;
    readable.on("data", (bytes: Buffer | string) => {
      if (!this.closed) {
        this.input.feed(typeof bytes === "string" ? Buffer.from(bytes) : bytes);
      }
    });
    readable.once("end", () => this.enqueue(() => stream.end()));
    // What was asked before an orderly end is still answered.
    readable.once("close", () => (readable.readableEnded ? this.enqueue(() => this.close()) : this.close()));
    writable.on("error", () => this.close());
    writable.on("drain", () => {
      this.flow();
      void this.work();
    });
    const { packageName } = owner.context.target;
    this.send({ QMP: { version: { qemu: { ...QEMU_VERSION }, package: packageName }, capabilities: ["oob"] } });
    readable.resume();
  }

  get isOpen(): boolean {
    return !this.closed;
  }

  /** Sends an event to a client that has negotiated. */
  event(message: Json): void {
    if (this.negotiated && this.stream.writable.writableLength < UNREAD_LIMIT) {
      this.send(message);
    }
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      this.queue.length = 0;
      this.stream.close();
    }
  }

  /** Ends the direction to the client; resolves when what has been sent has left. */
  async finish(): Promise<void> {
    const { writable } = this.stream;
    if (!this.closed && writable.writable) {
      await new Promise<void>((resolve) => {
        writable.once("close", resolve);
        writable.write("", () => resolve());
      });
    }
    this.stream.end();
  }

  private enqueue(task: () => void | Promise<void>): void {
    this.queue.push(task);
    this.flow();
    void this.work();
  }

  /** The client is there and leaves its answers lie. */
  private get unread(): boolean {
    const { writable } = this.stream;
    return writable.writable && writable.writableLength >= UNREAD_LIMIT;
  }

  private flow(): void {
    const full = this.queue.length >= QUEUE_LIMIT || this.unread;
    if (this.closed) {
      return;
    }
    if (full) {
      this.stream.readable.pause();
    } else if (this.stream.readable.isPaused()) {
      this.stream.readable.resume();
    }
  }

  private async work(): Promise<void> {
    if (this.working) {
      return;
    }
    this.working = true;
    // One piece of the client's bytes may hold thousands of commands.
    while (this.queue.length > 0 && !this.closed && !this.unread) {
      await this.queue.shift()!();
      this.flow();
    }
    this.working = false;
  }

  private async request(value: Json): Promise<void> {
    const id: { [key: string]: Json } = isObject(value) && Object.hasOwn(value, "id") ? { id: value.id } : {};
    this.owner.begin();
    try {
      const result = await this.execute(value);
      this.send({ return: result ?? {}, ...id });
    } catch (error) {
      const known = asQmpError(error);
      this.send({ ...id, ...errorAnswer(known ?? generic(`this is a fault of viommu: ${error instanceof Error ? error.message : String(error)}`)) });
    } finally {
      this.owner.end();
    }
  }

  private execute(value: Json): Json | undefined | Promise<Json | undefined> {
    const { name, args, outOfBand } = checkRequest(value, this.outOfBand);
    if (!this.negotiated && name !== "qmp_capabilities") {
      throw new QmpError("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    if (name === "qmp_capabilities") {
      return this.negotiate(args);
    }
    const command = this.owner.find(name);
    if (command === undefined) {
      throw new QmpError("CommandNotFound", `The command ${name} has not been found`);
    }
    if (outOfBand) {
      throw generic(`The command ${name} does not support OOB`);
    }
    checkArguments(command, args);
    return command.run(args, this.owner.context);
  }

  private negotiate(args: Arguments): undefined {
    if (this.negotiated) {
      throw new QmpError("CommandNotFound", "Capabilities negotiation is already complete, command ignored");
    }
    checkArguments({ name: "qmp_capabilities", parameters: { enable: { type: "any", optional: true } }, run: () => undefined }, args);
    const { enable } = args;
    if (enable !== undefined) {
      if (!Array.isArray(enable)) {
        throw generic("Invalid parameter type for 'enable', expected: array");
      }
      for (const one of enable) {
        if (typeof one !== "string") {
          throw generic("Invalid parameter type for 'null', expected: string");
        }
        if (one !== "oob") {
          throw generic(`Parameter 'null' does not accept value '${one}'`);
        }
      }
      this.outOfBand = enable.length > 0;
    }
    this.negotiated = true;
    return undefined;
  }

  private send(message: Json): void {
    if (!this.closed && this.stream.writable.writable) {
      this.stream.writable.write(`${formatJson(message, this.pretty)}\r\n`);
    }
  }
}

function errorAnswer(error: QmpError): { error: Json } {
  return { error: { class: error.errorClass, desc: error.desc } };
}

function isObject(value: Json): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The members of a request (QEMU's qapi/qmp-dispatch.c). */
function checkRequest(value: Json, allowOutOfBand: boolean): { name: string; args: Arguments; outOfBand: boolean } {
  if (!isObject(value)) {
    throw generic("QMP input must be a JSON object");
  }
  let name: string | null = null;
  let key = "";
  let args: Arguments = {};
  for (const [member, given] of Object.entries(value)) {
    if (member === "execute" || (member === "exec-oob" && allowOutOfBand)) {
      if (typeof given !== "string") {
        throw generic(`QMP input member '${member}' must be a string`);
      }
      if (name !== null) {
        throw generic("QMP input member 'execute' clashes with 'exec-oob'");
      }
      name = given;
      key = member;
    } else if (member === "arguments") {
      if (!isObject(given)) {
        throw generic("QMP input member 'arguments' must be an object");
      }
      args = given;
    } else if (member !== "id") {
      throw generic(`QMP input member '${member}' is unexpected`);
    }
  }
  if (name === null) {
    throw generic("QMP input lacks member 'execute'");
  }
  return { name, args, outOfBand: key === "exec-oob" };
}
