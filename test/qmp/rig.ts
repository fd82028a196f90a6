/** A machine with a monitor in the process, and a client of it. */
import { PassThrough } from "node:stream";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { QmpMonitor } from "../../src/qmp/index.js";
import { Log } from "../../src/support/index.js";
import { hostInput } from "../machine/build.js";

export type Answer = { [key: string]: unknown };

export class QmpClient {
  readonly received: Answer[] = [];
  /** As it came, for what a line ends with. */
  raw = "";
  private readonly toMonitor = new PassThrough();
  private readonly fromMonitor = new PassThrough();
  closed = false;

  constructor(monitor: QmpMonitor, options: { readonly pretty?: boolean; readonly people?: boolean } = {}) {
    this.fromMonitor.on("data", (bytes: Buffer) => (this.raw += bytes.toString("utf8")));
    const stream = {
      readable: this.toMonitor,
      writable: this.fromMonitor,
      end: () => {
        this.closed = true;
        this.fromMonitor.end();
      },
      close: () => {
        this.closed = true;
        this.toMonitor.destroy();
        this.fromMonitor.end();
      },
    };
    if (options.people === true) {
      monitor.serveReadline(stream);
    } else {
      monitor.serve(stream, options.pretty);
    }
  }

  write(text: string | Uint8Array): void {
    this.toMonitor.write(text);
  }

  end(): void {
    this.toMonitor.end();
  }

  /** What has come since the last call, a value a line, without timestamps. */
  async take(): Promise<Answer[]> {
    await settle();
    const lines = this.raw.split("\r\n");
    this.raw = lines.pop()!;
    return lines.map((line) => {
      const { timestamp, ...rest } = JSON.parse(line) as Answer;
      void timestamp;
      return rest;
    });
  }

  async ask(command: string, args?: Answer): Promise<Answer[]> {
    this.write(`${JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) })}\n`);
    return this.take();
  }
}

/** Lets streams and promises come to rest. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 6; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export class MonitorRig {
  readonly host;
  readonly machine: Machine;
  readonly monitor: QmpMonitor;
  quits = 0;

  constructor(words: string, host = "board") {
    this.host = createSimulatedHost(describeHost(hostInput(host)));
    this.machine = new Machine(parseArguments(words.split(" ")), this.host, new Log());
    this.machine.start();
    this.monitor = new QmpMonitor({
      machine: this.machine,
      packageName: "viommu test",
      chardevs: () => [{ label: "compat_monitor0", filename: "unix:/somewhere,server=on", open: true }],
      quit: () => this.quits++,
    });
  }

  /** A client that has negotiated. */
  async client(): Promise<QmpClient> {
    const client = new QmpClient(this.monitor);
    await client.ask("qmp_capabilities");
    return client;
  }

  /** Shuts down; returns what is left on the host. */
  close(): number {
    this.monitor.close();
    this.machine.shutdown();
    const left = this.host.liveObjects().length;
    this.host.close();
    return left;
  }
}
