import { createServer } from "node:net";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { viommu } from "../cli/streams.js";
import { findQemus, type QemuProgram } from "../agreement/find-qemu.js";
import { ourMachine, type Played, playGuest, program, type Starter } from "./played.js";

const words = (text: string): string[] => text.split(" ");

const FUNCTIONS = "-device iommu-testdev -device edu -device pcie-root-port,id=rp,chassis=1 -device iommu-testdev,bus=rp,id=hot -device pcie-pci-bridge,id=pb -device edu,bus=pb,addr=3";
const EXPANDERS =
  "-device pxb-pcie,id=p1,bus_nr=8,bus=pcie.0 -device pxb-pcie,id=p2,bus_nr=16,bus=pcie.0 -device arm-smmuv3,primary-bus=p1,id=s1 -device arm-smmuv3,primary-bus=p2,id=s2 " +
  "-device pcie-root-port,id=r1,bus=p1,chassis=1 -device pcie-root-port,id=r2,bus=p2,chassis=2 -device edu,bus=r1 -device iommu-testdev,bus=r2,id=hot -device edu,bus=pcie.0";
const BOARD = "-cpu max -m 512";

/** What no QEMU has behind an emulated SMMU. */
const NEVER = ["substreams", "ATS", "function level reset"];
const MESSAGES = ["messages", "second boot: messages", "kexec: messages"];

function skipped({ account }: Played): string[] {
  return (account?.guest?.steps ?? []).filter((step) => step.skipped !== null).map((step) => step.name);
}

function expectWell(played: Played): void {
  const { account, result, said } = played;
  expect(account?.failure ?? null, `${JSON.stringify(account?.guest?.steps.filter((step) => !step.ok))}\n${said}\n${result.err}`).toBeNull();
  expect(result.code, result.err).toBe(0);
  expect(account?.guest?.dmaChecked).toBeGreaterThan(1000);
  expect(account?.guest?.steps.at(-1)?.name).toBe("kexec: nothing else");
}

type Case = readonly [what: string, machine: string, options: string[], skipped: string[]];

/** A machine of each kind that both viommu and QEMU 11.1 build. */
const CASES: readonly Case[] = [
  ["the legacy SMMU, GICv2m", `-machine virt,iommu=smmuv3,gic-version=3,msi=gicv2m ${BOARD} ${FUNCTIONS}`, [], NEVER],
  ["an ITS, which is hidden", `-machine virt,iommu=smmuv3,gic-version=3 -smp 3 ${BOARD} ${FUNCTIONS}`, ["--granule", "16K"], [...NEVER, ...MESSAGES]],
  ["GICv2, stage 2", `-machine virt,gic-version=2 ${BOARD} -device arm-smmuv3,primary-bus=pcie.0,stage=2 ${FUNCTIONS}`, ["--granule", "64K"], NEVER],
  ["stage 1 only", `-machine virt,gic-version=2 ${BOARD} -device arm-smmuv3,primary-bus=pcie.0 ${FUNCTIONS}`, ["--seed", "7"], NEVER],
];

/** What is skipped in the order of the steps, less what is not: a list without order. */
const sorted = (names: readonly string[]): string[] => [...names].sort();

describe("viommu guest on viommu", () => {
  it.each(CASES)("goes well with %s", async (_what, machine, options, left) => {
    const played = await playGuest(options, ourMachine(words(machine)));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(left));
    // The other side's account says that a socket played it.
    expect(played.said).toMatch(/^0\n[\s\S]*Guest qtest[\s\S]*\nok\n$/);
  });

  it("goes well with SMMUs on expander buses, by our device tree", async () => {
    const played = await playGuest([], ourMachine(words(`-machine virt,gic-version=3,msi=gicv2m ${BOARD} ${EXPANDERS}`)));
    expectWell(played);
    expect(played.account!.guest!.steps[1].detail).toMatch(/smmuv3@c000000 .*smmuv3@c020000/);
  });

  it("skips what needs an operator where there is no QMP, and says so", async () => {
    const played = await playGuest([], ourMachine(words(`-machine virt,gic-version=2,iommu=smmuv3 ${BOARD} -device iommu-testdev`)), { qmp: false });
    const steps = new Map(played.account!.guest!.steps.map((step) => [step.name, step]));
    expect(steps.get("unplug and plug")?.skipped).toBe("no function can be unplugged");
    expect(steps.get("system reset")).toMatchObject({ ok: true, skipped: "a reset needs QMP (--qmp)" });
    expect(steps.get("kexec: take-over")).toMatchObject({ ok: true, skipped: null });
    expect(played.account).toMatchObject({ ok: true, failure: null });
  });

  it("refuses ACPI where the machine has no fw_cfg to take it from", async () => {
    const played = await playGuest(["--firmware", "acpi"], ourMachine(words(`-machine virt,iommu=smmuv3 ${BOARD} -device iommu-testdev`)));
    expect(played.account?.failure).toContain("firmware tables");
    expect(played.account?.guest?.steps[0].detail).toContain("no fw_cfg device");
    expect(played.result.code).toBe(1);
  });
});

