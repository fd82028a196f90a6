import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Answers, answersOf, type Inspector, isAllowed, openInspector, openMonitorSocket } from "../../src/inspect/server/index.js";
import { Refusal } from "../../src/support/index.js";
import { serve, type Served } from "./served.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-server-"));
beforeAll(() => ["index.html", "page.js", "page.css"].forEach((name) => writeFileSync(join(folder, name), `of ${name}`)));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let open: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  await Promise.all(open.map((one) => one.close()));
  open = [];
});

async function inspector(answers: Answers = answersOf({ "x-viommu-map": { functions: [] } }), control = false): Promise<Inspector> {
  const one = await openInspector({ answers, port: 0, control, page: folder });
  open.push(one);
  return one;
}

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** One request as a client writes it, whatever its Host and Origin. */
function ask(port: number, path: string, { method = "GET", headers = {}, body }: { method?: string; headers?: Record<string, string>; body?: string } = {}, host = "127.0.0.1"): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const one = request({ host, port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, text }));
      response.on("error", reject);
    });
    one.on("error", reject);
    one.end(body);
  });
}

const question = (execute: string, given: object = {}, headers: Record<string, string> = {}) => ({ method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify({ execute, arguments: given }) });

describe("the page's address", () => {
  it("has a token of 128 bits, another each time, on loopback alone", async () => {
    const [one, two] = [await inspector(), await inspector()];
    expect(one.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}\/$/);
    expect(new URL(one.address).pathname).not.toBe(new URL(two.address).pathname);
    const { pathname } = new URL(one.address);
    expect(await ask(one.port, pathname)).toMatchObject({ status: 200, text: "of index.html" });
    expect(await ask(one.port, pathname, {}, "::1").catch(({ code }: { code: string }) => code)).toSatisfy((reply: Reply | string) => typeof reply === "string" ? /ADDRNOTAVAIL|AFNOSUPPORT/.test(reply) : reply.status === 200);
    // Another address of this machine's loopback network is not bound.
    expect(await ask(one.port, pathname, {}, "127.0.0.2").catch(({ code }: { code: string }) => code)).toBe("ECONNREFUSED");
  });

  it("gives nothing without its token: neither the page, nor answers, nor news", async () => {
    const { port, address } = await inspector();
    const { pathname } = new URL(address);
    const other = `/${"0".repeat(32)}/`;
    for (const path of ["/", "/page.js", "/qmp", "/events", other, `${other}page.js`, `${pathname.slice(0, -2)}/`, `${pathname.slice(0, -1)}0/`, `/x${pathname}`, `/..${pathname}`]) {
      expect((await ask(port, path)).status, path).toBe(404);
    }
    expect(await ask(port, `${other}qmp`, question("x-viommu-map"))).toMatchObject({ status: 404 });
    expect(await ask(port, pathname.slice(0, -1))).toMatchObject({ status: 308, headers: { location: pathname } });
    expect((await ask(port, `${pathname}../package.json`)).status).toBe(404);
    expect((await ask(port, `${pathname}constructor`)).status).toBe(404);
  });

  it("tells a browser to load nothing from elsewhere, to frame it nowhere, to keep its address", async () => {
    const { port, address } = await inspector();
    for (const path of [new URL(address).pathname, "/none"]) {
      const { headers } = await ask(port, path);
      expect(headers).toMatchObject({ "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin", "cache-control": "no-store", "x-frame-options": "DENY" });
      expect(headers["content-security-policy"]).toBe("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
      expect(Object.keys(headers)).not.toContain("set-cookie");
      expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    }
  });
});

