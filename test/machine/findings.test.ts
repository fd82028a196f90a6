import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseArguments, readArguments, splitLocatedWords } from "../../src/machine/arguments/index.js";
import { viommu } from "../cli/streams.js";
import { refusalOf, words } from "./refused.js";

const WRONG = `# six things are wrong with it
qemu-system-aarch64 -M virt,gic-version=9,foo=bar \\
  -smp 0 -numa node,cpus=0-7 \\
  -frobnicate yes \\
  -device edu,id=a,addr=77,dma_mask=x \\
  -device edu,id=b \\
    -device edu,id=b -m 1G
`;

describe("everything that is wrong with a command line", () => {
  it("is told at once, in its order, each with its place", () => {
    const { arguments: args, findings } = readArguments(splitLocatedWords(WRONG, "wrong.args"));
    expect(args).toBeNull();
    expect(findings.filter(({ level }) => level === "error").map(({ words: said, place }) => [said.split("\n")[0], place!.line, place!.column, place!.property ?? null])).toEqual([
      ["Invalid gic-version value", 2, 21, "gic-version"],
      ["Property 'virt-11.1-machine.foo' not found", 2, 21, "foo"],
      ["Invalid CPU topology: CPU topology parameters must be greater than zero", 3, 3, null],
      ["-frobnicate: invalid option", 4, 3, null],
      ["Property 'edu.addr' doesn't take value '77'", 5, 3, "addr"],
      ["Parameter 'dma_mask' expects integer", 5, 3, "dma_mask"],
      ["Duplicate ID 'b' for device", 7, 5, null],
    ]);
    expect(findings.find(({ rule }) => rule === "duplicate-id")?.place).toEqual({ source: "wrong.args", line: 7, column: 5, word: 13, text: "-device edu,id=b" });
  });

  it("is one refusal, whose message is of all and whose words are the first's", () => {
    const refusal = refusalOf(() => parseArguments(splitLocatedWords(WRONG, "wrong.args")));
    expect(refusal.words).toContain("Invalid gic-version value");
    expect(refusal.parts).toHaveLength(7);
    expect(refusal.message).toContain("Duplicate ID 'b' for device\n  at: wrong.args:7:5\n  found: -device edu,id=b, and -device edu,id=b\n  would work: another id");
  });

  it("leaves out what only follows from something else that is wrong", () => {
    const errors = (line: string): string[] => readArguments(words(line)).findings.filter(({ level }) => level === "error").map(({ words: said }) => said.split(":")[0]);
    // Processors of a node that no -smp gives, a monitor on a chardev that was refused.
    expect(errors("-M virt -smp x -numa node,cpus=0-7")).toEqual(["Parameter 'smp.cpus' expects integer"]);
    expect(errors("-M virt -chardev socket,id=1 -qmp chardev:1")).toEqual(["Parameter 'id' expects an identifier"]);
    expect(errors("qemu-system-x86_64 -machine zzz,smm=on,sata=off -device intel-iommu -device edu,foo=1")).toEqual([`unsupported machine type`, "Property 'edu.foo' not found"]);
  });

  it("is told of the machine too, of what could be read, without what only follows", async () => {
    const { code, err } = await viommu(
      "run", "--host", "board", "--", "-M", "q35", "-nodefaults", "-device", "edu,id=one,foo=1", "-device", "pcie-root-port,id=rp,chassis=1,bar=2", "-device", "edu,bus=rp",
      "-device", "edu,bus=nowhere", "-device", "pxb-pcie,bus_nr=8,numa_node=2",
    );
    expect(code).toBe(2);
    expect(err.split("\n").filter((line) => line.startsWith("viommu: "))).toEqual([
      "viommu: Property 'edu.foo' not found",
      "viommu: Property 'pcie-root-port.bar' not found",
      "viommu: Bus 'nowhere' not found",
      "viommu: Illegal numa node 2",
    ]);
  });

  it("has notes with their places too", () => {
    const { arguments: args, findings } = readArguments(words("-M virt -nodefaults -bios x -m 1G -rtc base=utc"));
    expect(args!.notes).toHaveLength(2);
    expect(findings.map(({ level, place }) => [level, place!.word, place!.text, place!.source])).toEqual([
      ["note", 3, "-bios x", "command line"],
      ["note", 7, "-rtc base=utc", "command line"],
    ]);
  });

  it("is told of devices that find no place too, but not of those on a bus of what was refused", async () => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-"));
    try {
      const file = join(folder, "places.args");
      writeFileSync(
        file,
        [
          "-M q35 -nodefaults -device pcie-root-port,id=rp,chassis=1,addr=2 -device edu,id=first,addr=2.0",
          "-device pcie-root-port,id=lost,bus=nowhere,chassis=2",
          "-device edu,bus=lost -device edu,bus=rp",
          "-device edu,id=last,bus=rp,addr=3",
        ].join("\n"),
      );
      const { code, out, err } = await viommu("run", "--host", "board", "--json", file);
      const { ok, findings } = JSON.parse(out) as { ok: boolean; findings: Array<{ words: string; rule: string; place: { line: number; column: number; source: string } }> };
      expect([code, ok]).toEqual([2, false]);
      expect(findings.map(({ place, rule, words: said }) => [place.source, place.line, place.column, rule, said.split(":")[0].slice(0, 32)])).toEqual([
        [file, 1, 66, "slot", "PCI"],
        [file, 2, 1, "no-such-bus", "Bus 'nowhere' not found"],
        [file, 4, 1, "slot", "PCI"],
      ]);
      expect(err.match(/^viommu: /gm)).toHaveLength(3);
      expect(err).toContain(`  at: ${file}:2:1\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
