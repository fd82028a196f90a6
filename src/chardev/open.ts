/** Opens character devices: connects, or listens and takes one peer after the other as QEMU's socket backend does. */
import { once } from "node:events";
import { createWriteStream, existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { Readable, type Writable } from "node:stream";
import { Refusal, systemWords } from "../support/index.js";
import { type ChardevSpec, describeChardev } from "./spec.js";

/** One peer's bytes in both directions. A peer that ends its own is still there: who has no more to say closes the stream. */
export interface ByteStream {
  readonly readable: Readable;
  readonly writable: Writable;
  /** Ends the direction to the peer, once what was written has gone; standard output stays. Safe to call twice. */
  end(): void;
  /** Ends both directions. Safe to call twice. */
  close(): void;
}

export interface Chardev {
  readonly spec: ChardevSpec;
  /** The TCP port that it listens at (the one chosen where 0 was asked for); null: none. */
  readonly port: number | null;
  /** Resolves when no peer is there and none can come any more. Never rejects. */
  readonly done: Promise<void>;
  /** Ends the peer and the listening. Safe to call twice. */
  close(): void;
}

/**
 * Opens a character device and calls `onPeer` for each peer, one at a time: a second peer of a listener waits
 * until the first has gone.
 * @returns once it is connected or listens: `wait` makes no difference to a machine that nobody plays meanwhile
 * @throws Refusal where it cannot be
 */
export async function openChardev(spec: ChardevSpec, onPeer: (stream: ByteStream) => void): Promise<Chardev> {
  switch (spec.kind) {
    case "null":
      return silence(spec);
    case "stdio": {
      const stream: ByteStream = { readable: process.stdin, writable: process.stdout, end: () => {}, close: () => process.stdin.destroy() };
      const done = ended(process.stdin);
      onPeer(stream);
      return { spec, port: null, done, close: stream.close };
    }
    case "file":
      return recordIn(spec, onPeer);
    default:
      return spec.server ? listen(spec, onPeer) : dial(spec, onPeer);
  }
}

/** @throws Refusal where the file cannot be written */
async function recordIn(spec: Extract<ChardevSpec, { kind: "file" }>, onPeer: (stream: ByteStream) => void): Promise<Chardev> {
  const writable = createWriteStream(spec.path, { flags: spec.append ? "a" : "w" });
  try {
    await once(writable, "open");
  } catch (error) {
    throw new Refusal(`Could not open '${spec.path}': ${systemWords(error)}`, { found: describeChardev(spec), wouldWork: "a path in a folder that can be written" });
  }
  const done = ended(writable);
  const close = (): void => void writable.end();
  onPeer({ readable: Readable.from([]), writable, end: close, close });
  return { spec, port: null, done, close };
}

/** Nobody comes, and nobody goes before `close`. */
function silence(spec: ChardevSpec): Chardev {
  let end = (): void => {};
  const done = new Promise<void>((resolve) => (end = resolve));
  const alive = setInterval(() => {}, 2 ** 30);
  const close = (): void => {
    clearInterval(alive);
    end();
  };
  return { spec, port: null, done, close };
}

type SocketSpec = Extract<ChardevSpec, { kind: "unix" | "tcp" }>;

function address(spec: SocketSpec): { path: string } | { host: string; port: number } {
  return spec.kind === "unix" ? { path: spec.path } : { host: spec.host, port: spec.port };
}

async function dial(spec: SocketSpec, onPeer: (stream: ByteStream) => void): Promise<Chardev> {
  const socket = connect({ ...address(spec), allowHalfOpen: true });
  try {
    await once(socket, "connect");
  } catch (error) {
    throw new Refusal(`Failed to connect to '${spec.kind === "unix" ? spec.path : `${spec.host}:${spec.port}`}': ${systemWords(error)}`, {
      found: describeChardev(spec),
      wouldWork: `a program that listens there, or ${spec.kind}:...,server=on,wait=off to listen`,
    });
  }
  const stream = socketStream(socket);
  const done = ended(socket);
  onPeer(stream);
  return { spec, port: null, done, close: stream.close };
}

async function listen(spec: SocketSpec, onPeer: (stream: ByteStream) => void): Promise<Chardev> {
  removeStaleSocket(spec);
  // Peers are taken one at a time; those that come meanwhile wait, in the order of their coming.
  const waiting: Socket[] = [];
  let current: Socket | null = null;
  const next = (): void => {
    current = waiting.shift() ?? null;
    if (current === null) {
      return;
    }
    const socket = current;
    socket.once("close", () => {
      if (current === socket) {
        next();
      }
    });
    onPeer(socketStream(socket));
  };
  // A peer that ends its direction is still sent what it has asked for.
  const server: Server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    waiting.push(socket);
    if (current === null) {
      next();
    }
  });
  server.listen(address(spec));
  try {
    await once(server, "listening");
  } catch (error) {
    throw new Refusal(`Failed to ${spec.kind === "unix" ? `bind socket to ${spec.path}` : `find an available port`}: ${lacksFolder(spec) ? "No such file or directory" : systemWords(error)}`, {
      found: describeChardev(spec),
      wouldWork: lacksFolder(spec) ? "a path in a folder that is there" : "an address that nothing else uses",
    });
  }
  const done = ended(server);
  const bound = server.address();
  const close = (): void => {
    server.close();
    [current, ...waiting.splice(0)].forEach((socket) => socket?.destroy());
  };
  return { spec, port: typeof bound === "object" && bound !== null ? bound.port : null, done, close };
}

/** Node says EACCES where a socket's folder is not there. */
function lacksFolder(spec: SocketSpec): boolean {
  return spec.kind === "unix" && !existsSync(dirname(spec.path));
}

/** A socket file that an earlier process has left stands in the way; anything else stays. */
function removeStaleSocket(spec: SocketSpec): void {
  try {
    if (spec.kind === "unix" && lstatSync(spec.path).isSocket()) {
      unlinkSync(spec.path);
    }
  } catch {
    // Nothing is there; or it cannot be removed, and binding says why.
  }
}

function socketStream(socket: Socket): ByteStream {
  socket.setNoDelay(true);
  socket.on("error", () => {});
  return { readable: socket, writable: socket, end: () => socket.end(), close: () => socket.destroy() };
}

function ended(source: { once(event: "close", listener: () => void): unknown }): Promise<void> {
  return new Promise((resolve) => {
    source.once("close", () => resolve());
  });
}
