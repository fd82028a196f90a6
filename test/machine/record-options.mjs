#!/usr/bin/env node
/**
 * Writes the options that QEMU's -help lists to test/machine/qemu-VERSION-options.json:
 *   node test/machine/record-options.mjs [PREFIX...]
 * PREFIX is what stands before qemu-system-aarch64 and -x86_64, such as a chroot's `run`.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ask = (program, option) => {
  const [first, ...rest] = [...process.argv.slice(2), program, option];
  return execFileSync(first, rest, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
};
const options = {};
for (const architecture of ["aarch64", "x86_64"]) {
  const names = ask(`qemu-system-${architecture}`, "-help")
    .split("\n")
    // `-fda/-fdb file`, `-h or -help`, `--preconfig`
    .flatMap((line) => /^(-{1,2}[A-Za-z][\w-]*(?:(?:\/| or )-[\w-]+)*)(?:\s|$)/.exec(line)?.[1].split(/\/| or /) ?? [])
    .map((name) => name.replace(/^--?/, ""));
  options[architecture] = [...new Set(names)].sort();
}
const [, version] = /version (\d+\.\d+)/.exec(ask("qemu-system-x86_64", "-version"));
const file = fileURLToPath(new URL(`qemu-${version}-options.json`, import.meta.url));
writeFileSync(file, `${JSON.stringify({ qemu: version, options }, null, 1)}\n`);
console.log(`${file}: ${options.aarch64.length} and ${options.x86_64.length} options`);
