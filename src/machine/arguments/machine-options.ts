/** `-machine virt|q35[,...]` and `-accel`: the board's own properties, with QEMU 11.1's names, values and words. */
import { BOARD_KINDS, type BoardKind, boardTraits } from "./boards.js";
import { listed, nearest } from "./nearest.js";
import { Refusal } from "../../support/index.js";
import type { JsonValue, OptionString } from "./option-string.js";
import { parseBool, parseSize } from "./property.js";

export type MsiController = "its" | "gicv2m" | "none";

export interface MachineOptions {
  board: BoardKind;
  /** Such as virt-11.1, pc-q35-11.1. */
  type: string;
  /** Major and minor version of the machine type. */
  version: readonly [number, number];
  iommu: "none" | "smmuv3";
  /** Null: not said. */
  gicVersion: "2" | "3" | "4" | "x-5" | "host" | "max" | null;
  its: boolean;
  msi: "auto" | "gicv2m" | "its" | "off";
  acpi: boolean;
  highmem: boolean;
  highmemEcam: boolean;
  highmemMmio: boolean;
  /** Bytes. */
  highmemMmioSize: number;
  highmemRedists: boolean;
  compactHighmem: boolean;
  /** Bytes. */
  maxRamBelow4g: number;
  /** q35 has an AHCI controller, an SMBus controller. */
  sata: boolean;
  smbus: boolean;
  bypassIommu: boolean;
  memoryBackend: string | null;
  /** Null: not said. */
  accelerator: "kvm" | "tcg" | "qtest" | null;
  kernelIrqchip: "on" | "off" | "split" | null;
}

export function defaultMachineOptions(): MachineOptions {
  return {
    board: "virt",
    type: "",
    version: [11, 1],
    iommu: "none",
    gicVersion: null,
    its: true,
    msi: "auto",
    acpi: true,
    highmem: true,
    highmemEcam: true,
    highmemMmio: true,
    highmemMmioSize: 512 * 2 ** 30,
    highmemRedists: true,
    compactHighmem: true,
    maxRamBelow4g: 2 ** 32,
    sata: true,
    smbus: true,
    bypassIommu: false,
    memoryBackend: null,
    accelerator: null,
    kernelIrqchip: null,
  };
}

/** Machine types of QEMU 11.1, `virt` and `q35` being the last. */
const VERSIONS = ["5.2", "6.0", "6.1", "6.2", "7.0", "7.1", "7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0", "10.1", "10.2", "11.0", "11.1"];

type Setter = (options: MachineOptions, value: string, notes: string[]) => void;

function boolean(name: string, set: (options: MachineOptions, value: boolean) => void): Setter {
  return (options, value) => set(options, parseBool(name, value));
}

function oneOf<T extends string>(name: string, values: readonly T[], hint: string, set: (options: MachineOptions, value: T) => void): Setter {
  return (options, value) => {
    const match = values.find((one) => one === value);
    if (match === undefined) {
      throw new Refusal(`Invalid ${name} value\nValid values are ${hint}`, { found: `${name}=${value}` });
    }
    set(options, match);
  };
}

/** Whether a value turns something on that is not here: then it is refused, else there is nothing to say. */
function onlyOff(name: string, reason: string, instead: string): Setter {
  return (_options, value) => {
    if (parseBool(name, value)) {
      throw new Refusal(`${name}=on is not modelled`, { found: reason, wouldWork: instead });
    }
  };
}

function withoutEffect(names: string): Record<string, Setter> {
  return Object.fromEntries(names.split(" ").map((name) => [name, noEffect(name)]));
}

const noEffect =
  (name: string): Setter =>
  (_options, value, notes) => {
    notes.push(`-machine ${name}=${value}: it has no effect here`);
  };

