import { createServer } from "node:net";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { viommu } from "../cli/streams.js";
import { BOARD, CASES, EXPANDERS, expectWell, skipped, sorted, words } from "./cases.js";
import { ourMachine, playGuest } from "./played.js";

describe("viommu guest on viommu", () => {
  it.each(CASES)("goes well with %s", async (_what, machine, options, left) => {
    const played = await playGuest(options, ourMachine(words(machine)));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(left));
    // The other side's account says that a socket played it.
    expect(played.said).toMatch(/^0\n[\s\S]*Guest qtest[\s\S]*\nok\n$/);
  });

  it("goes well with SMMUs on expander buses, by our device tree", async () => {
    const played = await playGuest([], ourMachine(words(`-machine virt,gic-version=3,msi=gicv2m ${BOARD} ${EXPANDERS}`)));
    expectWell(played);
    expect(played.account!.guest!.steps[1].detail).toMatch(/smmuv3@c000000 .*smmuv3@c020000/);
  });

  it("skips what needs an operator where there is no QMP, and says so", async () => {
    const played = await playGuest([], ourMachine(words(`-machine virt,gic-version=2,iommu=smmuv3 ${BOARD} -device iommu-testdev`)), { qmp: false });
    const steps = new Map(played.account!.guest!.steps.map((step) => [step.name, step]));
    expect(steps.get("unplug and plug")?.skipped).toBe("no function can be unplugged");
    expect(steps.get("system reset")).toMatchObject({ ok: true, skipped: "a reset needs QMP (--qmp)" });
    expect(steps.get("kexec: take-over")).toMatchObject({ ok: true, skipped: null });
    expect(played.account).toMatchObject({ ok: true, failure: null });
  });

  it("refuses ACPI where the machine has no fw_cfg to take it from", async () => {
    const played = await playGuest(["--firmware", "acpi"], ourMachine(words(`-machine virt,iommu=smmuv3 ${BOARD} -device iommu-testdev`)));
    expect(played.account?.failure).toContain("firmware tables");
    expect(played.account?.guest?.steps[0].detail).toContain("no fw_cfg device");
    expect(played.result.code).toBe(1);
  });
});

describe("viommu guest's input and partners", () => {
  it.each([
    [["--qtest", "stdio"], "--qtest stdio is no socket"],
    [["--qtest", "unix:/nonexistent/x"], "Failed to bind socket to /nonexistent/x"],
    [["--qtest", "unix:/nonexistent/x,server=off"], "Failed to connect to '/nonexistent/x'"],
    [["--qtest", "tcp:127.0.0.1:0", "--machine", "pc"], "--machine pc is no board"],
    [["--qtest", "tcp:127.0.0.1:0", "--guest", "none"], "--guest none has nothing to do"],
    [["--qtest", "tcp:127.0.0.1:0", "--guest", "/nonexistent.mjs"], "no guest '/nonexistent.mjs'"],
    [["--qtest", "tcp:127.0.0.1:0", "--idle-firmware", "/nonexistent/x"], "Could not write to '/nonexistent/x': No such file or directory"],
    [["--qtest", "tcp:127.0.0.1:0", "--tolerate", "everything"], "argument 'everything' is invalid"],
    [[], "required option '--qtest <address>' not specified"],
  ])("%j is refused", async (options, expected) => {
    const { code, out, err } = await viommu("guest", ...options);
    expect(err).toContain(expected);
    expect([code, out]).toEqual([2, ""]);
  });

  /** Somebody who listens and does not speak qtest. */
  async function partner(answer: (line: string) => string | null): Promise<{ result: Awaited<ReturnType<typeof viommu>> }> {
    const folder = mkdtempSync(join(tmpdir(), "viommu-partner-"));
    const path = join(folder, "x");
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (data: Buffer) => {
        for (const line of data.toString().split("\n").slice(0, -1)) {
          const reply = answer(line);
          if (reply === null) {
            socket.destroy();
          } else {
            socket.write(reply);
          }
        }
      });
    });
    server.listen(path);
    await once(server, "listening");
    try {
      return { result: await viommu("guest", "--qtest", `unix:${path},server=off`) };
    } finally {
      server.close();
      rmSync(folder, { recursive: true });
    }
  }

  it("one who hangs up is a failure", async () => {
    const { result } = await partner(() => null);
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/failed: the guest linux ended with QtestError: the qtest socket has closed before it answered b64read/);
  });

  it("one who refuses everything is a failure", async () => {
    const { result } = await partner(() => "FAIL no\n");
    expect(result.out).toMatch(/QtestError: qtest: b64read .*: FAIL no/);
    expect(result.code).toBe(1);
  });

  it("a machine without a device tree is refused", async () => {
    const { result } = await partner(() => "OK AAAAAAAAAAA=\n");
    expect(result.err).toContain("no device tree at 0x40000000");
    expect(result.code).toBe(2);
  });
});
