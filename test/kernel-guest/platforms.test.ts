import { describe, expect, it } from "vitest";
import { Arm64Platform } from "../../src/kernel-guest/arm64/platform.js";
import type { KernelFiles } from "../../src/kernel-guest/files.js";
import { platformOf } from "../../src/kernel-guest/platforms.js";
import type { VirtBoard } from "../../src/machine/index.js";
import { Refusal } from "../../src/support/index.js";
import { build } from "../machine/build.js";

function image(): Uint8Array {
  const file = new Uint8Array(4096);
  new DataView(file.buffer).setUint32(56, 0x644d_5241, true);
  return file;
}

const files = (change: Partial<KernelFiles> = {}): KernelFiles => ({ kernel: image(), kernelName: "Image", ramdisk: null, commandLine: "", ...change });

function refused(line: string, act: (machine: ReturnType<typeof build>["machine"]) => unknown): string {
  const { machine } = build(line);
  try {
    act(machine);
  } catch (error) {
    expect(error).toBeInstanceOf(Refusal);
    return (error as Refusal).message;
  } finally {
    machine.shutdown();
  }
  throw new Error("taken");
}

describe("a kernel that cannot run", () => {
  it("has processors that this machine has not", () => {
    const line = process.arch === "arm64" ? "-M q35,accel=kvm -nodefaults -kernel k" : "-M virt,accel=kvm -nodefaults -kernel k";
    const said = refused(line, (machine) => platformOf(machine, files()));
    expect(said).toContain("invalid accelerator kvm");
    expect(said).toContain(`on a host of ${process.arch}`);
  });

  it("needs a GICv3, a redistributor for each processor, and an Image", () => {
    const arm64 = (line: string, change: Partial<KernelFiles> = {}): string => refused(`${line} -m 64 -nodefaults -kernel k`, ({ board }) => new Arm64Platform(board as VirtBoard, files(change)));
    expect(arm64("-M virt,accel=kvm,gic-version=2")).toContain("gic-version=2 does not work with a kernel under KVM");
    expect(arm64("-M virt,accel=kvm -smp 124")).toContain("Number of SMP CPUs requested (124) exceeds max CPUs supported by machine 'mach-virt' (123)");
    expect(arm64("-M virt,accel=kvm", { kernel: new Uint8Array(100) })).toContain("100 bytes without the magic of an Image");
  });

  it("is told of BARs that find no place", () => {
    const { machine, log } = build(
      "-M virt,accel=kvm -m 64 -nodefaults -kernel k -object iommufd,id=iommufd0" +
        [0, 1, 2, 3].map((n) => ` -device pxb-pcie,id=p${n},bus_nr=${16 * (n + 1)} -device pcie-root-port,id=r${n},bus=p${n},chassis=${n} -device vfio-pci,host=${["0008", "0009", "0018", "0019"][n]}:01:00.0,bus=r${n},iommufd=iommufd0`).join(""),
    );
    new Arm64Platform(machine.board as VirtBoard, files());
    machine.shutdown();
    expect(log.warnings().filter((line) => line.includes("highmem-mmio-size=2048G"))).toHaveLength(4);
  });
});
