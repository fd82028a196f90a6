import { describe, expect, it } from "vitest";
import { viommu } from "../cli/streams.js";
import { skipped, sorted, words } from "./cases.js";
import { ourMachine, playGuest, type Played } from "./played.js";
import { Q35, Q35_CASES } from "./q35-cases.js";

const steps = (played: Played): Map<string, { readonly ok: boolean; readonly skipped: string | null; readonly detail: string }> =>
  new Map((played.account?.guest?.steps ?? []).map((step) => [step.name, step]));

function expectWell(played: Played): void {
  const { account, result, said } = played;
  expect(account?.failure ?? null, `${JSON.stringify(account?.guest?.steps.filter((step) => !step.ok))}\n${said}\n${result.err}`).toBeNull();
  expect(result.code, result.err).toBe(0);
  expect(account?.guest?.dmaChecked).toBeGreaterThan(1000);
  expect(account?.guest?.steps.at(-1)?.name).toMatch(/^kexec( \d)?: nothing else$/);
}

describe("viommu guest on viommu's q35", () => {
  it.each(Q35_CASES.map((one) => [one.case[0], one] as const))("goes well with %s", async (_what, { case: [, machine, options, left], account }) => {
    const played = await playGuest(["--machine", "q35", ...options], ourMachine(words(machine)));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(left));
    expect(steps(played).get("enable IOMMUs")?.detail).toMatch(account);
    expect(steps(played).get("messages")?.detail).toContain("msi x1");
  });

  it("takes tables over that a kernel of the same mode left, and turns translation off where it was the other", async () => {
    const played = await playGuest(["--machine", "q35", "--kexec", "copy_tables,sm_off", "--kexec", "copy_tables,sm_off"], ourMachine(words(`${Q35} -device intel-iommu,scalable-mode=on,fsts=on -device edu`)));
    expectWell(played);
    expect(steps(played).get("kexec: take-over")?.detail).toContain("turned off and set up anew");
    expect(steps(played).get("kexec 2: take-over")?.detail).toContain("its tables copied");
  });

  it("does without messages and resets where there is no QMP", async () => {
    const played = await playGuest(["--machine", "q35"], ourMachine(words(`${Q35} -device intel-iommu,scalable-mode=on,fsts=on -device edu`)), { qmp: false });
    expectWell(played);
    expect(steps(played).get("messages")?.skipped).toBe("the machine has no MSI controller");
    expect(steps(played).get("system reset")?.skipped).toBe("a reset needs QMP (--qmp)");
    // Faults are found without the interrupt that tells of them.
    expect(steps(played).get("unmapped DMA")).toMatchObject({ ok: true, skipped: null });
  });

  it("refuses another board than it was told of", async () => {
    const { result } = await playGuest(["--machine", "q35"], ourMachine(words("-machine virt -cpu max -m 512")));
    expect(result.err).toContain("no q35 board");
    expect(result.code).toBe(2);
  });
});

describe("words about the guest's VT-d driver", () => {
  it.each([["--intel-iommu"], ["--kexec"]])("%s refuses others", async (option) => {
    const { code, err } = await viommu("guest", "--qtest", "tcp:127.0.0.1:0", option, "sm_on,faster");
    expect(err).toContain("expect words about the guest's VT-d driver");
    expect(err).toMatch(/found:\s+faster/);
    expect(code).toBe(2);
  });
});
