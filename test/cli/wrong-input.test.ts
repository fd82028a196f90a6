import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { main } from "../../src/cli/main.js";
import { viommu } from "./streams.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const good = file("good.args", "-machine virt -nodefaults\n");
const rows: Array<[words: string[], message: RegExp]> = [
  [["run"], /no machine arguments[\s\S]*FILE\.args/],
  [["run", "--"], /no machine arguments/],
  [["run", join(folder, "nope.args")], /Could not open '.*nope\.args': No such file or directory/],
  [["run", folder], /Could not open '.*': Is a directory/],
  [["run", file("empty.args", "# nothing\n")], /No machine specified, and there is no default/],
  [["run", file("quote.args", "-machine virt\n-name 'x\n")], /quote\.args:2: the quote ' is not closed/],
  [["run", file("s390x.args", "qemu-system-s390x -machine s390-ccw-virtio")], /qemu-system-s390x is not a machine that viommu has/],
  [["run", "--", "-machine", "virt", "-device", "arm-smmuv3"], /^viommu: SMMU is not attached to any PCI bus!\n {2}found: .*\n {2}would work: /],
  [["run", "--", "-machine", "virt", "-device", "nope"], /'nope' is not a valid device model name/],
  [["run", "--", "-machine", "virt", "-m"], /-m: requires an argument/],
  [["run", "--host", "nope", good], /Could not open 'nope'[\s\S]*arm-small, board, desktop, grace, two-socket-spr/],
  [["run", "--host", join(folder, "nope.json"), good], /Could not open '.*nope\.json': No such file or directory/],
  [["run", "--host", folder + "/", good], /Is a directory/],
  [["run", "--host", file("bad.json", "{ not json"), good], /bad\.json/],
  [["run", "--host", file("empty.json", "{}"), good], /empty\.json: [a-z]/],
  [["run", "--host", file("list.json", "[]"), good], /list\.json/],
  [["run", "--guest", "nope", good], /no guest 'nope'[\s\S]*linux/],
  [["run", "--guest", folder, good], /not a file/],
  [["run", "--guest", file("guest.txt", "x"), good], /not an ES module/],
  [["run", "--guest", file("guest.mjs", "this is no script"), good], /cannot be loaded/],
  [["run", "--firmware", "uefi", good], /--firmware expects dt or acpi/],
  [["run", "--firmware", "acpi", "--", "-M", "virt,acpi=off"], /ACPI is asked for and the machine has none\n[\s\S]*acpi=on/],
  [["run", "--granule", "8K", good], /--granule expects a page size[\s\S]*4K, 16K, 64K/],
  [["run", "--seed", "x", good], /--seed expects a number/],
  [["run", "--nope", good], /unknown option '--nope'/],
  [["run", "-qtest", "null", "--guest", "linux", "--", "-M", "virt"], /a machine that a qtest socket plays has no guest program\n[\s\S]*viommu guest --qtest/],
  [["run", "--qmp", "unix:/nonexistent/x,server=on", "--", "-M", "virt"], /Failed to bind socket to \/nonexistent\/x: No such file or directory\n[\s\S]*a folder that is there/],
  [["run", "-S", "--qtest", "nowhere", good], /'nowhere' is not a valid char driver name/],
  [["guest", "-qtest", "nowhere"], /'nowhere' is not a valid char driver name/],
  [["run", "--accel", "qtset", good], /invalid accelerator qtset[\s\S]*kvm, tcg, qtest/],
  [["run", "--", "-M", "virt", "--json"], /^viommu: --json: invalid option\n {2}found: an option of viommu run among QEMU's\n {2}would work: viommu run --json \.\.\. -- and QEMU's arguments\n$/],
  [["run", "-qtest", "null", "-qtest-log", join(folder, "no", "log"), "--", "-M", "virt"], /could not open log file '.*log': No such file or directory\n[\s\S]*would work: a file that can be written, or none/],
  [["guest", "--qtest", "unix:x", "--idle-firmware", join(folder, "no", "firmware")], /Could not write to '.*firmware': No such file or directory\n[\s\S]*would work: a file that can be written/],
  [["run", "--host", file("memory.json", '{"name":"x","smmus":[],"functions":[]}'), good], /memory\.json: memory: [\s\S]*would work: a host file as docs\/host-file\.md describes it/],
  [["run", "--", "-M", "q35", "-device", "intel-iommu,dma-drain=off"], /Property 'intel-iommu\.dma-drain' not found\n {2}found: dma-drain=off, of an older version: draining is always offered[\s\S]*\n {2}would work: leaving dma-drain out/],
  [["run", "--host"], /option '--host <file>' argument missing/],
  [["nope"], /unknown command 'nope'/],
  [[], /Usage: viommu/],
  [["device"], /missing required argument 'name'/],
  [["device", "arm-smmu"], /'arm-smmu' is not a valid device model name[\s\S]*did you mean arm-smmuv3\?/],
  [["hosts", "nope"], /Could not open 'nope'/],
  [["tables", "--", "-M", "virt"], /required option '--out <folder>' not specified/],
  [["tables", "--out", join(good, "x"), "--", "-M", "virt"], /Could not write to '.*': Not a directory/],
  [["tables", "--out", good, "--", "-M", "virt"], /Could not write to '.*': File exists/],
  [["tables", "--out", join(folder, "t"), "--", "-M", "virt,iommu=x"], /Invalid iommu value/],
];

describe("a fault of viommu itself", () => {
  it("is told as one, with what shows where it was", async () => {
    const told = async (): Promise<string> => {
      let err = "";
      const out = (): void => {
        throw new RangeError("as if");
      };
      expect(await main(["hosts"], { out, err: (text) => void (err += text), color: false, interactive: false })).toBe(1);
      return err;
    };
    expect(await told()).toBe("viommu: this is a fault of viommu: RangeError: as if (VIOMMU_DEBUG=1 in the environment shows where)\n");
    vi.stubEnv("VIOMMU_DEBUG", "1");
    expect(await told()).toMatch(/^viommu: this is a fault of viommu: RangeError: as if\n\s+at /);
    vi.unstubAllEnvs();
  });
});

describe("wrong input", () => {
  it("is told within 80 columns behind QEMU's words, which stay in one line", async () => {
    const { err } = await viommu("run", "--", "-M", "virt,nope=1");
    const [words, ...more] = err.split("\n");
    expect(words).toBe("viommu: Property 'virt-11.1-machine.nope' not found");
    expect(more.length).toBeGreaterThan(4);
    expect(more.filter((line) => line.length > 80)).toEqual([]);
  });

  it.each(rows.map(([words, message]) => ({ name: words.map((word) => word.replace(folder, "")).join(" "), words, message })))(
    "viommu $name",
    async ({ words, message }) => {
      const { code, out, err } = await viommu(...words);
      expect(err).toMatch(message);
      expect(code).toBe(2);
      expect(out).toBe("");
      // One message, and not where in the program it came from.
      expect(err).not.toMatch(/^\s+at /m);
      expect(err).not.toContain("fault of viommu");
    },
  );
});
