/**
 * Where things are on QEMU's `virt` board: addresses are guest-physical (bytes), interrupts are SPI numbers
 * (INTID minus 32). hw/arm/virt.c of QEMU 11.1: base_memmap, extended_memmap, a15irqmap.
 */
import { hex, Refusal } from "../../support/index.js";
import type { VirtOptions } from "../arguments/index.js";
import type { BoardMap } from "../board-map.js";
import type { Range } from "../ram-layout.js";

const GIB = 2 ** 30;

/** The part that does not depend on the machine's arguments. */
export const VIRT = {
  gicDistributor: { base: 0x0800_0000, size: 0x1_0000 },
  gicV2mFrame: { base: 0x0802_0000, size: 0x1000 },
  gicIts: { base: 0x0808_0000, size: 0x2_0000 },
  /** The ITS's second page, with GITS_TRANSLATER at 0x40. */
  gicItsTranslation: { base: 0x0809_0000, size: 0x1_0000 },
  gicRedistributors: { base: 0x080a_0000, size: 0x00f6_0000 },
  uart: { base: 0x0900_0000, size: 0x1000 },
  rtc: { base: 0x0901_0000, size: 0x1000 },
  fwCfg: { base: 0x0902_0000, size: 0x18 },
  gpio: { base: 0x0903_0000, size: 0x1000 },
  uart1: { base: 0x0904_0000, size: 0x1000 },
  /** The SMMU of -machine iommu=smmuv3. */
  smmu: { base: 0x0905_0000, size: 0x2_0000 },
  ged: { base: 0x0908_0000, size: 4 },
  /** EFI's clock; QEMU has nothing there. */
  efiClock: { base: 0x0910_0000, size: 0x1_0000 },
  platformBus: { base: 0x0c00_0000, size: 0x0200_0000 },
  pcieMmio: { base: 0x1000_0000, size: 0x2eff_0000 },
  pciePio: { base: 0x3eff_0000, size: 0x1_0000 },
  /** Configuration space where highmem-ecam is off: 16 buses. */
  pcieEcamLow: { base: 0x3f00_0000, size: 0x0100_0000 },
  ram: { base: 0x4000_0000, size: 255 * GIB },
} as const;

/** INTID of the first SPI (Arm IHI 0069, 2.2). */
export const FIRST_SPI = 32;

/** SPIs that the board has (NUM_IRQS). */
export const SPI_COUNT = 256;
/** A redistributor's two frames of 64 KiB (Arm IHI 0069, 12.10). */
export const REDISTRIBUTOR_BYTES = 0x2_0000;

export const VIRT_SPI = {
  uart: 1,
  rtc: 2,
  /** INTA to INTD of the root complex: 3 to 6, level. */
  pcie: 3,
  gpio: 7,
  uart1: 8,
  ged: 9,
  gicV2m: 48,
  gicV2mCount: 64,
  smmu: 74,
  platformBus: 112,
  platformBusCount: 64,
} as const;

/** Reserved for MSIs of functions behind an accelerated SMMU: where Linux's SMMU driver puts the host's doorbell (MSI_IOVA_BASE, MSI_IOVA_LENGTH). */
export const MSI_WINDOW: Range = { base: 0x0800_0000, size: 0x0010_0000 };

export const GITS_TRANSLATER_ADDRESS = VIRT.gicItsTranslation.base + 0x40;
export const V2M_SETSPI_ADDRESS = VIRT.gicV2mFrame.base + 0x40;

/** Interrupts of an SMMU, in the order of its outputs. */
export const SMMU_INTERRUPTS = ["eventq", "priq", "cmdq-sync", "gerror"] as const;

/** Registers and the first of four SPIs of the n-th arm-smmuv3, from 0. @throws Refusal where the platform bus is full */
export function userSmmuPlace(index: number): { base: number; size: number; spi: number } {
  const count = VIRT_SPI.platformBusCount / SMMU_INTERRUPTS.length;
  if (index >= count) {
    throw new Refusal("Platform Bus: Can not fit IRQ line", {
      rule: "too-many-smmus",
      found: `${index + 1} arm-smmuv3: the platform bus has ${VIRT_SPI.platformBusCount} interrupts, ${SMMU_INTERRUPTS.length} for each`,
      wouldWork: `${count} arm-smmuv3 at the most; several expander buses need an SMMU each`,
    });
  }
  return {
    base: VIRT.platformBus.base + index * VIRT.smmu.size,
    size: VIRT.smmu.size,
    spi: VIRT_SPI.platformBus + index * SMMU_INTERRUPTS.length,
  };
}