/** Of every machine. */
const common: Record<string, Setter> = {
  type: (options, value) => setType(options, value),
  acpi: (options, value) => (options.acpi = value === "auto" || parseBool("acpi", value)),
  "default-bus-bypass-iommu": boolean("default-bus-bypass-iommu", (o, v) => (o.bypassIommu = v)),
  "memory-backend": (options, value) => (options.memoryBackend = value),
  accel: (options, value) => setAccelerator(options, value),
  "kernel-irqchip": (options, value) => setKernelIrqchip(options, value),
  "x-oem-id": (options, value, notes) => noEffect("x-oem-id")(options, checkLength("x-oem-id", value, 6), notes),
  "x-oem-table-id": (options, value, notes) => noEffect("x-oem-table-id")(options, checkLength("x-oem-table-id", value, 8), notes),
  "confidential-guest-support": (_options, value) => {
    throw new Refusal("confidential-guest-support is not modelled", { found: `confidential-guest-support=${value}`, wouldWork: "leaving it out" });
  },
  "memory-encryption": (_options, value) => {
    throw new Refusal("memory-encryption is not modelled", { found: `memory-encryption=${value}`, wouldWork: "leaving it out" });
  },
  ...withoutEffect("append aux-ram-share boot dt-compatible dtb dump-guest-core dumpdtb firmware graphics initrd kernel mem-merge phandle-start shim suppress-vmdesc usb x-change-vmfd-on-reset hmat hpet vmport smm nvdimm pflash0 pflash1"),
};

const virt: Record<string, Setter> = {
  ...common,
  iommu: oneOf("iommu", ["none", "smmuv3"], "none, smmuv3.", (o, v) => (o.iommu = v)),
  "gic-version": oneOf("gic-version", ["2", "3", "4", "x-5", "host", "max"], "2, 3, 4, x-5, host, and max.", (o, v) => {
    if (v === "x-5") {
      throw new Refusal("gic-version=x-5 is not modelled", { found: "GICv5 is experimental in QEMU", wouldWork: "gic-version=3" });
    }
    o.gicVersion = v;
  }),
  its: boolean("its", (o, v) => (o.its = v)),
  msi: oneOf("msi", ["auto", "gicv2m", "its", "off"], "auto, gicv2m, its, off", (o, v) => (o.msi = v)),
  highmem: boolean("highmem", (o, v) => (o.highmem = v)),
  "highmem-ecam": boolean("highmem-ecam", (o, v) => (o.highmemEcam = v)),
  "highmem-mmio": boolean("highmem-mmio", (o, v) => (o.highmemMmio = v)),
  "highmem-redists": boolean("highmem-redists", (o, v) => (o.highmemRedists = v)),
  "compact-highmem": boolean("compact-highmem", (o, v) => (o.compactHighmem = v)),
  "highmem-mmio-size": (options, value) => {
    const bytes = parseSize("highmem-mmio-size", value, "");
    if (!Number.isSafeInteger(Math.log2(bytes))) {
      throw new Refusal("highmem-mmio-size is not a power of 2", { found: `highmem-mmio-size=${value}`, wouldWork: "512G" });
    }
    if (bytes < 512 * 2 ** 30 || bytes > 2 ** 46) {
      throw new Refusal("highmem-mmio-size cannot be set to a lower value than 512 GiB", { found: `highmem-mmio-size=${value}`, wouldWork: "512G to 64T" });
    }
    options.highmemMmioSize = bytes;
  },
  secure: onlyOff("secure", "the Secure state has no part here", "secure=off"),
  ...withoutEffect("dtb-kaslr-seed dtb-randomness mte ras virtio-mmio-transports virtualization"),
};

