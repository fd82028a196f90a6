import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openChardev } from "../../src/chardev/index.js";

it("a user's file where a socket is to listen stays, and the socket is refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "viommu-chardev-"));
  try {
    const path = join(folder, "mine");
    writeFileSync(path, "of the user");
    await expect(openChardev({ kind: "unix", path, server: true, wait: false }, () => {})).rejects.toThrow(/Failed to bind socket to .*mine: Address already in use/);
    expect(readFileSync(path, "utf8")).toBe("of the user");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
