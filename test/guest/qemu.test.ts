import { describe, expect, it } from "vitest";
import { linux, type GuestOptions } from "../../src/guest/index.js";
import { QemuMachine, type SmmuPlace } from "./qemu-machine.js";

/** A QEMU 11.1 or newer, such as `VIOMMU_QEMU=qemu-system-aarch64`: what the guest does here it does there. */
const command = process.env.VIOMMU_QEMU ?? "";

const LEGACY: SmmuPlace[] = [{ base: 0x905_0000, interrupt: 106 }];
const OWN: SmmuPlace[] = [{ base: 0xc00_0000, interrupt: 144 }];
const BOARD = ["-cpu", "max", "-m", "512"];
const FUNCTIONS = [
  "-device", "iommu-testdev", "-device", "edu", "-device", "pcie-root-port,id=rp,chassis=1", "-device", "iommu-testdev,bus=rp,id=hot",
  "-device", "pcie-pci-bridge,id=pb", "-device", "edu,bus=pb,addr=3",
];
const PLUG = [{ id: "hot", argument: "iommu-testdev,bus=rp,id=hot" }];
const LEFT_OUT = ["messages", "substreams", "ATS", "function level reset", "second boot: messages", "kexec: messages"];

describe.skipIf(command === "")("the linux guest on QEMU, over qtest", () => {
  it.each<[string, string[], SmmuPlace[], Partial<GuestOptions>]>([
    ["the legacy SMMU", ["-machine", "virt,iommu=smmuv3,gic-version=3", ...BOARD, ...FUNCTIONS], LEGACY, {}],
    ["16 KiB pages", ["-machine", "virt,iommu=smmuv3,gic-version=3", ...BOARD, ...FUNCTIONS], LEGACY, { granule: 16384 }],
    ["64 KiB pages", ["-machine", "virt,iommu=smmuv3,gic-version=3", ...BOARD, ...FUNCTIONS], LEGACY, { granule: 65536 }],
    ["stage 1", ["-machine", "virt,gic-version=3", ...BOARD, "-device", "arm-smmuv3,primary-bus=pcie.0", ...FUNCTIONS], OWN, {}],
    ["stage 2", ["-machine", "virt,gic-version=3", ...BOARD, "-device", "arm-smmuv3,primary-bus=pcie.0,stage=2", ...FUNCTIONS], OWN, {}],
  ])("goes well with %s", async (_what, args, smmus, options) => {
    const qemu = await QemuMachine.start(command, args, smmus);
    const said: string[] = [];
    try {
      const report = await linux({
        port: qemu.port(),
        operator: qemu.operator(),
        say: (text) => said.push(text),
        options: { seed: 5, granule: 4096, firmware: "dt", hotplug: PLUG, ...options },
      });
      expect(report.steps.filter((step) => !step.ok)).toEqual([]);
      expect(report.steps.filter((step) => step.skipped !== undefined).map((step) => step.name)).toEqual(LEFT_OUT);
      expect(report.dmaChecked).toBeGreaterThan(1000);
    } catch (error) {
      throw new Error(said.join("\n"), { cause: error });
    } finally {
      qemu.end();
    }
  });
});