describe("viommu guest's input and partners", () => {
  it.each([
    [["--qtest", "stdio"], "--qtest stdio is no socket"],
    [["--qtest", "unix:/nonexistent/x"], "Failed to bind socket to /nonexistent/x"],
    [["--qtest", "unix:/nonexistent/x,server=off"], "Failed to connect to '/nonexistent/x'"],
    [["--qtest", "tcp:127.0.0.1:0", "--machine", "q35"], "--machine q35 is no board"],
    [["--qtest", "tcp:127.0.0.1:0", "--guest", "none"], "--guest none has nothing to do"],
    [["--qtest", "tcp:127.0.0.1:0", "--guest", "/nonexistent.mjs"], "no guest '/nonexistent.mjs'"],
    [["--qtest", "tcp:127.0.0.1:0", "--idle-firmware", "/nonexistent/x"], "--idle-firmware /nonexistent/x cannot be written"],
    [["--qtest", "tcp:127.0.0.1:0", "--tolerate", "everything"], "argument 'everything' is invalid"],
    [[], "required option '--qtest <address>' not specified"],
  ])("%j is refused", async (options, expected) => {
    const { code, out, err } = await viommu("guest", ...options);
    expect(err).toContain(expected);
    expect([code, out]).toEqual([2, ""]);
  });

  /** Somebody who listens and does not speak qtest. */
  async function partner(answer: (line: string) => string | null): Promise<{ result: Awaited<ReturnType<typeof viommu>> }> {
    const folder = mkdtempSync(join(tmpdir(), "viommu-partner-"));
    const path = join(folder, "x");
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (data: Buffer) => {
        for (const line of data.toString().split("\n").slice(0, -1)) {
          const reply = answer(line);
          if (reply === null) {
            socket.destroy();
          } else {
            socket.write(reply);
          }
        }
      });
    });
    server.listen(path);
    await once(server, "listening");
    try {
      return { result: await viommu("guest", "--qtest", `unix:${path},server=off`) };
    } finally {
      server.close();
      rmSync(folder, { recursive: true });
    }
  }

  it("one who hangs up is a failure", async () => {
    const { result } = await partner(() => null);
    expect(result.code).toBe(1);
    expect(result.out).toMatch(/failed: the guest linux ended with QtestError: the qtest socket has closed before it answered b64read/);
  });

  it("one who refuses everything is a failure", async () => {
    const { result } = await partner(() => "FAIL no\n");
    expect(result.out).toMatch(/QtestError: qtest: b64read .*: FAIL no/);
    expect(result.code).toBe(1);
  });

  it("a machine without a device tree is refused", async () => {
    const { result } = await partner(() => "OK AAAAAAAAAAA=\n");
    expect(result.err).toContain("no device tree at 0x40000000");
    expect(result.code).toBe(2);
  });
});

/** QEMUs that a variable names. */
const qemus = (process.env.VIOMMU_QEMU_CHROOT ?? "") === "" && (process.env.QEMU_AARCH64 ?? "") === "" ? [] : findQemus("aarch64").programs;
const newQemus = qemus.filter(({ version: [major, minor] }) => major > 11 || (major === 11 && minor >= 1));
const oldQemus = qemus.filter(({ version: [major] }) => major < 9);

function on({ command, qtestAccelerator }: QemuProgram, machine: string): Starter {
  return (connect, idle) => program(command, [...words(machine), ...(qtestAccelerator ? ["-accel", "qtest"] : ["-accel", "tcg", "-bios", idle])])(connect, idle);
}

describe.each(newQemus)("viommu guest on $name", (qemu) => {
  it.each(CASES)("goes well with %s", async (_what, machine, options, left) => {
    const played = await playGuest(options, on(qemu, machine));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(left));
  });

  it("goes well with SMMUs on expander buses, by QEMU's ACPI tables", async () => {
    const played = await playGuest(["--firmware", "acpi"], on(qemu, `-machine virt,gic-version=3,msi=gicv2m ${BOARD} ${EXPANDERS}`));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted(NEVER));
    expect(played.account!.guest!.steps[1].detail).toMatch(/smmuv3@c000000 .*smmuv3@c020000/);
    expect(new Set(played.account!.events.map((event) => event.smmu))).toEqual(new Set(["smmuv3@c000000", "smmuv3@c020000"]));
  });

  it("goes well by ACPI with the ITS hidden, and functions of which it has no driver", async () => {
    const played = await playGuest(["--firmware", "acpi"], on(qemu, `-machine virt,gic-version=3,iommu=smmuv3 ${BOARD} -device iommu-testdev -device edu -device e1000e -device virtio-net-pci -device nvme,serial=1`));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted([...NEVER, ...MESSAGES, "unplug and plug"]));
  });
});

describe.each(oldQemus)("viommu guest on $name", (qemu) => {
  const MACHINE = `-machine virt,gic-version=2,iommu=smmuv3 ${BOARD} -device edu,dma_mask=0xffffffffffff -device pcie-root-port,id=rp,chassis=1 -device edu,bus=rp,id=hot`;
  const LEFT = [...NEVER, "identity DMA", "second boot: identity DMA", "kexec: identity DMA"];

  it("goes well but for the CLASS of its events", async () => {
    const played = await playGuest(["--tolerate", "event-class"], on(qemu, MACHINE));
    expectWell(played);
    expect(sorted(skipped(played)).filter((name) => !name.includes("identity"))).toEqual(sorted(NEVER));
    expect(skipped(played).every((name) => LEFT.includes(name))).toBe(true);
  });

  it("sees that CLASS is 0 where the input address faulted", async () => {
    const played = await playGuest([], on(qemu, MACHINE));
    expect(played.account?.guest?.steps.at(-1)).toMatchObject({ name: "unmapped DMA", ok: false, detail: expect.stringContaining("CLASS 2 expected, 0 found") as string });
    expect(played.result.code).toBe(1);
  });
});