const q35: Record<string, Setter> = {
  ...common,
  "max-ram-below-4g": (options, value) => {
    const bytes = parseSize("max-ram-below-4g", value, "");
    if (bytes > 2 ** 32) {
      throw new Refusal(`Machine option 'max-ram-below-4g=${bytes}' expects size less than or equal to 4G`, { found: `max-ram-below-4g=${value}`, wouldWork: "max-ram-below-4g=2G" });
    }
    if (bytes < 2 ** 20 || bytes % 4096 !== 0) {
      throw new Refusal(`Only ${bytes} bytes of RAM below the 4GiB boundary,BIOS may not work with less than 1MiB`, { found: `max-ram-below-4g=${value}`, wouldWork: "max-ram-below-4g=1M or more, in pages of 4 KiB" });
    }
    options.maxRamBelow4g = bytes;
  },
  sata: boolean("sata", (o, v) => (o.sata = v)),
  smbus: boolean("smbus", (o, v) => (o.smbus = v)),
  cxl: onlyOff("cxl", "CXL is not modelled", "cxl=off"),
  ...withoutEffect("bus-lock-ratelimit fd-bootchk i8042 max-fw-size nvdimm-persistence pcspk-audiodev pic pit smbios-entry-point-type spcr wdat"),
};

const SETTERS: Record<BoardKind, Record<string, Setter>> = { virt, q35 };

function checkLength(name: string, value: string, limit: number): string {
  if (value.length > limit) {
    throw new Refusal(`User specified ${name} value is bigger than ${limit} bytes in size`, { found: `${name}=${value}`, wouldWork: `up to ${limit} characters` });
  }
  return value;
}

/** `pc` is told from what nobody has: with an intel-iommu it is refused in QEMU's words. */
const PC = /^(?:pc|pc-i440fx-.+)$/;

function setType(options: MachineOptions, value: string): void {
  const board = BOARD_KINDS.find((kind) => value === boardTraits[kind].alias || value.startsWith(`${boardTraits[kind].prefix}-`));
  const version = board === undefined ? "" : value === boardTraits[board].alias ? VERSIONS.at(-1)! : value.slice(boardTraits[board].prefix.length + 1);
  if (board === undefined || !VERSIONS.includes(version)) {
    const traits = BOARD_KINDS.map((kind) => boardTraits[kind]);
    const near = nearest(value, [...traits.map(({ alias }) => alias), ...traits.flatMap(({ prefix }) => VERSIONS.map((one) => `${prefix}-${one}`))]);
    throw new Refusal(`unsupported machine type: "${value}"`, {
      found: PC.test(value) ? "a machine without PCI Express, which viommu does not have" : near === null ? "a machine that viommu does not have" : `did you mean ${near}?`,
      wouldWork: PC.test(value) ? "q35" : traits.map(({ alias, prefix }) => `${alias}, ${prefix}-${VERSIONS[0]} to ${prefix}-${VERSIONS.at(-1)!}`).join(", "),
    });
  }
  const [major, minor] = version.split(".").map(Number);
  options.board = board;
  options.type = `${boardTraits[board].prefix}-${version}`;
  options.version = [major, minor];
}

/**
 * The machine's type, which decides what the other options of -machine are: taken before them, wherever it stands.
 * @param intelIommu the command line has a -device intel-iommu
 */
export function presetType(options: MachineOptions, parsed: OptionString, intelIommu: boolean): void {
  const type = parsed.values.get("type");
  if (typeof type === "string") {
    if (PC.test(type) && intelIommu) {
      throw new Refusal("Parameter 'driver' expects a dynamic sysbus device type for the machine", {
        found: `-device intel-iommu on -machine ${type}, whose PCI has no place for an IOMMU`,
        wouldWork: "-machine q35",
      });
    }
    setType(options, type);
  }
}

export function setAccelerator(options: MachineOptions, value: string): void {
  // `kvm:tcg` tries one after the other; the first that we stand for counts.
  const names = value.split(":");
  const known = names.find((name) => name === "kvm" || name === "tcg" || name === "qtest");
  if (known === undefined) {
    throw new Refusal(`invalid accelerator ${value}`, {
      found: ["hvf", "xen", "mshv", "whpx", "nitro"].includes(value) ? `${value}: QEMU has it, viommu does not` : `accel=${value}`,
      wouldWork: "kvm, tcg, qtest",
    });
  }
  options.accelerator = known as MachineOptions["accelerator"];
}

