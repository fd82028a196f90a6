/** Our guest driver on real QEMUs: its sequences, judged by another device model. */
import { expect, it } from "vitest";
import { BOARD, CASES, EXPANDERS, expectWell, MESSAGES, NEVER, skipped, sorted, words } from "../remote/cases.js";
import { playGuest, program as starter, type Starter } from "../remote/played.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { againstQemus } from "./suite.js";

const TOPIC = "viommu guest";

function on({ command, qtestAccelerator }: QemuProgram, machine: string): Starter {
  return (connect, idle) => starter(command, [...words(machine), ...(qtestAccelerator ? ["-accel", "qtest"] : ["-accel", "tcg", "-bios", idle])])(connect, idle);
}

const withoutTestdev = (qemu: QemuProgram): string | null => (atLeast(qemu.version, 11, 1) ? null : "no iommu-testdev, no arm-smmuv3 on an expander bus: only the machine of older ones");

againstQemus("aarch64", `${TOPIC}, all machines`, withoutTestdev, (qemu) => {
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
    expect(new Set(played.account!.events.map((event) => event.iommu))).toEqual(new Set(["smmuv3@c000000", "smmuv3@c020000"]));
  });

  it("goes well by ACPI with the ITS hidden, and functions of which it has no driver", async () => {
    const played = await playGuest(["--firmware", "acpi"], on(qemu, `-machine virt,gic-version=3,iommu=smmuv3 ${BOARD} -device iommu-testdev -device edu -device e1000e -device virtio-net-pci -device nvme,serial=1`));
    expectWell(played);
    expect(sorted(skipped(played))).toEqual(sorted([...NEVER, ...MESSAGES, "unplug and plug"]));
  });
});

const newer = (qemu: QemuProgram): string | null => (atLeast(qemu.version, 9, 0) ? "played on all machines above" : null);

againstQemus("aarch64", `${TOPIC}, the machine of older ones`, newer, (qemu) => {
  const MACHINE = `-machine virt,gic-version=2,iommu=smmuv3 ${BOARD} -device edu,dma_mask=0xffffffffffff -device pcie-root-port,id=rp,chassis=1 -device edu,bus=rp,id=hot`;
  const LEFT = [...NEVER, "identity DMA", "second boot: identity DMA", "kexec: identity DMA"];

  it("goes well but for the CLASS of its events (G-1)", async () => {
    const played = await playGuest(["--tolerate", "event-class"], on(qemu, MACHINE));
    expectWell(played);
    expect(sorted(skipped(played)).filter((name) => !name.includes("identity"))).toEqual(sorted(NEVER));
    expect(skipped(played).every((name) => LEFT.includes(name))).toBe(true);
  });

  it("reads an NVMe's disk through the SMMU", async () => {
    const disk = "-drive driver=null-co,read-zeroes=on,size=1M,if=none,id=d -device nvme,serial=S7,drive=d";
    const played = await playGuest(["--tolerate", "event-class"], on(qemu, `${MACHINE} ${disk}`));
    expectWell(played);
    expect(played.account!.guest!.steps.find(({ name }) => name === "disks")?.detail).toMatch(/'S7' 65536 bytes read, message 1, unmapped page \w+, read-only page \w+$/);
  });

  it("sees that CLASS is 0 where the input address faulted (G-1)", async () => {
    const played = await playGuest([], on(qemu, MACHINE));
    expect(played.account?.guest?.steps.at(-1)).toMatchObject({ name: "unmapped DMA", ok: false, detail: expect.stringContaining("CLASS 2 expected, 0 found") as string });
    expect(played.result.code).toBe(1);
  });
});
