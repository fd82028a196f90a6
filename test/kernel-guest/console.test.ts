import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
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
