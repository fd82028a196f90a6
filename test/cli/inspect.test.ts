import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundlePage } from "../../bundle-page.js";
import { main } from "../../src/cli/main.js";
import { openRecording } from "../../src/inspect/recording/index.js";
import type { KeptAnswer, MapReport, PageData } from "../../src/inspect/report/index.js";
import { walkReport } from "../../src/inspect/state/index.js";
import { pageFolder } from "../../src/inspect/server/index.js";
import { viommu } from "./streams.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const example = join(root, "examples/grace-two-smmus.args");
const lesson = join(root, "examples/lessons/stale-tlb");
let folder: string;
let made = false;

/** Where the sources have no built page it is built in its place, and taken away. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "viommu-inspect-"));
  if (!existsSync(join(pageFolder(), "index.html"))) {
    made = true;
    await bundlePage(pageFolder());
  }
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  if (made) {
    rmSync(pageFolder(), { recursive: true, force: true });
  }
});

function dataOf(path: string): PageData {
  const [, json] = /^globalThis\.VIOMMU_DATA = (.*);\n$/s.exec(readFileSync(join(path, "data.js"), "utf8"))!;
  return JSON.parse(json) as PageData;
}

const answer = (data: PageData, execute: string): KeptAnswer => data.answers.find((one) => one.execute === execute)!;

describe("viommu inspect --static", () => {
  it("writes the page with the machine as it is when its guest has ended", async () => {
    const to = join(folder, "machine");
    const { code, out, err } = await viommu("inspect", "--static", to, "--guest", join(lesson, "guest.mjs"), join(lesson, "machine.args"));
    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(new RegExp(`^${to}/index.html: the page with \\d+ answers and the recording\n$`));
    const data = dataOf(to);
    const map = answer(data, "x-viommu-map").return as MapReport;
    expect(map.machine?.iommus.length).toBeGreaterThan(0);
    expect(map.attachments.length).toBeGreaterThan(0);
    expect(data.answers.filter(({ execute }) => execute === "x-viommu-registers").map(({ arguments: { iommu } }) => iommu)).toEqual([...map.machine!.iommus, ...map.host.iommus].map(({ id }) => id));
    expect(answer(data, "x-viommu-timeline").return).toMatchObject({ on: true });
    expect(readFileSync(join(to, "index.html"), "utf8")).toContain('<script defer src="data.js"></script>\n<script defer src="page.js"></script>');
    const recording = await openRecording(Buffer.from(data.recording!, "base64"));
    expect([recording.end?.limited, recording.last > 1]).toEqual([false, true]);
    expect((await recording.at(recording.last)).map().machine?.iommus).toEqual(map.machine!.iommus);
    // At the first row the guest has set up nothing; at the last its tables are there.
    const ends = await Promise.all([recording.first, recording.last].map(async (row) => walkReport(await recording.at(row), { function: "gpu0", pasid: null, iova: "0x12345000", access: "read", privileged: false, kind: "untranslated" })));
    expect(ends[1].fetches.length).toBeGreaterThan(ends[0].fetches.length);
    expect((await viommu("inspect", "--static", to, "--no-record", "--guest", "none", example)).out).toMatch(/with \d+ answers\n$/);
    expect(dataOf(to).recording).toBeUndefined();
    // Over an earlier page, again.
    expect((await viommu("inspect", "--static", to, "--host", "grace")).code).toBe(0);
    expect((answer(dataOf(to), "x-viommu-map").return as MapReport).machine).toBeNull();
  });

  it("of a host alone has the host's tree", async () => {
    const to = join(folder, "host");
    expect(await viommu("inspect", "--host", "two-socket-spr", "--static", to)).toMatchObject({ code: 0, err: "" });
    const map = answer(dataOf(to), "x-viommu-map").return as MapReport;
    expect(map.host.iommus.every(({ architecture }) => architecture === "vtd")).toBe(true);
    expect([map.machine, map.functions, map.tables]).toEqual([null, [], []]);
    expect(map.host.functions.length).toBeGreaterThan(0);
  });
});

describe("viommu inspect refuses", () => {
  const refused = async (...words: string[]) => {
    const { code, out, err } = await viommu("inspect", ...words);
    expect([code, out], words.join(" ")).toEqual([2, ""]);
    return err;
  };

  it("what is nothing to look at, and two things at once", async () => {
    expect(await refused()).toContain("viommu: nothing to look at");
    expect(await refused("--qmp", "unix:/tmp/none", example)).toContain("a machine's arguments and --qmp are two things to look at");
    expect(await refused("--qmp", "unix:/tmp/none", "--host", "grace")).toContain("--host is for a machine that is made here");
    expect(await refused("--host", "grace", "--guest", "linux")).toContain("--guest is for a machine that is made here");
    expect(await refused("--static", join(folder, "x"), "--port", "1", example)).toContain("--static and --port do not go together");
  });

  it("files and sockets that are not there, and numbers that are no ports", async () => {
    expect(await refused(join(folder, "none.args"))).toContain("No such file or directory");
    expect(await refused("--qmp", `unix:${join(folder, "none.sock")}`)).toContain("Failed to connect to");
    expect(await refused("--host", "nowhere")).toContain("nowhere");
    expect(await refused("--no-record", example)).toContain("--no-record is for files of a machine that is made here");
    expect(await refused("--port", "65536", example)).toContain("a port is a number");
  });

  it("recordings that are not there, are none, or are damaged, and what goes with none", async () => {
    expect(await refused("--recording", join(folder, "none.rec"))).toContain("none.rec': No such file or directory");
    const file = join(folder, "some.rec");
    writeFileSync(file, "a letter\n");
    expect(await refused("--recording", file)).toContain("viommu run --record");
    expect((await viommu("run", "--guest", "none", "--record", file, example)).code).toBe(0);
    const bytes = readFileSync(file);
    bytes[bytes.length >> 1] ^= 0xff;
    writeFileSync(file, bytes);
    for (const more of [[], ["--static", join(folder, "damaged")]]) {
      expect(await refused("--recording", file, ...more)).toContain("viommu run --record");
    }
    expect(existsSync(join(folder, "damaged"))).toBe(false);
    expect(await refused("--recording", file, example)).toContain("a machine's arguments and --recording are two things to look at");
    expect(await refused("--recording", file, "--host", "grace")).toContain("--host is for a machine that is made here");
  });

  it("a folder with something else in it, before anything runs", async () => {
    const to = join(folder, "full");
    mkdirSync(to);
    writeFileSync(join(to, "thesis.txt"), "");
    expect(await refused("--static", to, example)).toContain("--static writes into a new folder, an empty one, or over an earlier page");
    writeFileSync(join(folder, "file"), "");
    expect(await refused("--static", join(folder, "file"), example)).toContain("Not a directory");
    // A page of somebody else by the same names.
    const page = join(folder, "page");
    mkdirSync(page);
    writeFileSync(join(page, "index.html"), "<title>home</title>");
    expect(await refused("--static", page, example)).toContain("--static writes into a new folder");
    expect(readFileSync(join(page, "index.html"), "utf8")).toBe("<title>home</title>");
  });

  it("a port that is taken, and leaves no machine", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    expect(await refused("--port", `${port}`, example)).toContain("the inspector cannot listen: Address already in use");
    expect(await refused("--port", `${port}`, "--host", "grace")).toContain("the inspector cannot listen: Address already in use");
    const { code, err } = await viommu("run", `--inspect=${port}`, example);
    expect([code, err]).toEqual([2, expect.stringContaining("the inspector cannot listen")]);
    taken.close();
  });
});

it("viommu run --inspect has the page as long as the run lasts, and the run's account", async () => {
  const { code, out, err } = await viommu("run", "--inspect", example);
  expect(code).toBe(0);
  const [, address] = /^viommu: the inspector is at (http:\/\/127\.0\.0\.1:\d+\/[0-9a-f]{32}\/)\n/.exec(err)!;
  expect(out).toContain("smmu1");
  await expect(fetch(address)).rejects.toThrow();
});

it("viommu inspect keeps the machine after its guest, until Ctrl-C", async () => {
  let out = "";
  let err = "";
  let said: () => void = () => {};
  const ended = new Promise<void>((resolve) => (said = resolve));
  const running = main(["inspect", "--control", example], {
    out: (text) => (out += text),
    err: (text) => {
      err += text;
      if (err.includes("the guest has ended")) {
        said();
      }
    },
    color: false,
    interactive: false,
  });
  await Promise.race([ended, running]);
  expect(err).toBe("viommu: the guest has ended; the machine stays until Ctrl-C\n");
  const [, address] = /^viommu: the inspector is at (\S+)\n$/.exec(out)!;
  expect(await (await fetch(address)).text()).toContain('<script defer src="page.js">');
  const asked = await fetch(`${address}qmp`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"execute":"query-status"}' });
  expect(await asked.json()).toMatchObject({ return: { running: true } });
  process.emit("SIGINT");
  expect(await running).toBe(0);
  await expect(fetch(address)).rejects.toThrow();
});
