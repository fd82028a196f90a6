/** HTTP on loopback, for a browser of this machine and whoever knows the token. */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { QmpRefusal } from "../../remote/index.js";
import { Refusal, systemWords } from "../../support/index.js";
import type { PageData } from "../report/index.js";
import { isAllowed } from "./allowed.js";
import type { Answers } from "./answers.js";
import { News } from "./news.js";
import { pageFolder, readPage, withData } from "./page-files.js";

export interface InspectorOptions {
  readonly answers: Answers;
  /** 0: one that is free. */
  readonly port: number;
  /** `stop` and `cont` may be asked for. */
  readonly control: boolean;
  /** Where the built page is; default the package's. */
  readonly page?: string;
  /** What the page shows in place of a machine: a recording. */
  readonly data?: PageData;
}

export interface Inspector {
  /** With its token: who has it may look. */
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Bytes of a question. */
const BODY = 1 << 16;
/** Questions that wait for the monitor, of all clients. */
const WAITING = 32;
const CONNECTIONS = 64;
const TOKEN_BYTES = 16;

/** Nothing from elsewhere, nothing inline, in no frame, no word of the address to others. */
const HEADERS: Readonly<Record<string, string>> = {
  "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Cache-Control": "no-store",
};

/** A request that is answered with a status and a sentence. */
class Denied extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** Serves a page and its questions on 127.0.0.1 and, where there is one, ::1. @throws Refusal where the port is taken, or the page is not built */
export async function openInspector({ answers, port, control, page = pageFolder(), data }: InspectorOptions): Promise<Inspector> {
  const files = data === undefined ? readPage(page) : withData(readPage(page), data);
  const token = randomBytes(TOKEN_BYTES).toString("hex");
  const news = new News(answers);
  let waiting = 0;

  const question = async (request: IncomingMessage): Promise<unknown> => {
    if (!/^application\/json\s*(?:;|$)/i.test(request.headers["content-type"] ?? "")) {
      throw new Denied(415, "a question is application/json");
    }
    if (waiting >= WAITING) {
      throw new Denied(503, `${WAITING} questions wait already`);
    }
    // Counted while it is read, too: who sends slowly holds a place of few.
    waiting++;
    try {
      const { execute, given } = questionOf(await bodyOf(request));
      if (!isAllowed(execute, control)) {
        throw new Denied(403, `a page may not ask for ${execute}: x-viommu-*, query-* and trace-event-* alone${control ? ", stop and cont" : ""}`);
      }
      return { return: (await answers.ask(execute, given)) ?? {} };
    } catch (error) {
      if (error instanceof QmpRefusal) {
        return { error: { class: error.errorClass, desc: error.description } };
      }
      if (error instanceof Refusal) {
        throw new Denied(502, error.message);
      }
      throw error;
    } finally {
      waiting--;
    }
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    checkSender(request, request.socket.localPort ?? 0);
    const [, given = "", name = null] = /^\/([^/?]*)(?:\/([^?]*))?(?:\?.*)?$/s.exec(request.url ?? "") ?? [];
    if (!isSame(given, token)) {
      throw new Denied(404, "there is nothing at this address: the whole address, with its token, is what viommu has printed");
    }
    if (name === "qmp") {
      allow(request, "POST");
      send(response, 200, "application/json", JSON.stringify(await question(request)));
      return;
    }
    allow(request, "GET", "HEAD");
    if (name === null) {
      response.writeHead(308, { ...HEADERS, Location: `/${token}/` }).end();
    } else if (name === "events") {
      if (news.isFull) {
        throw new Denied(503, "too many listen already");
      }
      response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
      news.add(response);
    } else {
      const file = files.get(name === "" ? "index.html" : name);
      if (file === undefined) {
        throw new Denied(404, "there is no such file");
      }
      send(response, 200, file.type, file.bytes);
    }
  };

  const listener: RequestListener = (request, response) => {
    request.on("error", () => {});
    response.on("error", () => {});
    answer(request, response).catch((error: unknown) => {
      const [status, words] = error instanceof Denied ? [error.status, error.message] : [500, `this is a fault of viommu: ${error instanceof Error ? error.message : String(error)}`];
      if (response.headersSent) {
        response.destroy();
        return;
      }
      // What of the question has not been read stays so.
      response.setHeader("Connection", "close");
      send(response, status, "application/json", JSON.stringify({ error: { class: "GenericError", desc: words } }));
    });
  };
  const servers = await listen(listener, port);
  const { port: bound } = servers[0].address() as { port: number };
  return {
    address: `http://127.0.0.1:${bound}/${token}/`,
    port: bound,
    close: async () => {
      news.close();
      await Promise.all(
        servers.map(async (server) => {
          server.close();
          server.closeAllConnections();
          await once(server, "close");
        }),
      );
    },
  };
}

/** The same port of both loopback addresses; ::1 only where this machine has it. @throws Refusal */
async function listen(listener: RequestListener, port: number): Promise<Server[]> {
  for (let tries = 0; ; tries++) {
    const four = await bind(listener, "127.0.0.1", port);
    const { port: bound } = four.address() as { port: number };
    try {
      return [four, await bind(listener, "::1", bound)];
    } catch (error) {
      const { code } = (error as Refusal & { cause?: { code?: string } }).cause ?? {};
      if (code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT") {
        return [four];
      }
      four.close();
      // Of ports that are chosen for us the next may be free at both.
      if (port !== 0 || tries > 8) {
        throw error;
      }
    }
  }
}

async function bind(listener: RequestListener, host: string, port: number): Promise<Server> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000, keepAliveTimeout: 5_000, maxHeaderSize: 16 << 10 }, listener);
  server.maxConnections = CONNECTIONS;
  server.listen({ host, port, ipv6Only: true });
  try {
    await once(server, "listening");
  } catch (error) {
    const refusal = new Refusal(`the inspector cannot listen: ${systemWords(error)}`, { found: `--port ${port}`, wouldWork: "another port, or no --port: one that is free" });
    refusal.cause = error;
    throw refusal;
  }
  return server;
}

