import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { compile } from "../qtest/process.js";

function kvm(): boolean {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return process.arch === "x64";
  } catch {
    return false;
  }
}

/** A bzImage that sends a letter to COM1 again and again. */
function sender(): Uint8Array {
  const file = new Uint8Array(512 * 2 + 0x1000);
  const view = new DataView(file.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x201, 0x66);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint16(0x236, 1, true);
  view.setUint32(0x238, 255, true);
  view.setBigUint64(0x258, 0x100_0000n, true);
  view.setUint32(0x260, 0x2000, true);
  // mov dx, 0x3f8; mov al, 'A'; again: out dx, al; mov ecx, 0x800; loop $; jmp again. A KVM that emulates takes a millisecond for it.
  file.set([0x66, 0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xb9, 0x00, 0x08, 0x00, 0x00, 0xe2, 0xfe, 0xeb, 0xf6], 512 * 2 + 0x200);
  return file;
}

/** The socket is there a moment before it listens. */
async function connected(path: string): Promise<Socket> {
  for (let tries = 0; ; tries++) {
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return socket;
    } catch (error) {
      if (tries === 2000) {
        throw error;
      }
      await sleep(5);
    }
  }
}

describe.skipIf(!kvm())("a kernel that a monitor stops, resets and ends", () => {
  let compiled: ReturnType<typeof compile>;
  let folder: string;
  const children: ChildProcess[] = [];
  beforeAll(() => {
    compiled = compile();
    folder = mkdtempSync(join(tmpdir(), "viommu-kernel-"));
    writeFileSync(join(folder, "bzImage"), sender());
  }, 60_000);
  // A test that fails leaves no machine.
  afterEach(() => children.splice(0).forEach((child) => child.kill("SIGKILL")));
  afterAll(() => {
    compiled.remove();
    rmSync(folder, { recursive: true });
  });

  async function start(...words: string[]): Promise<{ child: ChildProcess; say: (...commands: string[]) => void; sends: (expected: boolean) => Promise<boolean>; ended: Promise<unknown[]> }> {
    const [output, path] = [join(folder, "out"), join(folder, "qmp")];
    // Else its being made anew would look like something sent.
    rmSync(output, { force: true });
    const child = spawn(compiled.command[0], [
      ...compiled.command.slice(1), "run", "--quiet", "--host", "desktop", "--", "-machine", "q35,accel=kvm,kernel-irqchip=split", "-m", "64M", "-nodefaults",
      "-kernel", join(folder, "bzImage"), "-serial", `file:${output}`, "-qmp", `unix:${path},server=on,wait=off`, ...words,
    ]);
    children.push(child);
    const ended = once(child, "exit");
    const monitor = await connected(path);
    monitor.on("error", () => {});
    monitor.resume();
    const say = (...commands: string[]): void => void monitor.write(commands.map((execute) => `${JSON.stringify({ execute })}\n`).join(""));
    say("qmp_capabilities");
    const size = (): number => (existsSync(output) ? statSync(output).size : 0);
    /** Whether it goes on to send: it does when more comes, and does not once nothing has come for a while. A command takes effect soon, not at once. */
    const sends = async (expected: boolean): Promise<boolean> => {
      let [last, quiet] = [size(), 0];
      for (let tries = 0; tries < 1500 && quiet < 50; tries++) {
        await sleep(10);
        const now = size();
        if (expected && now !== last) {
          return true;
        }
        quiet = expected || now !== last ? 0 : quiet + 1;
        last = now;
      }
      return quiet < 50 && !expected;
    };
    return { child, say, sends, ended };
  }

  it("stands while stopped, through a reset too, and goes on by cont", async () => {
    const { say, sends, ended } = await start();
    expect(await sends(true)).toBe(true);
    say("stop");
    expect(await sends(false)).toBe(false);
    say("system_reset");
    expect(await sends(false)).toBe(false);
    say("cont");
    expect(await sends(true)).toBe(true);
    say("stop", "cont");
    expect(await sends(true)).toBe(true);
    say("system_reset", "quit");
    expect(await ended).toEqual([0, null]);
  });

  it("does not begin before cont with -S", async () => {
    const { say, sends, ended } = await start("-S");
    expect(await sends(false)).toBe(false);
    say("cont");
    expect(await sends(true)).toBe(true);
    say("quit");
    expect(await ended).toEqual([0, null]);
  });
});