export function setKernelIrqchip(options: MachineOptions, value: string): void {
  if (value !== "on" && value !== "off" && value !== "split") {
    throw new Refusal(`Parameter 'kernel-irqchip' does not accept value '${value}'`, { found: `kernel-irqchip=${value}`, wouldWork: "on, off, split" });
  }
  options.kernelIrqchip = value;
}

/** Takes one -machine option into `options`; several add up, as in QEMU. */
export function applyMachineOption(options: MachineOptions, parsed: OptionString, notes: string[]): void {
  for (const [rawKey, rawValue] of parsed.values) {
    const key = rawKey.replaceAll("_", "-");
    const value = scalar(rawKey, rawValue);
    const setters = SETTERS[options.board];
    const setter = Object.hasOwn(setters, key) ? setters[key] : undefined;
    if (setter === undefined) {
      // smp., memory. and boot. are QEMU's long forms of -smp, -m and -boot.
      const near = nearest(key, Object.keys(setters));
      throw new Refusal(`Property '${options.type === "" ? "virt-11.1" : options.type}-machine.${rawKey}' not found`, {
        found: near === null ? `${rawKey}=${value}` : `${rawKey}=${value}; did you mean ${near}?`,
        wouldWork: listed(Object.keys(setters).sort()),
      });
    }
    setter(options, value, notes);
  }
}

function scalar(key: string, value: JsonValue): string {
  if (typeof value === "string" || typeof value === "number") {
    return String(value);
  }
  if (typeof value === "boolean") {
    return value ? "on" : "off";
  }
  throw new Refusal(`Invalid parameter type for '${key}', expected: string`, { found: JSON.stringify(value) });
}

/** `-accel kvm,kernel-irqchip=on`. */
export function applyAccelOption(options: MachineOptions, parsed: OptionString, notes: string[]): void {
  for (const [rawKey, rawValue] of parsed.values) {
    const key = rawKey.replaceAll("_", "-");
    const value = scalar(rawKey, rawValue);
    if (key === "accel") {
      setAccelerator(options, value);
    } else if (key === "kernel-irqchip") {
      setKernelIrqchip(options, value);
    } else if (["tb-size", "thread", "split-wx", "one-insn-per-tb", "dirty-ring-size", "eager-split-size", "kvm-shadow-mem", "honor-guest-pat", "notify-vmexit", "device", "igd-passthru"].includes(key)) {
      notes.push(`-accel ${key}=${value}: it has no effect here`);
    } else {
      throw new Refusal(`Property '${options.accelerator ?? "tcg"}-accel.${rawKey}' not found`, { wouldWork: "kernel-irqchip=on|off|split" });
    }
  }
}

/**
 * The interrupt controller: QEMU takes GICv2 under TCG where nothing is said; under KVM (which an accelerated
 * SMMU needs) the host's, which on servers is a GICv3.
 */
export function resolveGicVersion(options: MachineOptions, hasAcceleratedSmmu: boolean): 2 | 3 | 4 {
  switch (options.gicVersion) {
    case "2":
      return 2;
    case "3":
    case "host":
      return 3;
    case "4":
    case "max":
      return options.gicVersion === "4" ? 4 : 3;
    default:
      return options.accelerator === "kvm" || (options.accelerator === null && hasAcceleratedSmmu) ? 3 : 2;
  }
}

/** Who takes MSIs. @throws Refusal in QEMU's words */
export function resolveMsiController(options: MachineOptions, gicVersion: 2 | 3 | 4): MsiController {
  if (options.msi === "its" && (gicVersion === 2 || !options.its)) {
    throw new Refusal("GICv2 + ITS is an invalid configuration.", {
      found: `msi=its with gic-version=${gicVersion}, its=${options.its ? "on" : "off"}`,
      wouldWork: "gic-version=3,its=on, or msi=gicv2m",
    });
  }
  switch (options.msi) {
    case "off":
      return "none";
    case "gicv2m":
      return "gicv2m";
    case "its":
      return "its";
    case "auto":
      return gicVersion === 2 ? "gicv2m" : options.its ? "its" : "none";
  }
}
