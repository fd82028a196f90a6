/** q35 machines that our guest is played on over qtest, on viommu and on QEMUs. */
import type { Case } from "./cases.js";

/** Slots of QEMU's q35 are ACPI's unless it is told otherwise. */
const SLOTS = "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
const FUNCTIONS = `-device iommu-testdev -device edu -device pcie-root-port,id=rp,chassis=1 -device iommu-testdev,bus=rp,id=hot -device pcie-pci-bridge,id=pb -device edu,bus=pb,addr=3 ${SLOTS}`;
/** For QEMUs without iommu-testdev. */
export const OLD_FUNCTIONS = `-device edu -device pcie-root-port,id=rp,chassis=1 -device edu,bus=rp,id=hot ${SLOTS}`;
export const Q35 = "-M q35 -m 512";

const iommu = (properties: string): string => `${Q35} -device intel-iommu${properties} ${FUNCTIONS}`;

/** What no QEMU has behind an emulated VT-d. */
const NEVER = ["PASIDs", "ATS", "function level reset"];

export interface Q35Case {
  readonly case: Case;
  /** What QEMU 11.1 is forgiven (docs/differences.md). */
  readonly forgiven: readonly string[];
  /** A word of the account of the first "enable IOMMUs". */
  readonly account: RegExp;
}

const one = (what: string, properties: string, options: string[], forgiven: readonly string[], account: RegExp): Q35Case => ({ case: [what, iommu(properties), options, NEVER], forgiven, account });

/** A machine of each kind that both viommu and QEMU 11.1 build. */
export const Q35_CASES: readonly Q35Case[] = [
  one("the first stage", ",scalable-mode=on,fsts=on", [], ["pass-through"], /scalable mode, first stage, interrupts remapped/),
  one("caching mode, entries taken down first", ",scalable-mode=on,fsts=on,caching-mode=on", ["--intel-iommu", "tear_down_pasids"], [], /caching mode/),
  one("PASIDs and device TLBs", ",scalable-mode=on,fsts=on,fs1gp=off,pasid-bits=8,device-iotlb=on", [], ["pass-through"], /pasid 8, device TLBs/),
  one("scalable mode's second stage", ",scalable-mode=on", [], ["pass-through", "second-stage-reason"], /scalable mode, second stage of 4 levels/),
  one("legacy mode, interrupts as they are", ",aw-bits=39", ["--intel-iommu", "intremap_off"], [], /\(legacy mode, second stage of 3 levels\)/),
  one("legacy mode by choice, invalidated by registers", ",scalable-mode=on,fsts=on", ["--intel-iommu", "sm_off,registers"], [], /legacy mode.*invalidated by registers/),
  one(
    "kernels of both modes one after the other, and one that copies tables",
    ",scalable-mode=on,fsts=on",
    ["--kexec", "sm_off", "--kexec", "sm_on", "--kexec", "copy_tables"],
    ["pass-through"],
    /scalable mode, first stage/,
  ),
];
