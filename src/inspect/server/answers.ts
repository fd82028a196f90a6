/** Who answers an inspector's questions: a machine's monitor, or answers that are there already. */
import { type ByteStream, type ChardevSpec, describeChardev, openChardev } from "../../chardev/index.js";
import { QmpClient, QmpRefusal } from "../../remote/index.js";
import type { LessonReport } from "../report/index.js";
import { Refusal } from "../../support/index.js";

export interface Answers {
  /** @returns what the command returns. @throws QmpRefusal where it is refused, Refusal where nobody answers any more */
  ask(execute: string, given: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** Resolves when nobody answers any more. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Answers that stand still, by the command's name; what is not among them is unknown. */
export function answersOf(kept: Readonly<Record<string, unknown>>): Answers {
  return {
    ask: (execute) => (Object.hasOwn(kept, execute) ? Promise.resolve(kept[execute]) : Promise.reject(new QmpRefusal(execute, "CommandNotFound", `The command ${execute} has not been found`))),
    ended: new Promise(() => {}),
    close: () => {},
  };
}

/** The same with a lesson beside it, which a page asks for as `x-viommu-lesson`: no monitor has that. */
export function withLesson(answers: Answers, lesson: LessonReport): Answers {
  return { ...answers, ask: (execute, given) => (execute === "x-viommu-lesson" ? Promise.resolve(lesson) : answers.ask(execute, given)) };
}

/** Speaks with a machine's monitor. @throws Refusal where the other side has none of our commands */
export async function connectMonitor(stream: ByteStream, name: string): Promise<Answers> {
  const client = new QmpClient(stream);
  try {
    await client.negotiate();
    const commands = (await client.execute("query-commands")) as Array<{ readonly name?: string }>;
    if (!Array.isArray(commands) || !commands.some((one) => one?.name === "x-viommu-map")) {
      throw new Refusal("the monitor has no commands for an inspector", {
        found: `${name}: ${await versionOf(client)}, without x-viommu-map`,
        wouldWork: "the socket of viommu run -qmp unix:PATH,server=on,wait=off; viommu inspect -- and QEMU's arguments makes a machine of viommu of them",
      });
    }
  } catch (error) {
    client.close();
    throw error;
  }
  return { ask: (execute, given) => client.execute(execute, given), ended: client.ended, close: () => client.close() };
}

async function versionOf(client: QmpClient): Promise<string> {
  const { qemu, package: named } = ((await client.execute("query-version").catch(() => null)) ?? {}) as { qemu?: { major: number; minor: number; micro: number }; package?: string };
  return named !== undefined && /^viommu /.test(named) ? named : qemu === undefined ? "no QEMU and no viommu" : `QEMU ${qemu.major}.${qemu.minor}.${qemu.micro}`;
}

/**
 * Connects to a monitor's socket.
 * @param text a path, `unix:PATH`, `tcp:HOST:PORT` or `HOST:PORT`
 * @throws Refusal where nobody listens, or it is no monitor of viommu
 */
export async function openMonitorSocket(text: string): Promise<Answers> {
  const spec = socketOf(text);
  const stream = await new Promise<ByteStream>((resolve, reject) => {
    openChardev(spec, resolve).catch(reject);
  });
  return connectMonitor(stream, describeChardev(spec));
}

function socketOf(text: string): ChardevSpec {
  const [, host, port] = /^(?:tcp:)?(\[[0-9a-f:]+\]|[\w.-]+):(\d{1,5})$/i.exec(text) ?? [];
  if (host !== undefined && host !== "unix" && Number(port) > 0 && Number(port) < 65536) {
    return { kind: "tcp", host: host.replace(/^\[|\]$/g, ""), port: Number(port), server: false, wait: false };
  }
  const path = text.replace(/^unix:/, "");
  if (path === "" || text.startsWith("tcp:") || path.includes("\0")) {
    throw new Refusal("--qmp expects a monitor's socket", { found: `--qmp ${text}`, wouldWork: "unix:PATH, or HOST:PORT" });
  }
  return { kind: "unix", path, server: false, wait: false };
}
