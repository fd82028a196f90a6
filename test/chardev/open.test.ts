import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openChardev } from "../../src/chardev/index.js";
import { Refusal } from "../../src/support/index.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-chardev-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const listener = (path: string) => ({ kind: "unix", path, server: true, wait: false }) as const;

async function refusal(path: string): Promise<string> {
  try {
    const opened = await openChardev(listener(path), () => {});
    opened.close();
    return "opened";
  } catch (error) {
    return error instanceof Refusal ? error.message : String(error);
  }
}

describe("a listener's path", () => {
  it("is taken where a process has left its socket there", async () => {
    const path = join(folder, "left");
    // A process that ends at once leaves the file: nobody unlinks it.
    const leave = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
    spawnSync(process.execPath, ["-e", leave]);
    expect(lstatSync(path).isSocket()).toBe(true);
    let peers = 0;
    const opened = await openChardev(listener(path), () => peers++);
    const client = connect(path);
    await once(client, "connect");
    await expect.poll(() => peers).toBe(1);
    client.destroy();
    opened.close();
    await opened.done;
    expect(existsSync(path)).toBe(false);
  });

  it("is refused, and what is there stays, where it is a file, a folder or a link", async () => {
    const [file, directory, link] = ["file", "directory", "link"].map((name) => join(folder, name));
    writeFileSync(file, "a user's");
    mkdirSync(directory);
    symlinkSync(file, link);
    for (const path of [file, directory, link]) {
      expect(await refusal(path)).toBe(`Failed to bind socket to ${path}: Address already in use\n  found: unix:${path},server=on,wait=off\n  would work: an address that nothing else uses`);
    }
    expect([readFileSync(file, "utf8"), lstatSync(directory).isDirectory(), readlinkSync(link)]).toEqual(["a user's", true, file]);
  });

  it("is refused for want of its folder", async () => {
    const path = join(folder, "none", "socket");
    expect(await refusal(path)).toBe(`Failed to bind socket to ${path}: No such file or directory\n  found: unix:${path},server=on,wait=off\n  would work: a path in a folder that is there`);
  });
});
