import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { ByteStream } from "../../src/chardev/index.js";
import { Console, type SerialPort } from "../../src/kernel-guest/console.js";

const PORT: SerialPort = { room: 16, receive: () => {} };

describe("a console in a file", () => {
  it("takes all that the guest sends, though nothing comes from there", async () => {
    const folder = mkdtempSync(join(tmpdir(), "console-"));
    try {
      const path = join(folder, "log");
      const heard: string[] = [];
      const one = new Console(() => PORT, { quit: () => {}, monitor: null });
      one.onOutput = (text) => heard.push(text);
      await one.open({ kind: "file", path, append: false });
      for (let n = 0; n < 20; n++) {
        await turn();
      }
      [..."late\n"].forEach((letter) => one.send(letter.charCodeAt(0)));
      await turn();
      await turn();
      [..."x".repeat(3000)].forEach((letter) => one.send(letter.charCodeAt(0)));
      one.close();
      await expect.poll(() => readFileSync(path, "latin1")).toBe(`late\n${"x".repeat(3000)}`);
      expect(heard.join("")).toBe(`late\n${"x".repeat(3000)}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("a console that is a monitor too", () => {
  /** What a terminal with keys sees; the console is told of its peer as if it were one. */
  function terminal(monitor: ((stream: ByteStream) => void) | null): { type: (text: string) => Promise<void>; shown: () => string; got: () => string; quits: () => number; one: Console } {
    let [shown, got, quits] = ["", "", 0];
    const keys = new PassThrough();
    const port: SerialPort = { room: 16, receive: (bytes) => (got += String.fromCharCode(...bytes)) };
    const one = new Console(() => port, { quit: () => quits++, monitor });
    const writable = new Writable({ write: (bytes: Buffer, _, done) => { shown += bytes.toString("latin1"); done(); } });
    one.connect({ readable: keys, writable, end: () => {}, close: () => {} }, true);
    const type = async (text: string): Promise<void> => {
      keys.write(Buffer.from(text, "latin1"));
      for (let n = 0; n < 10; n++) {
        await turn();
      }
    };
    return { type, shown: () => shown, got: () => got, quits: () => quits, one };
  }

  it("gives the monitor whole lines, edited and echoed, and the guest its keys back", async () => {
    let lines = "";
    const { type, shown, got, one } = terminal(({ readable, writable }) => {
      writable.write("(qemu) ");
      readable.on("data", (bytes: Buffer) => {
        lines += bytes.toString();
        writable.write("done\r\n");
      });
    });
    await type("ls\r\x01cinfx\x7fo pci\r");
    expect([got(), lines]).toEqual(["ls\r", "info pci\n"]);
    expect(shown()).toBe("(qemu) infx\b \bo pci\r\ndone\r\n");
    [..."boot"].forEach((letter) => one.send(letter.charCodeAt(0)));
    await type("\x01cpwd\r\x01\x01");
    expect(got()).toBe("ls\rpwd\r\x01");
    expect(shown()).toBe("(qemu) infx\b \bo pci\r\ndone\r\nboot");
    await type("\x01cq\x15quit\r");
    expect(lines).toBe("info pci\nquit\n");
    one.close();
  });

  it("has no other to change to where there is none, tells its keys, and ends", async () => {
    const { type, shown, got, quits, one } = terminal(null);
    await type("\x01ca\x01h\x01x");
    expect([got(), quits()]).toEqual(["a", 1]);
    expect(shown()).toContain("C-a x    exit viommu");
    one.close();
  });
});
