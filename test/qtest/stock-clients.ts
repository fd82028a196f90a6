/** What clients of QEMU's qtest do, on any program that takes QEMU's arguments: viommu, or a QEMU from 11.1 on. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { play } from "./process.js";
import { GOOD, MODES, type Outcome, runSequence, SEQUENCE_ARGUMENTS } from "./smmuv3-sequence.js";
import { TRANSCRIPT, TRANSCRIPT_MACHINE } from "./transcript.js";

const words = (text: string): string[] => text.split(" ");
const python = spawnSync("python3", ["--version"]).status === 0;
const SCRIPT = fileURLToPath(new URL("stock_client.py", import.meta.url));

/** Declares the tests. @param command the program and its first arguments, asked for when a test runs */
export function stockClients(name: string, command: () => readonly string[]): void {
  it.each(MODES)("runs the sequence of QEMU's iommu-smmuv3-test: %s", async (mode) => {
    const played = await play(command(), words(SEQUENCE_ARGUMENTS));
    let outcome: Outcome;
    try {
      outcome = await runSequence(played.client, mode);
    } finally {
      expect(await played.end(), played.out()).toBe(0);
    }
    expect(outcome).toMatchObject(GOOD);
    // IDR0 of the legacy SMMU: both stages (0x0d44101b); CR0 and CR0ACK agree; no error, no event.
    expect(outcome.registers.map((value) => value.toString(16))).toEqual(["d44101b", "2730010", "74", "d", "d", "0", "0", "0"]);
  });

  it("answers as was recorded from QEMU 11.1", async () => {
    const played = await play(command(), words(TRANSCRIPT_MACHINE));
    const answers = await Promise.all(TRANSCRIPT.map(([request]) => played.client.ask(request)));
    expect(answers).toEqual(TRANSCRIPT.map(([, answer]) => answer));
    expect(await played.end(), played.out()).toBe(0);
  });

  it.skipIf(!python)(`serves a client that starts it and speaks as libqtest does${python ? "" : ": python3 is not here"}`, () => {
    const program = command();
    const { status, stdout, stderr } = spawnSync("python3", [SCRIPT, ...program], { encoding: "utf8", timeout: 60_000 });
    expect(stderr + stdout, name).toContain("all is well");
    expect(status).toBe(0);
  });
}
