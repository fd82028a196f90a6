import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Ajv from "ajv";
import type { Log } from "sarif";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rules } from "../../src/check/index.js";
import { ARM, X86 } from "../check/bad-lines.js";
import { viommu } from "./streams.js";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const schema = JSON.parse(readFileSync(new URL("../check/sarif-schema.json", import.meta.url), "utf8")) as object;
let folder: string;
const BAD = ARM.replace("ssidsize=16", "ssidSize=16").replace("id=nic0,iommufd=iommufd0", "id=nic0");
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-check-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("viommu check", () => {
  it.each(readdirSync(examples).filter((name) => name.endsWith(".args")))("finds nothing but notes in examples/%s", async (name) => {
    const path = join(examples, name);
    const text = readFileSync(path, "utf8");
    const host = /--host (\S+)/.exec(text)?.[1] ?? (/q35/.test(text) ? "two-socket-spr" : "grace");
    const { code, out, err } = await viommu("check", "--host", host.replace(/^examples\//, examples), path);
    expect(out).not.toMatch(/^(?:error|warning):/m);
    expect([code, err]).toEqual([0, ""]);
  });

  it("shows the place below the line, within 80 columns", async () => {
    const path = file("bad.args", BAD);
    const { code, out, err } = await viommu("check", "--host", "grace", path);
    expect([code, err]).toEqual([1, ""]);
    expect(out.split("\n").filter((line) => line.length > 80 && !line.includes(folder))).toEqual([]);
    expect(out).toContain(`error: Property 'arm-smmuv3.ssidSize' not found [unknown-property]
  at: ${path}:6:80
  6 | ...primary-bus=pcie.1,id=smmu1,`);
    expect(out).toMatch(/\n {4}\| +\^{11}\n {2}found: did you mean ssidsize\?\n/);
    expect(out).toContain("bad.args: 2 errors, 2 notes; --fix mends all of them");
  });

  it("takes several files, and ends with 2 where one cannot be read", async () => {
    const good = file("good.args", ARM);
    const { code, out, err } = await viommu("check", good, join(folder, "nothing.args"), file("open.args", "qemu-system-aarch64 -M 'virt"));
    expect(code).toBe(2);
    expect(out).toContain("good.args: 2 notes");
    expect(err).toContain("Could not open '");
    expect(err).toContain("the quote ' is not closed");
  });

  it("writes what it has mended to standard output, to a file, or in place", async () => {
    const path = file("mend.args", BAD);
    const printed = await viommu("check", "--host", "grace", "--fix", path);
    expect([printed.code, printed.out]).toEqual([0, ARM]);
    expect(printed.err).toContain("2 errors, 2 notes; all mended");
    expect(readFileSync(path, "utf8")).toBe(BAD);
    const other = join(folder, "mended.args");
    expect((await viommu("check", "--host", "grace", "--fix", "-o", other, path)).code).toBe(0);
    expect([readFileSync(path, "utf8"), readFileSync(other, "utf8")]).toEqual([BAD, ARM]);
    expect((await viommu("check", "--host", "grace", "--fix", "--in-place", path)).code).toBe(0);
    expect(readFileSync(path, "utf8")).toBe(ARM);
  });

  it("leaves what it cannot mend, and says so", async () => {
    const text = BAD.replace("host=0009:02:00.0", "host=0009:09:00.0");
    const { code, out, err } = await viommu("check", "--host", "grace", "--fix", file("left.args", text));
    expect(code).toBe(1);
    expect(out).toBe(text.replace("ssidSize", "ssidsize").replace("id=nic0", "id=nic0,iommufd=iommufd0"));
    expect(err).toContain("vfio 0009:09:00.0: no such host device [no-such-function]");
    expect(err).toContain("3 errors, 2 notes; 2 mended");
  });

  it.each([
    ["--out is for what --fix corrects", ["-o", "x", "a"]],
    ["--in-place is for what --fix corrects", ["--in-place", "a"]],
    ["--out and --in-place name two places", ["--fix", "-o", "x", "--in-place", "a"]],
    ["several corrected texts have no place in one", ["--fix", "a", "b"]],
  ])("refuses: %s", async (words, options) => {
    const { code, err } = await viommu("check", ...options);
    expect(code).toBe(2);
    expect(err).toContain(words);
  });

  it("tells as JSON what docs/json.md describes", async () => {
    const path = file("json.args", BAD);
    const { code, out } = await viommu("check", "--host", "grace", "--format", "json", path);
    expect(code).toBe(1);
    const { files } = JSON.parse(out) as { files: Array<{ source: string; findings: object[] }> };
    expect(files.map(({ source }) => source)).toEqual([path]);
    expect(files[0].findings).toContainEqual({
      level: "error",
      rule: "unknown-property",
      words: "Property 'arm-smmuv3.ssidSize' not found",
      found: "did you mean ssidsize?",
      wouldWork: expect.stringContaining("ssidsize"),
      place: { source: path, line: 6, column: 80, endLine: 6, endColumn: 91, word: 14, text: expect.stringMatching(/^-device arm-smmuv3,/), property: "ssidSize" },
      mended: true,
    });
  });

  it("tells as SARIF 2.1.0, with every rule and the region of each result", async () => {
    const { code, out } = await viommu("check", "--host", "grace", "--format", "sarif", file("sarif.args", BAD), file("clean.args", ARM));
    expect(code).toBe(1);
    const ajv = new Ajv({ allErrors: true });
    expect([ajv.validate(schema, JSON.parse(out)), ajv.errorsText()]).toEqual([true, "No errors"]);
    const { runs: [{ tool, results, artifacts }] } = JSON.parse(out) as Log;
    expect(tool.driver.rules?.map(({ id }) => id)).toEqual([...rules.keys()]);
    expect(artifacts).toHaveLength(2);
    const result = results!.find(({ ruleId }) => ruleId === "unknown-property")!;
    expect(tool.driver.rules![result.ruleIndex!].id).toBe("unknown-property");
    expect(result.locations![0].physicalLocation!.region).toEqual({ startLine: 6, startColumn: 80, endLine: 6, endColumn: 91, snippet: { text: "ssidSize=16" } });
  });
});

describe("the host of a check", () => {
  it("is this machine with --host linux: what it has not is told of the line's functions", async () => {
    const { describeThisMachine } = await import("../../src/host/described/index.js");
    const { description } = describeThisMachine();
    const { code, out, err } = await viommu("check", "--host", "linux", "--format", "json", file("here.args", ARM));
    const { files } = JSON.parse(out) as { files: Array<{ findings: Array<{ rule: string; level: string; words: string }> }> };
    const lacks = ["0009:01:00.0", "0009:02:00.0"].filter((address) => !description.functions.some((fn) => fn.address === address));
    expect(files[0].findings.filter(({ rule }) => rule === "no-such-function").map(({ words }) => words)).toEqual(lacks.map((address) => `vfio ${address}: no such host device`));
    expect([code, err]).toEqual([files[0].findings.some(({ level }) => level !== "note") ? 1 : 0, ""]);
  });

  it("is this machine: a function without an IOMMU, where there is one, is told as VFIO has it", async () => {
    const { describeThisMachine } = await import("../../src/host/described/index.js");
    const fn = describeThisMachine().description.functions.find(({ smmu, vtd, amd }) => (smmu ?? vtd ?? amd ?? null) === null);
    if (fn === undefined) {
      return;
    }
    const { code, out } = await viommu("check", "--host", "linux", file("bare.args", X86.replace("0000:97:00.0", fn.address)));
    expect([code, out.replace(/\s+/g, " ").includes(`error: vfio ${fn.address}: no iommu_group found: No such file or directory [no-host-iommu]`)]).toEqual([1, true]);
    expect(out).not.toContain("host-nesting");
  });

  it("is a capture: its functions, IOMMUs and groups", async () => {
    const check = (address: string) => viommu("check", "--host", join(examples, "captures", "xeon.tar.zst"), file("captured.args", X86.replace("0000:97:00.0", address)));
    const right = await check("0000:38:00.1");
    expect([right.code, right.err]).toEqual([0, ""]);
    const bound = await check("0000:38:00.0");
    expect([bound.code, /\[function-not-bound\]/.test(bound.out)]).toEqual([1, true]);
    const shared = await check("0000:18:00.0");
    expect([shared.code, /\[group-not-viable\]/.test(shared.out)]).toEqual([1, true]);
    const none = await check("0000:97:00.0");
    expect([none.code, /no such host device \[no-such-function\]/.test(none.out)]).toEqual([1, true]);
  });

  it("has the function that --fd names for a descriptor, whose SMMU is then another one's or its own", async () => {
    const path = file("fd.args", ARM.replace("host=0009:02:00.0", "fd=31"));
    const unknown = await viommu("check", "--host", "grace", path);
    expect([unknown.code, /\[unknown-descriptor\]/.test(unknown.out)]).toEqual([0, true]);
    const right = await viommu("check", "--host", "grace", "--fd", "31=0009:02:00.0", path);
    expect([right.code, /unknown-descriptor|wrong-smmu/.test(right.out)]).toEqual([0, false]);
    const wrong = await viommu("check", "--host", "grace", "--fd", "31=0008:02:00.0", path);
    expect([wrong.code, /vfio 0008:02:00.0: Failed to set vIOMMU: A vSMMU corresponds to exactly\n {2}one physical SMMU \[wrong-smmu\]/.test(wrong.out)]).toEqual([1, true]);
  });
});
