/**
 * The guest's consoles: what it sends goes to a character device, what comes from there is given as fast as it reads.
 * On a terminal the keys go through as they are, but for Ctrl-a, which begins a command as in QEMU (-nographic): x ends
 * the machine, c changes to the monitor and back, h tells them, a second Ctrl-a is one for the guest.
 */
import { type ByteStream, type Chardev, openChardev } from "../chardev/index.js";
import type { ChardevSpec } from "../chardev/index.js";
import { ConsoleMonitor } from "./console-monitor.js";

/** A serial port of a board, as this end sees it. */
export interface SerialPort {
  /** Bytes that it takes now. */
  readonly room: number;
  receive(bytes: Iterable<number>): void;
}

export interface ConsoleCommands {
  /** Ctrl-a x. */
  quit(): void;
  /** Begins a monitor on a stream, at the first Ctrl-a c; null: there is none to change to. */
  readonly monitor: ((stream: ByteStream) => void) | null;
}

const CTRL_A = 0x01;
const HELP = [
  "",
  "C-a h    print this help",
  "C-a x    exit viommu",
  "C-a c    switch between console and monitor",
  "C-a C-a  sends C-a",
  "",
].join("\r\n");

/** Bytes that wait for the guest at the most: beyond it the source waits. */
const MOST_WAITING = 4096;
/** Output that is collected before it is written. */
const FLUSH_BYTES = 1024;

export class Console {
  /** Bytes of output so far, for those who look for words in it. */
  onOutput: ((text: string) => void) | null = null;
  private stream: ByteStream | null = null;
  private chardev: Chardev | null = null;
  private readonly waiting: number[] = [];
  private readonly output: number[] = [];
  private flushing = false;
  private escaped = false;
  private monitor: ConsoleMonitor | null = null;
  /** The monitor has the keys. */
  private inMonitor = false;
  private raw = false;
  private readonly restore = (): void => this.leaveRaw();

  constructor(
    private readonly port: () => SerialPort,
    private readonly commands: ConsoleCommands,
  ) {}

  /** @throws Refusal where the device cannot be opened */
  async open(spec: ChardevSpec): Promise<void> {
    this.chardev = await openChardev(spec, (stream) => this.connect(stream, spec.kind === "stdio"));
  }

  /** Speaks over a stream. `terminal`: its keys may be commands. */
  connect(stream: ByteStream, terminal: boolean): void {
    this.stream = stream;
    if (terminal && process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      this.raw = true;
      // Whatever ends the process, the shell gets its terminal back.
      process.on("exit", this.restore);
    }
    stream.writable.on("error", () => {});
    stream.readable.on("data", (data: Buffer) => {
      for (const byte of data) {
        this.key(byte, terminal);
      }
      this.deliver();
      if (this.waiting.length > MOST_WAITING) {
        stream.readable.pause();
      }
    });
  }

  private key(byte: number, terminal: boolean): void {
    if (!terminal) {
      this.waiting.push(byte);
    } else if (this.escaped) {
      this.escaped = false;
      switch (String.fromCharCode(byte)) {
        case "x":
          this.commands.quit();
          return;
        case "c":
          this.changeOver();
          return;
        case "h":
        case "?":
          this.stream?.writable.write(HELP);
          return;
        default:
          this.take(byte);
      }
    } else if (byte === CTRL_A) {
      this.escaped = true;
    } else {
      this.take(byte);
    }
  }

  private take(byte: number): void {
    if (this.inMonitor) {
      this.monitor?.key(byte);
    } else {
      this.waiting.push(byte);
    }
  }

  /** Ctrl-a c. */
  private changeOver(): void {
    const { monitor: open } = this.commands;
    if (open === null) {
      return;
    }
    this.inMonitor = !this.inMonitor;
    if (this.inMonitor) {
      this.monitor ??= new ConsoleMonitor(open, (bytes) => {
        this.flush();
        this.stream?.writable.write(bytes);
      });
    }
  }

  /** Gives the guest what it has room for. */
  deliver(): void {
    const port = this.port();
    while (this.waiting.length > 0 && port.room > 0) {
      port.receive(this.waiting.splice(0, port.room));
    }
    if (this.waiting.length <= MOST_WAITING) {
      this.stream?.readable.resume();
    }
  }

  /** A byte of the guest's. Written at the turn's end, or in pieces. */
  send(byte: number): void {
    this.output.push(byte);
    if (this.output.length >= FLUSH_BYTES) {
      this.flush();
    } else if (!this.flushing) {
      this.flushing = true;
      setImmediate(() => {
        this.flushing = false;
        this.flush();
      });
    }
  }

  private flush(): void {
    if (this.output.length === 0) {
      return;
    }
    const bytes = Buffer.from(this.output.splice(0));
    this.onOutput?.(bytes.toString("latin1"));
    this.stream?.writable.write(bytes);
  }

  private leaveRaw(): void {
    if (this.raw) {
      this.raw = false;
      process.stdin.setRawMode(false);
    }
  }

  close(): void {
    this.flush();
    this.monitor?.close();
    this.leaveRaw();
    process.off("exit", this.restore);
    this.chardev?.close();
    this.chardev = null;
    this.stream = null;
  }
}
