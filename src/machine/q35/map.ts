/**
 * Where things are on QEMU's `q35` board: guest-physical addresses in bytes, I/O ports, IOAPIC pins (hw/i386/pc_q35.c,
 * hw/pci-host/q35.c and `info mtree` of QEMU 11.1).
 */
import type { Q35Options } from "../arguments/index.js";
import { hex, Refusal } from "../../support/index.js";
import type { BoardMap } from "../board-map.js";
import type { Range } from "../ram-layout.js";

const GIB = 2 ** 30;
const FOUR_GIB = 4 * GIB;

export const Q35 = {
  /** Read-only until firmware makes RAM of it (PAM registers, which are not modelled): option ROMs, the end of the BIOS. */
  optionRom: { base: 0xc_0000, size: 0x2_0000 },
  biosShadow: { base: 0xe_0000, size: 0x2_0000 },
  /** Configuration space where firmware puts it. */
  ecam: { base: 0xb000_0000, size: 0x1000_0000 },
  ioapic: { base: 0xfec0_0000, size: 0x1000 },
  remapping: { base: 0xfed9_0000, size: 0x1000 },
  /** Local APICs, and messages to them. */
  messages: { base: 0xfee0_0000, size: 0x10_0000 },
  bios: { base: 0xfffc_0000, size: 0x4_0000 },
  /** ACPI hardware where QEMU's firmware puts it (hw/acpi/ich9.c, PMBASE), and the reset control register. */
  acpi: { sciInterrupt: 9, eventPort: 0x600, controlPort: 0x604, timerPort: 0x608, resetPort: 0xcf9, resetValue: 6 },
} as const;

/** QEMU's pseudo bus and devfn of the IOAPIC as an interrupt source (DMAR's first scope). */
export const IOAPIC_REQUESTER_ID = 0xff00;
/** IOAPIC pin of PIRQA; PIRQH is the eighth from here. */
export const FIRST_PIRQ_PIN = 16;

export interface Q35Map extends BoardMap {
  /** RAM below 4 GiB, and what of it is above. */
  readonly lowRam: Range;
  readonly highRam: Range | null;
  readonly mmio64: Range;
}

/**
 * RAM of 2.75 GiB and more is split at 2 GiB, so that configuration space has its place at 0xb0000000; less is whole
 * below it. max-ram-below-4g lowers the split.
 * @throws Refusal in QEMU's words where memory, or the host bridge's window above it, is beyond what the CPU addresses
 */
export function layOutQ35(options: Q35Options, memory: { size: number; slots: number; maxSize: number }, cpu: string | null): Q35Map {
  const usual = memory.size >= Q35.ecam.base ? 2 * GIB : Q35.ecam.base;
  const low = Math.min(memory.size, usual, options.maxRamBelow4g);
  const high = memory.size - low;
  const deviceMemory = memory.maxSize > memory.size ? memory.maxSize - memory.size + memory.slots * GIB : 0;
  const roundUp = (value: number): number => Math.ceil(value / GIB) * GIB;
  const deviceBase = roundUp(FOUR_GIB + high);
  // pci-hole64-size is 32 GiB.
  const mmio64 = { base: roundUp(deviceBase + deviceMemory), size: 32 * GIB };
  checkAddressBits(mmio64.base + mmio64.size - 1, physicalBits(cpu), cpu);
  const holeEnd = Q35.ioapic.base;
  const holeStart = Q35.ecam.base + Q35.ecam.size;
  return {
    lowRam: { base: 0, size: low },
    highRam: high === 0 ? null : { base: FOUR_GIB, size: high },
    ecam: Q35.ecam,
    busCount: 256,
    moreBuses: null,
    mmio32: { base: holeStart, size: holeEnd - holeStart },
    mmio64,
    deviceMemory: deviceMemory === 0 ? null : { base: deviceBase, size: deviceMemory },
  };
}

/** Bits of a physical address: what -cpu says, a host's (which may have all 52), else 40 (target/i386/cpu.c, x86_cpu_realizefn). */
function physicalBits(cpu: string | null): number {
  const [model, ...properties] = (cpu ?? "").split(",");
  const said = (name: string): string | undefined => properties.findLast((one) => one.startsWith(`${name}=`))?.slice(name.length + 1);
  const bits = Number(said("phys-bits") ?? 0);
  const hosts = said("host-phys-bits") ?? (model === "host" || model === "max" ? "on" : "off");
  return Number.isInteger(bits) && bits >= 32 && bits <= 52 ? bits : hosts === "on" ? 52 : 40;
}

/** As pc_memory_init of hw/i386/pc.c. */
function checkAddressBits(last: number, bits: number, cpu: string | null): void {
  const limit = 2 ** bits - 1;
  if (last > limit) {
    throw new Refusal(`Address space limit ${hex(limit)} < ${hex(last)} phys-bits too low (${bits})`, {
      rule: "address-width",
      found: `${cpu === null ? "a CPU of QEMU's default" : `-cpu ${cpu}`}, memory and 32 GiB of PCI memory above it up to ${hex(last)}`,
      wouldWork: last < 2 ** 52 ? `a smaller maxmem, or -cpu ${cpu === null ? "max" : cpu.split(",")[0]},phys-bits=${Math.ceil(Math.log2(last + 1))}` : "a smaller maxmem",
    });
  }
}

/**
 * PIRQ (0: A) that a pin (0: INTA) of a device on pcie.0 is wired to, as the ICH9's D25IR to D31IR are at reset and
 * as QEMU chooses where the chip has no register (hw/isa/lpc_ich9.c, ich9_cc_init).
 */
export function pirqOf(device: number, pin: number): number {
  if (device === 30) {
    return 4 + pin;
  }
  return device >= 25 ? pin : 4 + ((device + pin) & 3);
}
