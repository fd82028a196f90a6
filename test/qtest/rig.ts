/** A machine of ours with a qtest server, and a peer that keeps what it is sent. */
import { PassThrough, Writable } from "node:stream";
import { type QtestLog, type QtestPeer, QtestServer } from "../../src/qtest/index.js";
import { build, type Built } from "../machine/build.js";

export class Rig {
  readonly built: Built;
  readonly server: QtestServer;
  /** What the server has sent and nobody has taken. */
  private text = "";
  private readonly input = new PassThrough();

  constructor(line: string, log: QtestLog | null = null) {
    this.built = build(`${line} -qtest null -accel qtest`);
    const { machine } = this.built;
    machine.start();
    const { board, pins } = machine;
    this.server = new QtestServer({ memory: board.memory, ports: board.ports, clock: board.clock, findDevice: (path) => pins.find(path) }, log);
    const output = new Writable({
      write: (bytes: Buffer, _encoding, done) => {
        this.text += bytes.toString("latin1");
        done();
      },
    });
    const peer: QtestPeer = { readable: this.input, writable: output, end: () => output.end(), close: () => this.input.destroy() };
    this.server.serve(peer);
  }

  /** Bytes as one piece. @returns the lines that came back */
  send(bytes: string | Buffer): string[] {
    this.server.receive(Buffer.from(bytes));
    return this.take();
  }

  take(): string[] {
    const lines = this.text.split("\n");
    this.text = lines.pop()!;
    return lines;
  }

  ask(line: string): string[] {
    return this.send(`${line}\n`);
  }

  get closed(): boolean {
    return this.input.destroyed;
  }

  end(): void {
    this.built.machine.shutdown();
    this.built.host.close();
  }
}
