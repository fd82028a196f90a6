import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadHost } from "../../src/host/shipped/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { findGuest, runMachine, type RunReport, type RunRequest, speaksOnStandardOutput } from "../../src/run/index.js";
import { stockClients } from "./stock-clients.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-qmp-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a run; its monitor listens at the returned path. */
async function start(extra: string, more: Partial<RunRequest> = {}): Promise<{ path: string; report: Promise<RunReport> }> {
  const path = join(folder, "q.sock");
  const report = runMachine({
    arguments: [...`-M virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults ${extra}`.trim().split(" "), "-qmp", `unix:${path},server=on,wait=off`],
    host: await loadHost("board"),
    guest: null,
    ...more,
  });
  while (!existsSync(path)) {
    await Promise.race([report, new Promise((resolve) => setTimeout(resolve, 5))]);
  }
  return { path, report };
}

const PASSTHROUGH =
  "-object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp0 -device vfio-pci,host=0000:03:00.0,id=nic0,bus=rp0,iommufd=iommufd0";

/** Sends lines and collects what comes until the socket closes. */
async function talk(path: string, ...lines: string[]): Promise<Array<{ [key: string]: unknown }>> {
  const socket: Socket = connect(path);
  let text = "";
  socket.on("data", (bytes: Buffer) => (text += bytes.toString()));
  for (const line of ['{"execute":"qmp_capabilities"}', ...lines]) {
    socket.write(`${line}\n`);
  }
  await once(socket, "close");
  return text
    .split("\r\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { [key: string]: unknown });
}

describe("a run with a monitor", () => {
  it("lasts until quit, without a guest that nobody asked for, and leaves nothing", async () => {
    const { path, report } = await start(PASSTHROUGH, { guest: await findGuest("linux"), guestByDefault: true });
    const said = await talk(path, '{"execute":"query-status"}', '{"execute":"quit"}');
    expect(said.slice(2)).toMatchObject([{ return: { status: "running" } }, { return: {} }, { event: "SHUTDOWN", data: { guest: false, reason: "host-qmp-quit" } }]);
    expect(await report).toMatchObject({ ok: true, failure: null, guest: null, hostObjects: { alive: 0 } });
    expect(existsSync(path)).toBe(false);
  });

  it.each(["no client", "a client", "a client that listens itself"])("ends by quit beside a qtest socket with %s", async (which) => {
    const qtest = join(folder, "t.sock");
    const listener = createServer();
    const peers: Socket[] = [];
    listener.on("connection", (socket) => peers.push(socket));
    const listens = which.endsWith("itself");
    if (listens) {
      await once(listener.listen(qtest), "listening");
    }
    const { path, report } = await start(`-qtest unix:${qtest}${listens ? "" : ",server=on,wait=off"} -qtest-log ${join(folder, "log")}`);
    while (!existsSync(qtest)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (which === "a client") {
      peers.push(connect(qtest));
      await once(peers[0], "connect");
      peers[0].write("clock_step\n");
      await once(peers[0], "data");
    }
    const closed = peers.map((peer) => once(peer.resume(), "close"));
    await talk(path, '{"execute":"quit"}');
    expect(await report).toMatchObject({ ok: true, failure: null, hostObjects: { alive: 0 } });
    await Promise.all(closed);
    expect(peers).toHaveLength(which === "no client" ? 0 : 1);
    if (listens) {
      await new Promise((resolve) => listener.close(resolve));
    }
    expect(existsSync(qtest)).toBe(false);
  });

  it("takes one client after another", async () => {
    const { path, report } = await start("");
    for (let n = 0; n < 3; n++) {
      const socket = connect(path);
      const [greeting] = (await once(socket, "data")) as [Buffer];
      expect(greeting.toString()).toContain('"QMP"');
      socket.destroy();
    }
    await talk(path, '{"execute":"quit"}');
    expect((await report).ok).toBe(true);
  });

  it("ends by a signal as by quit, and says so", async () => {
    const controller = new AbortController();
    const { path, report } = await start(PASSTHROUGH, { stop: () => controller.signal });
    const socket = connect(path);
    let text = "";
    socket.on("data", (bytes: Buffer) => (text += bytes.toString()));
    socket.write('{"execute":"qmp_capabilities"}\n');
    while (!text.includes('"return"')) {
      await once(socket, "data");
    }
    controller.abort();
    await once(socket, "close");
    expect(text).toContain('"SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}');
    expect(await report).toMatchObject({ ok: true, hostObjects: { alive: 0 } });
  });

  it("lets the guest that was asked for run when it says cont, and ends with it", async () => {
    const { path, report } = await start(`${PASSTHROUGH} -S`, { guest: await findGuest("linux") });
    const said = await talk(path, '{"execute":"query-status"}', '{"execute":"cont"}');
    expect(said[2]).toMatchObject({ return: { status: "prelaunch", running: false } });
    const events = said.filter((one) => "event" in one).map((one) => one.event);
    // The guest unplugs its card and plugs it again, and resets the machine.
    expect(events).toEqual(expect.arrayContaining(["RESUME", "DEVICE_DELETED", "RESET", "SHUTDOWN"]));
    expect(said.at(-1)).toMatchObject({ event: "SHUTDOWN", data: { guest: true, reason: "guest-shutdown" } });
    expect(await report).toMatchObject({ ok: true, guest: { ok: true }, hostObjects: { alive: 0 } });
  });

  it("is left by quit in the middle of a guest", async () => {
    const { path, report } = await start(`${PASSTHROUGH} -S`, { guest: await findGuest("linux") });
    const socket = connect(path);
    socket.write('{"execute":"qmp_capabilities"}{"execute":"cont"}{"execute":"stop"}{"execute":"quit"}');
    socket.resume();
    await once(socket, "close");
    expect(await report).toMatchObject({ ok: true, guest: null, hostObjects: { alive: 0 } });
  });

  it("listens as -chardev and -mon say, and with wait=on begins with the first client", async () => {
    const path = join(folder, "m.sock");
    let ended = false;
    const report = runMachine({
      arguments: ["-M", "virt", "-nodefaults", "-chardev", `socket,id=m,path=${path},server=on`, "-mon", "chardev=m,mode=control,pretty=on"],
      host: await loadHost("board"),
      guest: { name: "none", run: () => Promise.resolve({ steps: [], dmaChecked: 0, events: [], ok: true }) },
    }).finally(() => (ended = true));
    while (!existsSync(path)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ended).toBe(false);
    const socket = connect(path);
    let text = "";
    socket.on("data", (bytes: Buffer) => (text += bytes.toString()));
    await once(socket, "close");
    expect(text).toMatch(/^\{\r?\n {4}"QMP": \{/);
    expect((await report).ok).toBe(true);
  });

  it("has no monitor where its device leads nowhere, and says who has standard output", async () => {
    const words = "-M virt -nodefaults -qmp null".split(" ");
    const report = await runMachine({ arguments: words, host: await loadHost("board"), guest: { name: "none", run: () => Promise.resolve({ steps: [], dmaChecked: 0, events: [], ok: true }) }, guestByDefault: true });
    expect(report).toMatchObject({ ok: true, guest: { name: "none" } });
    expect(speaksOnStandardOutput(parseArguments(words), false)).toBe(false);
    expect(speaksOnStandardOutput(parseArguments([...words, "-mon", "m", "-chardev", "stdio,id=m"]), false)).toBe(true);
  });

  it("refuses a monitor that cannot be", async () => {
    const words = async (...more: string[]) => runMachine({ arguments: ["-M", "virt", "-nodefaults", ...more], host: await loadHost("board"), guest: null });
    await expect(words("-qmp", "nothing:1")).rejects.toThrow("'nothing:1' is not a valid char driver name");
    await expect(words("-mon", "chardev=m,mode=control")).rejects.toThrow("Cannot find character device 'm'");
    await expect(words("-chardev", "null,id=m", "-mon", "m,mode=robot")).rejects.toThrow("Parameter 'mode' does not accept value 'robot'");
    await expect(words("-chardev", "null,id=m", "-mon", "m", "-qmp", "chardev:m")).rejects.toThrow("chardev 'm' is already in use");
    await expect(words("-qmp", `unix:${folder}/no/such,server=on`)).rejects.toThrow("Failed to bind socket");
  });
});

describe("clients that others have written", () => {
  stockClients(async (machine) => {
    const { path, report } = await start(machine);
    return { path, ended: async () => expect((await report).ok).toBe(true) };
  });
});
