import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { shippedHosts } from "../../src/host/shipped/index.js";
import { viommu } from "./streams.js";

const has = (shell: string): boolean => spawnSync(shell, ["-c", "true"]).status === 0;

/** What bash offers for the last of the words, in a folder with one file, `my machine.args`. */
async function offered(...words: string[]): Promise<string[]> {
  const { code, out, err } = await viommu("completion", "bash");
  expect([code, err]).toEqual([0, ""]);
  const folder = mkdtempSync(join(tmpdir(), "viommu-completion-"));
  try {
    writeFileSync(join(folder, "script"), out);
    writeFileSync(join(folder, "my machine.args"), "");
    // An empty PATH: nothing is started.
    const ask = 'PATH=; source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _viommu; printf "%s\\n" "${COMPREPLY[@]}"';
    return execFileSync("/bin/bash", ["-c", ask, "bash", "viommu", ...words], { cwd: folder, encoding: "utf8" }).split("\n").slice(0, -1);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(!has("bash"))("bash completes", () => {
  it("commands", async () => {
    expect(await offered("")).toEqual(["run", "inspect", "plan", "check", "guest", "tables", "devices", "device", "host", "hosts", "conformance", "completion", "--help", "--version"]);
    expect(await offered("dev")).toEqual(["devices", "device"]);
  });

  it("a command's options and QEMU's, and files", async () => {
    expect(await offered("run", "--qu")).toEqual(["--quiet"]);
    expect(await offered("run", "-devi")).toEqual(["-device"]);
    expect(await offered("run", "my")).toEqual(["my machine.args"]);
    expect(await offered("hosts", "--h")).toEqual(["--help"]);
    // What QEMU has and viommu refuses, and what QEMU has no more, is not offered.
    expect([await offered("run", "-incom"), await offered("run", "-no-ac"), await offered("run", "-cdr")]).toEqual([[""], [""], ["-cdrom"]]);
  });

  it("the values of options", async () => {
    expect(await offered("run", "--host", "")).toEqual([...shippedHosts(), "my machine.args", "script"]);
    expect(await offered("run", "--firmware", "")).toEqual(["dt", "acpi"]);
    expect(await offered("run", "--granule", "6")).toEqual(["64K"]);
    expect(await offered("guest", "--guest", "l")).toEqual(["linux"]);
    expect(await offered("guest", "--tolerate", "ev")).toEqual(["event-class"]);
    expect(await offered("run", "--json", "--", "-M", "")).toEqual(["virt", "q35"]);
    expect(await offered("run", "-M", "virt", "--device", "arm-s")).toEqual(["arm-smmuv3"]);
    expect(await offered("tables", "-object", "io")).toEqual(["iommufd"]);
    expect(await offered("device", "vfio")).toEqual(["vfio-pci"]);
    expect(await offered("completion", "z")).toEqual(["zsh"]);
  });
});

it.each(["bash", "zsh", "fish"])("the script for %s is one that it reads", async (shell) => {
  const { code, out } = await viommu("completion", shell);
  expect(code).toBe(0);
  expect(out).toContain("arm-smmuv3");
  if (has(shell)) {
    const folder = mkdtempSync(join(tmpdir(), "viommu-completion-"));
    try {
      const script = join(folder, "script");
      writeFileSync(script, out);
      expect(spawnSync(shell, ["-n", script], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
      if (shell === "fish") {
        const ask = (line: string): string => execFileSync("fish", ["--no-config", "-c", `source ${script}; complete -C '${line}'`], { encoding: "utf8" });
        expect(ask("viommu run --firmware a")).toMatch(/^acpi\b/);
        expect(ask("viommu run -device arm-s")).toMatch(/^arm-smmuv3\b/);
        expect(ask("viommu comp")).toMatch(/^completion\t/);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
});

it("another shell is refused with those that there are", async () => {
  const { code, err } = await viommu("completion", "csh");
  expect(code).toBe(2);
  expect(err).toContain("bash, zsh, fish");
});