/** 256 buses with highmem-ecam, else 16; no high window without highmem and highmem-mmio. */
export interface VirtMap extends BoardMap {
  readonly ram: Range;
  readonly pio: Range;
}

/** Bits of a physical address of the CPU model (ID_AA64MMFR0.PARange in target/arm/tcg/cpu64.c); 48 for those not listed, a host's among them. */
const PA_BITS: Readonly<Record<string, number>> = { "cortex-a15": 40, "cortex-a7": 40, "cortex-a53": 40, "cortex-a35": 40, "cortex-a55": 40, "cortex-a76": 40, "cortex-a710": 40, "cortex-a57": 44, "cortex-a72": 44 };

/** `max` is the host's under KVM and has all 52 bits else. */
function addressBits(cpu: string | null, options: VirtOptions): number {
  const model = (cpu ?? "").split(",")[0];
  return model === "max" && options.accelerator !== "kvm" ? 52 : (PA_BITS[model] ?? 48);
}

/**
 * The floating regions above RAM, as QEMU places them (hw/arm/virt.c, virt_set_memmap): memory devices, with a GiB for
 * each slot; redistributors, configuration space, MMIO, each aligned to its size, from 256 GiB on or above the memory.
 * @throws Refusal in QEMU's words where memory does not fit into the address space
 */
export function layOut(options: VirtOptions, memory: { size: number; slots: number; maxSize: number }, cpu: string | null): VirtMap {
  const limit = options.highmem ? 2 ** addressBits(cpu, options) : 2 ** 32;
  const ram = { base: VIRT.ram.base, size: memory.size };
  const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;
  const deviceMemory = memory.maxSize > memory.size ? memory.maxSize - memory.size + memory.slots * GIB : 0;
  const deviceBase = roundUp(ram.base + ram.size, GIB);
  const top = deviceBase + roundUp(deviceMemory, GIB);
  if (top > limit) {
    const devices = deviceMemory === 0 ? "" : `, memory devices from ${hex(deviceBase)} to ${hex(top - 1)} (maxmem, and 1 GiB for each of ${memory.slots} slots)`;
    const maxSize = memory.size + limit - deviceBase - memory.slots * GIB;
    const cure = deviceBase > limit || deviceMemory === 0 ? `-m ${(limit - ram.base) / 2 ** 20}M at the most` : maxSize > memory.size ? `maxmem=${Math.floor(maxSize / 2 ** 20)}M at the most` : "no maxmem";
    throw new Refusal(`Addressing limited to ${Math.log2(limit)} bits, but memory exceeds it by ${BigInt(top - limit)} bytes`, {
      rule: "address-width",
      found: `RAM from ${hex(ram.base)} to ${hex(ram.base + ram.size - 1)}${devices}${options.highmem ? `, ${cpu === null ? "a CPU" : `-cpu ${cpu}`} of ${Math.log2(limit)} bits` : ", highmem=off"}`,
      wouldWork: options.highmem ? cure : `${cure}, or highmem=on`,
    });
  }
  let next = Math.max(top, VIRT.ram.base + VIRT.ram.size);
  const place = (size: number, wanted: boolean): Range | null => {
    const base = roundUp(next, size);
    const enabled = wanted && options.highmem && base + size <= limit;
    if (enabled || !options.compactHighmem) {
      next = base + size;
    }
    return enabled ? { base, size } : null;
  };
  place(64 * 2 ** 20, options.highmemRedists);
  const ecam = place(256 * 2 ** 20, options.highmemEcam);
  const mmio64 = place(options.highmemMmioSize, options.highmemMmio);
  return {
    ram,
    ecam: ecam ?? VIRT.pcieEcamLow,
    busCount: ecam === null ? 16 : 256,
    moreBuses: ecam !== null ? null : !options.highmem || !options.highmemEcam ? "highmem=on,highmem-ecam=on for 256 buses" : `a smaller maxmem for 256 buses: their configuration space has no room below ${hex(limit)}`,
    mmio32: VIRT.pcieMmio,
    mmio64,
    pio: VIRT.pciePio,
    deviceMemory: deviceMemory === 0 ? null : { base: deviceBase, size: deviceMemory },
  };
}
