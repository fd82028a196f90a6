/** A machine's monitors: their clients, the commands, and the events that all of them get. */
import type { ByteStream } from "../chardev/index.js";
import type { MachineEvent } from "../machine/index.js";
import { commands } from "./commands/index.js";
import type { CommandContext, QmpCommand } from "./command.js";
import { AFTER_ANSWER, eventMessage } from "./events.js";
import { ReadlineSession } from "./readline-session.js";
import { QmpSession, type SessionOwner } from "./session.js";
import type { MonitorTarget } from "./target.js";

export class QmpMonitor implements SessionOwner {
  readonly context: CommandContext;
  /** Clients that there were. */
  clients = 0;
  private readonly sessions = new Set<QmpSession>();
  private running = 0;
  private held: MachineEvent[] = [];
  private readonly unsubscribe: () => void;

  constructor(target: MonitorTarget) {
    this.context = { target, commands: () => commands.values() };
    this.unsubscribe = target.machine.events.subscribe((event) => this.take(event));
  }

  /** Serves a client until it goes. */
  serve(stream: ByteStream, pretty = false): void {
    const session: QmpSession = new QmpSession(stream, this, pretty);
    this.clients++;
    this.sessions.add(session);
    stream.readable.once("close", () => this.sessions.delete(session));
  }

  /** Serves a person until it goes. */
  serveReadline(stream: ByteStream): void {
    this.clients++;
    new ReadlineSession(stream, this.context);
  }

  find(name: string): QmpCommand | undefined {
    return commands.get(name);
  }

  begin(): void {
    this.running++;
  }

  end(): void {
    this.running--;
    if (this.running === 0) {
      this.held.splice(0).forEach((event) => this.send(event));
    }
  }

  /** Says goodbye: resolves when all that has been said is sent, or after `milliseconds`. */
  async finish(milliseconds: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds)));
    await Promise.race([Promise.all([...this.sessions].map((session) => session.finish())), late]);
    clearTimeout(timer);
  }

  close(): void {
    this.unsubscribe();
    this.sessions.forEach((session) => session.close());
  }

  private take(event: MachineEvent): void {
    if (this.running > 0 && AFTER_ANSWER.has(event.name)) {
      this.held.push(event);
    } else {
      this.send(event);
    }
  }

  private send(event: MachineEvent): void {
    const message = eventMessage(event, performance.timeOrigin + performance.now());
    this.sessions.forEach((session) => session.event(message));
  }
}
