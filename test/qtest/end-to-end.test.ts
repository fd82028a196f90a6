import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openChardev } from "../../src/chardev/index.js";
import { QtestClient } from "../../src/qtest/index.js";
import { viommu } from "../cli/streams.js";
import { compile } from "./process.js";
import { stockClients } from "./stock-clients.js";

const words = (text: string): string[] => text.split(" ");

let built: ReturnType<typeof compile>;
let ours: readonly string[];
let folder: string;
beforeAll(() => {
  built = compile();
  ours = [...built.command, "run", "--"];
  folder = mkdtempSync(join(tmpdir(), "viommu-e2e-"));
}, 120_000);
afterAll(() => {
  built.remove();
  rmSync(folder, { recursive: true, force: true });
});

describe("viommu over its socket", () => stockClients("viommu", () => ours));

describe("viommu run -qtest", () => {
  it("ends with its client, frees what it had of the host, and accounts for it", async () => {
    const machine = "-M virt -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:01:00.0,id=gpu0,bus=rp1,iommufd=iommufd0";
    const file = join(folder, "machine.args");
    writeFileSync(file, machine);
    const path = join(folder, "end");
    const log = join(folder, "log");
    let come: (client: QtestClient) => void = () => {};
    const connected = new Promise<QtestClient>((resolve) => (come = resolve));
    const listener = await openChardev({ kind: "unix", path, server: true, wait: false }, (peer) => come(new QtestClient(peer)));
    // QEMU's option before the file, as the README has it.
    const run = viommu("run", "-qtest", `unix:${path}`, "-qtest-log", log, "--json", file);
    const client = await connected;
    expect(await client.read(0xc00_0000, 4)).not.toBe(0n);
    expect(await client.ask("nonsense")).toBe("FAIL Unknown command 'nonsense'");
    client.close();
    listener.close();
    const { code, out, err } = await run;
    expect([code, err]).toEqual([0, ""]);
    const report = JSON.parse(out) as { ok: boolean; guest: unknown; hostObjects: { created: number; freed: number; alive: number } };
    expect(report.ok).toBe(true);
    expect(report.guest).toMatchObject({ name: "qtest", ok: true, steps: [{ name: `unix:${path}`, detail: "2 commands of 1 client, 1 refused" }] });
    expect(report.hostObjects.created).toBeGreaterThan(0);
    expect(report.hostObjects).toMatchObject({ freed: report.hostObjects.created, alive: 0 });
    expect(readFileSync(log, "utf8")).toMatch(/^\[I 0\.000000\] OPENED\n\[R \+\d+\.\d{6}\] readl 0xc000000\n\[S \+\d+\.\d{6}\] OK 0x[0-9a-f]{16}\n.*\[I \+\d+\.\d{6}\] CLOSED\n$/s);
  });

  it("listens where that is asked for, one client after the other, until a signal", async () => {
    const path = join(folder, "server");
    const run = viommu("run", "--quiet", "--", ...words(`-M virt,iommu=smmuv3 -nodefaults -m 64 -accel qtest -qtest unix:${path},server=on,wait=off -qtest-log none`));
    for (let round = 0; round < 2; round++) {
      const socket = await connectWhenThere(path);
      const client = new QtestClient({ readable: socket, writable: socket, end: () => socket.end(), close: () => socket.destroy() });
      expect(await client.read(0x905_0000, 4)).toBe(0x0d44_101bn);
      expect(await client.request("clock_step 7")).toBe(String(7 * (round + 1)));
      client.close();
    }
    process.emit("SIGTERM");
    expect(await run).toEqual({ code: 0, out: "", err: "" });
  });

  it("connects to a TCP port", async () => {
    let come: (client: QtestClient) => void = () => {};
    const connected = new Promise<QtestClient>((resolve) => (come = resolve));
    const listener = await openChardev({ kind: "tcp", host: "127.0.0.1", port: 0, server: true, wait: false }, (peer) => come(new QtestClient(peer)));
    const run = viommu("run", "--quiet", "-qtest", `tcp:127.0.0.1:${listener.port}`, "-qtest-log", "none", "--", ...words("-M virt -nodefaults -m 64 -machine accel=qtest"));
    const client = await connected;
    const lines: Array<[number, boolean]> = [];
    client.onInterrupt = (pin, raised) => lines.push([pin, raised]);
    await client.interceptIn("/machine/unattached/device[1]");
    await client.setIrqIn("/machine/unattached/device[1]", "unnamed-gpio-in", 5, 1);
    expect(lines).toEqual([[5, true]]);
    const data = Uint8Array.from({ length: 100_000 }, (_, i) => i % 251);
    await client.writeMemory(0x4100_0000, data);
    expect(await client.readMemory(0x4100_0000, data.length)).toEqual(data);
    await expect(client.interceptOut("nobody")).rejects.toThrow("qtest: irq_intercept_out nobody: FAIL Unknown device");
    await expect(client.clockStep()).rejects.toThrow("no pending deadline");
    expect(await client.clockStep(5n)).toBe(5n);
    client.close();
    await expect(client.read(0, 4)).rejects.toThrow("closed");
    listener.close();
    expect(await run).toEqual({ code: 0, out: "", err: "" });
  });

  it("answers what was asked before a client shut its side", async () => {
    const path = join(folder, "half");
    const run = viommu("run", "--quiet", "--", ...words(`-M virt -nodefaults -m 64 -accel qtest -chardev socket,id=q,path=${path},server=on,wait=off -object qtest,id=o,chardev=q,log=none`));
    const socket = await connectWhenThere(path);
    let text = "";
    socket.on("data", (data: Buffer) => (text += data.toString()));
    socket.end("endianness\n".repeat(5000));
    await once(socket, "close");
    expect(text).toBe("OK little\n".repeat(5000));
    process.emit("SIGTERM");
    expect((await run).code).toBe(0);
  });

  it.each([
    ["-qtest unix:/nonexistent/x", "Failed to connect to '/nonexistent/x': No such file or directory"],
    ["-qtest unix:/nonexistent/x,server=on", "Failed to bind socket to /nonexistent/x: "],
    ["-qtest tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"],
    ["-qtest tcp:localhost:99999", "'99999' is not a valid port"],
    ["-qtest carrier-pigeon:x", "'carrier-pigeon:x' is not a valid char driver name"],
    ["-qtest unix:/x,srever=on", "Invalid parameter 'srever'"],
    ["-qtest chardev:q", "Cannot find character device 'q'"],
    ["-object qtest,id=o", "No backend specified"],
    ["-qtest null -qtest null", "Only one instance of qtest can be created"],
    ["-chardev socket,id=a", "chardev: socket: no host or path given"],
    ["-chardev socket,path=x", "chardev: no id specified"],
    ["-qtest", "-qtest: requires an argument"],
  ])("refuses %s with QEMU's words", async (text, expected) => {
    const { code, out, err } = await viommu("run", "--", ...words(`-M virt -nodefaults -m 64 ${text}`));
    expect(err).toContain(`viommu: ${expected}`);
    expect([code, out]).toEqual([2, ""]);
  });
});

async function connectWhenThere(path: string) {
  for (let i = 0; ; i++) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return socket;
    } catch (error) {
      if (i === 200) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
