/** Declares tests that run once on viommu and once on every QEMU found. */
import { describe, expect, it } from "vitest";
import { Agreement, type Observation, printDifferences, type Rule } from "./agreement.js";
import { type Driver, InProcess, type MachineRequest } from "./driver.js";
import { findQemus, type QemuProgram } from "./find-qemu.js";
import { Qemu } from "./qemu-driver.js";

/** `needs` says what a QEMU lacks for the tests, null where it lacks nothing. */
export function againstQemus(architecture: "aarch64" | "x86_64", topic: string, needs: (program: QemuProgram) => string | null, declare: (program: QemuProgram) => void): void {
  const { programs, missing, wrong } = findQemus(architecture);
  for (const text of wrong) {
    it(`${topic}: ${text}`, () => expect.fail(text));
  }
  for (const text of missing) {
    it.skip(`${topic}: ${text}`, () => {});
  }
  for (const program of programs) {
    const lacks = needs(program);
    if (lacks === null) {
      describe(`${topic}, ${program.name}`, () => declare(program));
    } else {
      it.skip(`${topic}, ${program.name}: ${lacks}`, () => {});
    }
  }
}

/** Gives `use` a fresh viommu and a fresh QEMU of the same arguments. */
export async function withBoth<T>(program: QemuProgram, request: MachineRequest, use: (ours: Driver, theirs: Driver) => Promise<T>): Promise<T> {
  const ours = new InProcess(request);
  try {
    const theirs = await Qemu.start(program, request);
    try {
      return await use(ours, theirs);
    } finally {
      theirs.end();
    }
  } finally {
    ours.end();
  }
}

/** A test whose observation has to agree, difference by difference. */
export function agrees<C>(name: string, program: QemuProgram, request: MachineRequest, rules: ReadonlyArray<Rule<C>>, context: C, observe: (driver: Driver) => Promise<Observation>): void {
  it(name, async () => {
    await withBoth(program, request, async (ours, theirs) => {
      const agreement = new Agreement(rules, program.version);
      const [left, right] = [await observe(ours), await observe(theirs)];
      const differences = agreement.compare(left, right, context);
      console.log(`${program.name}: ${name}: ${Object.keys(left).length} values; ${agreement.summary()}`);
      expect(printDifferences(differences)).toBe("");
    });
  });
}