/** Against pages of other sites, and names that lead here (DNS rebinding): only this server's own page may ask. @throws Denied */
function checkSender({ headers, method }: IncomingMessage, port: number): void {
  const ours = [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`];
  const host = (headers.host ?? "").toLowerCase();
  if (!ours.includes(host)) {
    throw new Denied(421, "this server is reached as 127.0.0.1, localhost or [::1]");
  }
  if (headers.origin !== undefined && headers.origin !== `http://${host}`) {
    throw new Denied(403, "another site's page may not ask");
  }
  const site = headers["sec-fetch-site"];
  const opens = method === "GET" && headers["sec-fetch-dest"] === "document";
  if (site !== undefined && site !== "same-origin" && site !== "none" && !opens) {
    throw new Denied(403, "another site's page may not ask");
  }
}

/** In the same time wherever they differ. */
function isSame(given: string, token: string): boolean {
  const [a, b] = [given, token].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(a, b);
}

function allow(request: IncomingMessage, ...methods: string[]): void {
  if (!methods.includes(request.method ?? "")) {
    throw new Denied(405, `${methods.join(" or ")}, not ${request.method}`);
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BODY) {
      throw new Denied(413, `a question has at most ${BODY} bytes`);
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function questionOf(text: string): { execute: string; given: Record<string, unknown> } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Denied(400, "a question is JSON");
  }
  const { execute, arguments: given = {} } = (typeof value === "object" && value !== null ? value : {}) as { execute?: unknown; arguments?: unknown };
  if (typeof execute !== "string" || typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Denied(400, 'a question is {"execute": NAME, "arguments": {...}}');
  }
  return { execute: execute.slice(0, 100), given: given as Record<string, unknown> };
}

function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { ...HEADERS, "Content-Type": type, "Content-Length": Buffer.byteLength(body) }).end(response.req.method === "HEAD" ? undefined : body);
}
