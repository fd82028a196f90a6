/** Our VT-d driver on real QEMUs: its sequences, judged by another device model. */
import { expect, it } from "vitest";
import { skipped, sorted, words } from "../remote/cases.js";
import { playGuest, program as starter, type Played, type Starter } from "../remote/played.js";
import { OLD_FUNCTIONS, Q35, Q35_CASES } from "../remote/q35-cases.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { againstQemus } from "./suite.js";

const TOPIC = "viommu guest, q35";

function on({ command, qtestAccelerator }: QemuProgram, machine: string): Starter {
  return (connect, idle) => starter(command, [...words(machine), ...(qtestAccelerator ? ["-accel", "qtest"] : ["-accel", "tcg", "-bios", idle])])(connect, idle);
}

const play = (qemu: QemuProgram, machine: string, options: readonly string[], forgiven: readonly string[]): Promise<Played> =>
  playGuest(["--machine", "q35", ...options, ...(forgiven.length > 0 ? ["--tolerate", ...forgiven] : [])], on(qemu, machine));

function expectWell(played: Played): void {
  const { account, result, said } = played;
  expect(account?.failure ?? null, `${JSON.stringify(account?.guest?.steps.filter((step) => !step.ok))}\n${said}\n${result.err}`).toBeNull();
  expect(result.code, result.err).toBe(0);
  expect(account?.guest?.steps.at(-1)?.name).toMatch(/^kexec( \d)?: nothing else$/);
}

const failed = (played: Played): string[] => (played.account?.guest?.steps ?? []).filter((step) => !step.ok).map((step) => `${step.name}: ${step.detail}`);

againstQemus("x86_64", `${TOPIC}, all machines`, (qemu) => (atLeast(qemu.version, 11, 1) ? null : "no first stage: only the machines of older ones"), (qemu) => {
  it.each(Q35_CASES.map((one) => [one.case[0], one] as const))("goes well with %s", async (_what, { case: [, machine, options, left], forgiven, account }) => {
    const played = await play(qemu, machine, options, forgiven);
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(left));
    const steps = new Map(played.account!.guest!.steps.map((step) => [step.name, step.detail]));
    expect(steps.get("enable IOMMUs")).toMatch(account);
    expect(steps.get("messages")).toContain("msi x1");
  });

  it("sees that a function stays in pass-through (G-6)", async () => {
    const played = await play(qemu, `${Q35} -device intel-iommu,scalable-mode=on,fsts=on -device edu`, [], []);
    expect(failed(played)).toEqual([expect.stringMatching(/^own tables: edu .* expected 0x/)]);
  });

  it("sees legacy mode's reasons in scalable mode (V-21)", async () => {
    const played = await play(qemu, `${Q35} -device intel-iommu,scalable-mode=on -device edu`, [], ["pass-through"]);
    expect(failed(played)).toEqual([expect.stringMatching(/^unmapped DMA: WRITE .*event 121 expected, 5 found/)]);
  });
});

againstQemus("x86_64", `${TOPIC}, the machines of older ones`, (qemu) => (atLeast(qemu.version, 9, 0) ? "played on all machines above" : null), (qemu) => {
  it.each([
    ["legacy mode", "", ["cached-permission"]],
    ["scalable mode's second stage", ",x-scalable-mode=on", ["pass-through", "second-stage-reason", "cached-permission", "rid-pasid"]],
    ["caching mode and device TLBs", ",x-scalable-mode=on,caching-mode=on,device-iotlb=on,aw-bits=48", ["pass-through", "second-stage-reason", "cached-permission", "rid-pasid"]],
  ])("goes well with %s", async (_what, properties, forgiven) => {
    expectWell(await play(qemu, `${Q35} -device intel-iommu${properties} ${OLD_FUNCTIONS}`, [], forgiven));
  });

  it("sees no record where a cached translation forbids (V-7)", async () => {
    const played = await play(qemu, `${Q35} -device intel-iommu -device edu`, [], []);
    expect(failed(played)).toEqual([expect.stringMatching(/^provoked fault: .*expected event 0x5 .*found none/)]);
  });

  it("sees PASID 0 in records of requests without one (V-6)", async () => {
    const played = await play(qemu, `${Q35} -device intel-iommu,x-scalable-mode=on -device edu`, [], ["pass-through", "second-stage-reason"]);
    expect(failed(played)).toEqual([expect.stringMatching(/^unmapped DMA: .*PASID null expected, 0 found/)]);
  });
});
