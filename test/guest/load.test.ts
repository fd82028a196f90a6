import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Refusal } from "../../src/support/index.js";
import { guestPrograms, loadGuest, type GuestReport } from "../../src/guest/index.js";
import { contextFor, machineOf } from "./end-to-end.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-guest-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function refusal(nameOrFile: string): Promise<Refusal> {
  const error: unknown = await loadGuest(nameOrFile).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(Refusal);
  return error as Refusal;
}

async function runOn(host: string, line: string, nameOrFile: string): Promise<GuestReport> {
  const { machine, end } = machineOf(host, line);
  try {
    return await (await loadGuest(nameOrFile))(contextFor(machine));
  } finally {
    expect(end()).toBe(0);
  }
}

const EMPTY = ["board", "-M virt -nodefaults"] as const;
const GRACE = [
  "grace",
  "-M virt,accel=kvm,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=s,accel=on " +
    "-device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0008:02:00.0,bus=rp1,iommufd=iommufd0,id=nic0",
] as const;

describe("guest programs", () => {
  it("are linux and none", async () => {
    expect([...guestPrograms.keys()]).toEqual(["linux", "none"]);
    expect(await runOn(...EMPTY, "none")).toEqual({ steps: [], dmaChecked: 0, events: [], ok: true });
  });

  it("may be a user's script, which gets port, operator, options and helpers", async () => {
    const path = file(
      "looks.mjs",
      `export default async ({ port, operator, say, options, helpers }) => {
        const { Reporter, readFirmware } = helpers;
        const reporter = new Reporter(say);
        await reporter.step("look", async () => \`\${(await readFirmware(port)).source} \${options.seed} \${await operator.isPlugged("x")}\`);
        return reporter.report();
      };`,
    );
    expect((await runOn(...EMPTY, path)).steps).toEqual([{ name: "look", ok: true, detail: "dt 1 false" }]);
  });

  it("may return nothing for success, or a report without steps", async () => {
    expect(await runOn(...EMPTY, file("silent.mjs", "export default async () => {};"))).toMatchObject({ ok: true, steps: [{ ok: true }] });
    expect(await runOn(...EMPTY, file("no.mjs", "export default async () => ({ ok: false });"))).toMatchObject({ ok: false });
  });

  it("end as a failed step where they throw", async () => {
    const report = await runOn(...EMPTY, file("throws.mjs", 'export default async () => { throw new TypeError("no such thing"); };'));
    expect(report.ok).toBe(false);
    expect(report.steps[0].detail).toBe("threw no such thing");
  });
});

describe("a refusal names what was found and what would work", () => {
  it("for a name that is neither program nor file", async () => {
    const error = await refusal("linus");
    expect(error.words).toBe("no guest 'linus'");
    expect(error.wouldWork).toContain("linux, none");
  });

  it("for a folder, and for a file that is no module by its name", async () => {
    expect((await refusal(folder)).found).toContain("is not a file");
    expect((await refusal(file("a.txt", ""))).words).toContain("is not an ES module");
  });

  it("for a syntax error", async () => {
    expect((await refusal(file("broken.mjs", "export default async ("))).words).toContain("cannot be loaded");
  });

  it("for a module that throws while it is loaded", async () => {
    expect((await refusal(file("early.mjs", 'throw new Error("too early");'))).found).toBe("too early");
  });

  it("for a module without a default function", async () => {
    expect((await refusal(file("named.mjs", "export const run = () => {};"))).found).toBe("exports: run");
    expect((await refusal(file("number.mjs", "export default 3;"))).found).toBe("the default export is of type number");
  });
});

describe("the examples", () => {
  const example = (name: string): string => new URL(`../../examples/guests/${name}.mjs`, import.meta.url).pathname;

  it("first-light moves data through each function", async () => {
    const report = await runOn("board", "-M virt,iommu=smmuv3,gic-version=3 -m 512 -nodefaults -device e1000e -device edu -device iommu-testdev", example("first-light"));
    expect(report).toMatchObject({ ok: true, dmaChecked: 4096 + 4096 + 4 });
    expect(report.steps).toHaveLength(4);
  });

  it("msi-window gets a fault without the window and an interrupt with it", async () => {
    const report = await runOn(...GRACE, example("msi-window"));
    expect(report.ok).toBe(true);
    expect(report.steps.map((step) => step.detail)).toEqual([expect.stringMatching(/^F_TRANSLATION sid 0x100 iova 0x8[0-9a-f]{6} unpriv data write s1 IN$/), "one interrupt"]);
    expect(report.events).toHaveLength(1);
  });

  it("msi-window has nothing to show without an accelerated SMMU", async () => {
    const report = await runOn("board", "-M virt,iommu=smmuv3,gic-version=3 -nodefaults -device e1000e", example("msi-window"));
    expect(report.steps.map((step) => step.skipped)).toEqual([expect.stringContaining("announce a window"), expect.stringContaining("announce a window")]);
  });
});