describe("who may ask", () => {
  it("is whoever reached it by a loopback name: other names that lead here are refused", async () => {
    const { port, address } = await inspector();
    const path = `${new URL(address).pathname}qmp`;
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `LOCALHOST:${port}`, `[::1]:${port}`]) {
      expect((await ask(port, path, question("x-viommu-map", {}, { Host: host }))).status, host).toBe(200);
    }
    for (const host of ["evil.example", `evil.example:${port}`, "localhost", `127.0.0.1:${port + 1}`, `127.0.0.1.evil.example:${port}`, `2130706433:${port}`]) {
      expect((await ask(port, path, question("x-viommu-map", {}, { Host: host }))).status, host).toBe(421);
    }
  });

  it("is no page of another origin", async () => {
    const { port, address } = await inspector();
    const path = `${new URL(address).pathname}qmp`;
    const status = async (headers: Record<string, string>) => (await ask(port, path, question("x-viommu-map", {}, headers))).status;
    expect(await status({ Origin: `http://127.0.0.1:${port}`, "Sec-Fetch-Site": "same-origin" })).toBe(200);
    for (const origin of ["https://evil.example", "null", `https://127.0.0.1:${port}`, `http://localhost:${port}`, `http://127.0.0.1:${port + 1}`, `http://127.0.0.1:${port}.evil.example`]) {
      expect(await status({ Origin: origin }), origin).toBe(403);
    }
    expect(await status({ "Sec-Fetch-Site": "cross-site" })).toBe(403);
    expect(await status({ "Sec-Fetch-Site": "same-site" })).toBe(403);
    // A link from elsewhere that has the whole address may open the page, and nothing but it.
    const page = new URL(address).pathname;
    const link = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document" };
    expect((await ask(port, page, { headers: link })).status).toBe(200);
    expect((await ask(port, page, { headers: { ...link, "Sec-Fetch-Dest": "iframe" } })).status).toBe(403);
    expect((await ask(port, path, { ...question("x-viommu-map"), headers: { ...link, "Content-Type": "application/json" } })).status).toBe(403);
  });

  it("asks with JSON of a bounded size, by POST", async () => {
    const { port, address } = await inspector();
    const path = `${new URL(address).pathname}qmp`;
    const send = async (body: string, type = "application/json", method = "POST") => (await ask(port, path, { method, headers: { "Content-Type": type }, body })).status;
    const good = JSON.stringify({ execute: "x-viommu-map" });
    expect(await send(good)).toBe(200);
    expect(await send(good, "application/json; charset=utf-8")).toBe(200);
    // What a form of another site may send without being asked first.
    expect(await send(good, "text/plain")).toBe(415);
    expect(await send(good, "application/x-www-form-urlencoded")).toBe(415);
    expect(await send(good, "application/json", "PUT")).toBe(405);
    expect((await ask(port, path)).status).toBe(405);
    expect((await ask(port, new URL(address).pathname, question("x-viommu-map"))).status).toBe(405);
    for (const bad of ["", "{", "null", "[]", "{}", '{"execute":1}', '{"execute":"x-viommu-map","arguments":[]}', '{"execute":"x-viommu-map","arguments":null}']) {
      expect(await send(bad), bad).toBe(400);
    }
    expect(await send(`{"execute":"x-viommu-map","arguments":{"a":"${"x".repeat(1 << 16)}"}}`)).toBe(413);
  });

  it("holds no more questions, listeners and connections than it has room for", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const { port, address } = await inspector({ ...answersOf({}), ask: (execute) => (execute === "x-viommu-timeline" ? Promise.resolve({ on: true, rows: [], first: 1, last: 0 }) : held.then(() => ({ done: true }))) });
    const path = new URL(address).pathname;
    const asked = Array.from({ length: 40 }, () => ask(port, `${path}qmp`, question("x-viommu-map")));
    // Those that there is no room for are answered while the others wait.
    let turnedAway = 0;
    asked.forEach((one) => void one.then(() => ++turnedAway === 8 && release()));
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(32);
    expect(statuses.filter((status) => status === 503)).toHaveLength(8);
    const sockets = Array.from({ length: 17 }, () => connect(port, "127.0.0.1"));
    const first = sockets.map(async (socket) => {
      socket.write(`GET ${path}events HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
      return String((await once(socket, "data"))[0]).split("\r\n")[0];
    });
    expect((await Promise.all(first)).map((line) => line.split(" ")[1]).sort()).toEqual([...Array.from({ length: 16 }, () => "200"), "503"]);
    sockets.forEach((socket) => socket.destroy());
  });
});

describe("what may be asked", () => {
  it("is to look and to trace; with control to stop the machine and let it go on", () => {
    for (const name of ["x-viommu-map", "x-viommu-walk", "x-viommu-timeline-set", "query-status", "query-pci", "trace-event-get-state", "trace-event-set-state"]) {
      expect([isAllowed(name, false), isAllowed(name, true)], name).toEqual([true, true]);
    }
    for (const name of ["stop", "cont"]) {
      expect([isAllowed(name, false), isAllowed(name, true)], name).toEqual([false, true]);
    }
    for (const name of ["quit", "system_reset", "device_del", "device_add", "object-add", "qom-set", "qom-get", "human-monitor-command", "pmemsave", "x-viommu", "query-", "query-status\nquit", "X-VIOMMU-MAP", "", "qmp_capabilities"]) {
      expect([isAllowed(name, false), isAllowed(name, true)], name).toEqual([false, false]);
    }
  });

  it("reaches the machine's monitor, whose refusals come in its words", async () => {
    const { port, address } = await inspector({ ...answersOf({ "x-viommu-map": { functions: ["<b>"] } }) });
    const path = `${new URL(address).pathname}qmp`;
    expect(JSON.parse((await ask(port, path, question("x-viommu-map"))).text)).toEqual({ return: { functions: ["<b>"] } });
    expect(await ask(port, path, question("x-viommu-nothing"))).toMatchObject({ status: 200, text: '{"error":{"class":"CommandNotFound","desc":"The command x-viommu-nothing has not been found"}}' });
    expect(JSON.parse((await ask(port, path, question("quit"))).text)).toEqual({ error: { class: "GenericError", desc: "a page may not ask for quit: x-viommu-*, query-* and trace-event-* alone" } });
  });
});

describe("a machine with its inspector", () => {
  let served: Served | null = null;
  afterEach(async () => {
    await served?.end();
    served = null;
  });

  const MACHINE = "-machine virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus=pcie.0,bus_nr=16 -device arm-smmuv3,id=smmu1,primary-bus=pcie.1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0008:01:00.0,bus=rp1,id=gpu0,iommufd=iommufd0".split(" ");

  it("answers of the machine, sends its rows as they come, and says when it has ended", async () => {
    served = await serve({ arguments: MACHINE, host: "grace", guest: "linux", page: folder, control: true });
    const { port, pathname } = new URL(served.address);
    const asked = async (execute: string, given: object = {}) => JSON.parse((await ask(Number(port), `${pathname}qmp`, question(execute, given))).text) as { return: Record<string, unknown> };
    const map = (await asked("x-viommu-map")).return as { functions: Array<{ function: string; streamId: number }> };
    expect(map.functions.map((one) => one.function)).toEqual(["pcie.1", "rp1", "gpu0"]);
    expect((await asked("query-status")).return).toMatchObject({ running: true });
    await asked("stop");
    expect((await asked("query-status")).return).toMatchObject({ running: false });
    await asked("cont");
    const socket = connect(Number(port), "127.0.0.1");
    socket.write(`GET ${pathname}events HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => (text += part));
    const until = async (words: string): Promise<void> => {
      while (!text.includes(words)) {
        await once(socket, "data");
      }
    };
    await until("event: rows");
    await until("\n\n");
    expect(text).toContain("Content-Type: text/event-stream");
    expect(text).toMatch(/"number":1,/);
    const closed = once(socket, "close");
    const report = await served.end();
    served = null;
    await closed;
    expect(text).toContain("event: end");
    expect(report.hostObjects.alive).toBe(0);
  });

  it("leaves nothing of a machine whose page cannot be served", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    open.push({ close: () => once(taken.close(), "close") });
    await expect(openInspector({ answers: answersOf({}), port, control: false, page: folder })).rejects.toThrow("the inspector cannot listen: Address already in use");
    await expect(openInspector({ answers: answersOf({}), port: 0, control: false, page: join(folder, "none") })).rejects.toThrow("the inspector's page is not there");
    await expect(serve({ arguments: MACHINE, host: "grace", page: join(folder, "none") })).rejects.toThrow("the inspector's page is not there");
  });
});

