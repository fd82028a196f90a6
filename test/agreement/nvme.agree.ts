/** Our NVMe controller beside QEMU's: the same commands, their completions and data compared. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Agreement, type Observation, printDifferences } from "./agreement.js";
import { InProcess } from "./driver.js";
import type { QemuProgram } from "./find-qemu.js";
import { Controller, DISK_BYTES, nvmeMachine } from "./nvme/controller.js";
import { nvmeRules } from "./nvme/differences.js";
import { playAdmin, playIo, playRandom, playRegisters } from "./nvme/play.js";
import { Qemu } from "./qemu-driver.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";

/** Commands of a random case. */
const COMMANDS = 40;

/** Plays on both, each with a disk of the same contents, and compares what was seen and the disks. */
async function compare(program: QemuProgram, name: string, play: (controller: Controller) => Promise<Observation>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "viommu-nvme-"));
  const files = ["ours.raw", "theirs.raw"].map((file) => join(folder, file));
  const contents = Uint8Array.from({ length: DISK_BYTES }, (_unused, i) => (i * 7 + (i >> 9)) & 0xff);
  files.forEach((file) => writeFileSync(file, contents));
  const ours = new InProcess({ arguments: nvmeMachine(files[0]) });
  const theirs = await Qemu.start(program, { arguments: nvmeMachine(files[1]) });
  try {
    const [left, right] = [await play(new Controller(ours)), await play(new Controller(theirs))];
    const agreement = new Agreement(nvmeRules, program.version);
    const differences = agreement.compare(left, right, null);
    console.log(`${program.name}: ${name}: ${Object.keys(left).length} values; ${agreement.summary()}`);
    expect(printDifferences(differences)).toBe("");
  } finally {
    theirs.end();
    ours.end();
    rmSync(folder, { recursive: true });
  }
}

againstQemus("x86_64", "NVMe", () => null, (program) => {
  it("registers", async () => {
    await compare(program, "registers", playRegisters);
  });
  it("admin commands", async () => {
    await compare(program, "admin commands", playAdmin);
  });
  it("I/O commands", async () => {
    await compare(program, "I/O commands", playIo);
  });
  it("reads, writes, comparisons and zeros at random", async () => {
    const { seed, first, count } = caseRange(5, 400);
    for (let index = first; index < first + count; index++) {
      await compare(program, `case ${seed}:${index}`, (controller) => playRandom(controller, randomOf(seed, index), COMMANDS));
    }
  });
});