describe("a monitor's socket", () => {
  /** Whoever speaks, in the words given for each command. */
  async function peer(greeting: string, answers: Readonly<Record<string, object>>): Promise<string> {
    const server: Server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(greeting);
      socket.setEncoding("utf8").on("data", (text: string) => {
        for (const line of text.split("\n").filter((one) => one !== "")) {
          const { execute } = JSON.parse(line) as { execute: string };
          socket.write(`${JSON.stringify(answers[execute] ?? { error: { class: "CommandNotFound", desc: `The command ${execute} has not been found` } })}\r\n`);
        }
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    open.push({ close: () => once(server.close(), "close") });
    return `127.0.0.1:${(server.address() as { port: number }).port}`;
  }

  it("of a QEMU is told apart, with the reason", async () => {
    const version = { qemu: { micro: 0, minor: 1, major: 11 }, package: "Debian 1:11.1.0+ds-1" };
    const where = await peer(`${JSON.stringify({ QMP: { version, capabilities: ["oob"] } })}\r\n`, { qmp_capabilities: { return: {} }, "query-commands": { return: [{ name: "query-status" }] }, "query-version": { return: version } });
    const refused = openMonitorSocket(where);
    await expect(refused).rejects.toThrow(Refusal);
    await expect(refused).rejects.toMatchObject({ words: "the monitor has no commands for an inspector", found: `tcp:${where}: QEMU 11.1.0, without x-viommu-map` });
  });

  it("of what speaks something else, or nobody, is refused", async () => {
    await expect(openMonitorSocket(await peer("220 mail.example ESMTP\r\n", {}))).rejects.toThrow("the QMP socket has closed");
    await expect(openMonitorSocket(join(folder, "none.sock"))).rejects.toThrow("Failed to connect to");
    await expect(openMonitorSocket("unix:")).rejects.toThrow("--qmp expects a monitor's socket");
  });
});
