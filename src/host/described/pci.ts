/** PCI functions, ports and what lies between them, out of a snapshot of sysfs. */
import type { BarDescription, FunctionDescription, PortDescription, ReservedDescription } from "../simulated/file/index.js";
import { ENGINE_BAR_BYTES, PCI_ADDRESS } from "../simulated/names/index.js";
import { capabilitiesOf, type Snapshot, word } from "../sysfs/index.js";
import { nameOf } from "./names.js";

const DEVICES = "sys/bus/pci/devices";

/** Flags of a resource (Linux include/linux/ioport.h). */
const RESOURCE_MEMORY = 0x200n;
const RESOURCE_PREFETCH = 0x2000n;
const RESOURCE_64 = 0x10_0000n;

const CAP_MSI = 0x05;
const CAP_MSIX = 0x11;
const EXT_ACS = 0x0d;
const EXT_ATS = 0x0f;
const EXT_PRI = 0x13;
const EXT_PASID = 0x1b;
/** Source validation, request and completion redirect, upstream forwarding (Linux REQ_ACS_FLAGS; PCIe 7.7.11.3). */
const ACS_ISOLATES = 0x1d;
/** Header type of a bridge (PCIe 7.5.1.1.9). */
const HEADER_BRIDGE = 1;
const CLASS_BRIDGES: ReadonlySet<number> = new Set([0x0604, 0x0609]);

/** What reads of a function that does not answer give (PCIe 2.3.2). */
const NOBODY = 0xffff;

const RESERVED_TYPES = ["direct", "direct-relaxable", "reserved", "msi"] as const;
/** NUMA nodes are below (Linux MAX_NUMNODES at its largest). */
const MOST_NODES = 4096;
/** Addresses beyond are no JavaScript numbers, and of no use to a guest. */
const MOST_ADDRESS = BigInt(Number.MAX_SAFE_INTEGER);

/** What a function of sysfs has that a host file has not. */
export interface FunctionNotes {
  /** The name of its VFIO character device below /dev: `vfio/devices/vfio0`; null: none. */
  readonly characterDevice: string | null;
  /** The driver that an administrator wants for it; null: none in particular. */
  readonly driverOverride: string | null;
  /** It is a virtual function of this one; null: of none. */
  readonly physicalFunction: string | null;
  /** The kernel's name of its IOMMU; null: none. */
  readonly iommu: string | null;
}

export interface ReadFunction {
  readonly description: Omit<FunctionDescription, "smmu" | "vtd" | "amd">;
  readonly notes: FunctionNotes;
}

export interface ReadPci {
  readonly functions: readonly ReadFunction[];
  readonly ports: readonly PortDescription[];
  /** Addresses that a host file cannot have: of domains beyond 16 bits (Intel VMD). */
  readonly beyond: readonly string[];
}

export function readPci(snapshot: Snapshot): ReadPci {
  const functions: ReadFunction[] = [];
  const ports: PortDescription[] = [];
  const beyond: string[] = [];
  const reserved = new Map<number, ReservedDescription[] | null>();
  for (const address of snapshot.names(DEVICES)) {
    if (!PCI_ADDRESS.test(address)) {
      if (/^[0-9a-f]{5,8}:/.test(address)) {
        beyond.push(address);
      }
      continue;
    }
    const fn = new FunctionFiles(snapshot, address);
    if (fn.isBridge) {
      ports.push(fn.port());
    } else {
      const group = fn.group;
      if (group !== null && !reserved.has(group)) {
        reserved.set(group, readReserved(snapshot, group));
      }
      functions.push(fn.function(group === null ? null : reserved.get(group)!));
    }
  }
  return { functions, ports, beyond };
}

class FunctionFiles {
  private readonly folder: string;
  private readonly config: Uint8Array;
  readonly classCode: number;

  constructor(
    private readonly snapshot: Snapshot,
    private readonly address: string,
  ) {
    this.folder = `${DEVICES}/${address}`;
    this.config = snapshot.bytes(`${this.folder}/config`) ?? new Uint8Array(0);
    this.classCode = (this.number("class") ?? 0) & 0xff_ffff;
  }

  get isBridge(): boolean {
    return CLASS_BRIDGES.has(this.classCode >>> 8) || (this.config.length > 0x0e && (this.config[0x0e] & 0x7f) === HEADER_BRIDGE);
  }

  get group(): number | null {
    const name = this.snapshot.targetName(`${this.folder}/iommu_group`);
    return name !== null && /^\d{1,9}$/.test(name) ? Number(name) : null;
  }

  port(): PortDescription {
    const [vendor, device] = [this.id("vendor"), this.id("device")];
    const acs = this.extended(EXT_ACS);
    return {
      address: this.address,
      name: vendor === null || device === null ? "" : nameOf(vendor, device, this.classCode),
      vendor,
      device,
      parent: this.upstream().at(-1) ?? null,
      // A port without the capability keeps nobody apart.
      acs: acs === undefined ? null : acs === null ? false : (word(this.config, acs + 4) >>> 16 & ACS_ISOLATES) === ACS_ISOLATES,
      group: this.group,
      numaNode: this.numaNode,
    };
  }

  function(reserved: ReservedDescription[] | null): ReadFunction {
    const bars = this.bars();
    const upstream = this.upstream();
    const hasEngine = bars.some(({ index, size }) => index === 0 && size >= ENGINE_BAR_BYTES) && bars.every(({ size }) => size >= 4096);
    const [ats, pri, pasid] = [this.extended(EXT_ATS), this.extended(EXT_PRI), this.extended(EXT_PASID)];
    const msix = this.msixVectors();
    const has = (offset: number | null | undefined): boolean | null => (offset === undefined ? null : offset !== null);
    const reset = this.snapshot.text(`${this.folder}/reset_method`);
    return {
      description: {
        address: this.address,
        name: nameOf(this.id("vendor") ?? NOBODY, this.id("device") ?? NOBODY, this.classCode),
        vendor: this.id("vendor") ?? NOBODY,
        device: this.id("device") ?? NOBODY,
        class: this.classCode,
        revision: (this.number("revision") ?? 0) & 0xff,
        numaNode: this.numaNode,
        ats: has(ats),
        pri: has(pri),
        pasidBits: pasid === undefined ? null : pasid === null ? 0 : Math.min(20, (word(this.config, pasid + 4) >>> 8) & 0x1f),
        bars,
        noSoftReset: true,
        msiVectors: this.msiVectors(),
        msixVectors: msix,
        model: hasEngine && (msix ?? 0) <= 512 ? "engine" : "inert",
        blockSize: 512,
        driver: this.snapshot.targetName(`${this.folder}/driver`) ?? "",
        group: this.group,
        reserved,
        rootPort: upstream[0] ?? null,
        upstream,
        reset: reset === null ? null : reset.split(/\s+/).filter((method) => method !== ""),
      },
      notes: {
        characterDevice: this.characterDevice(),
        driverOverride: this.driverOverride(),
        physicalFunction: this.snapshot.targetName(`${this.folder}/physfn`),
        iommu: this.snapshot.targetName(`${this.folder}/iommu`),
      },
    };
  }

  private get numaNode(): number {
    const node = this.number("numa_node") ?? -1;
    return Number.isInteger(node) && node >= 0 && node < MOST_NODES ? node : -1;
  }

  private characterDevice(): string | null {
    const [name] = this.snapshot.names(`${this.folder}/vfio-dev`);
    return name === undefined ? null : `vfio/devices/${name}`;
  }

  /** `(null)` where there is none. */
  private driverOverride(): string | null {
    const text = this.snapshot.text(`${this.folder}/driver_override`);
    return text === null || !/^[\w-]{1,64}$/.test(text) ? null : text;
  }

  /** The ports above, from the root bus on: a function's folder lies in those of its ports. */
  private upstream(): string[] {
    return (this.snapshot.real(this.folder) ?? "").split("/").filter((part) => PCI_ADDRESS.test(part) && part !== this.address);
  }

  /** Memory BARs (resource: first address, last address, flags, a line for each of six registers). */
  private bars(): BarDescription[] {
    const lines = (this.snapshot.text(`${this.folder}/resource`) ?? "").split("\n").slice(0, 6);
    return lines.flatMap((line, index) => {
      const [first, last, flags] = line.split(/\s+/).map((word) => (/^0x[0-9a-f]{1,16}$/i.test(word) ? BigInt(word) : null));
      if (first === undefined || last === undefined || flags === undefined || first === null || last === null || flags === null || (flags & RESOURCE_MEMORY) === 0n || last <= first) {
        return [];
      }
      const size = last - first + 1n;
      const is64 = (flags & RESOURCE_64) !== 0n;
      const fits = size >= 16n && (size & (size - 1n)) === 0n && size <= (is64 ? 2n ** 52n : 2n ** 31n) && (!is64 || index < 5);
      return fits ? [{ index, size: Number(size), is64, prefetchable: (flags & RESOURCE_PREFETCH) !== 0n }] : [];
    });
  }

  /**
   * Where an extended capability is: null where it is not there, undefined where nobody may read so far. Who may read
   * beyond the first 64 bytes reads all that there is: a space of 256 has none of them.
   */
  private extended(id: number): number | null | undefined {
    if (this.config.length <= 64) {
      return undefined;
    }
    return capabilitiesOf(this.config).find((one) => one.extended && one.id === id)?.offset ?? null;
  }

  /** The same of capabilities within the first 256 bytes, of which everybody reads 64. */
  private plain(id: number): number | null | undefined {
    const found = capabilitiesOf(this.config).find((one) => !one.extended && one.id === id);
    return found?.offset ?? (this.config.length > 64 ? null : undefined);
  }

  private msiVectors(): FunctionDescription["msiVectors"] {
    const at = this.plain(CAP_MSI);
    if (at === undefined || at === null) {
      return at === null ? 0 : null;
    }
    const log = Math.min(5, (this.config[at + 2] >>> 1) & 7);
    return (2 ** log) as FunctionDescription["msiVectors"];
  }

  private msixVectors(): number | null {
    const at = this.plain(CAP_MSIX);
    return at === undefined ? null : at === null ? 0 : (word(this.config, at) >>> 16 & 0x7ff) + 1;
  }

  private id(name: string): number | null {
    const value = this.number(name);
    return value !== null && Number.isInteger(value) && value >= 0 && value <= 0xffff ? value : null;
  }

  private number(name: string): number | null {
    const text = this.snapshot.text(`${this.folder}/${name}`);
    return text === null || text === "" || !Number.isFinite(Number(text)) ? null : Number(text);
  }
}

/** Lines of first address, last address and type. */
function readReserved(snapshot: Snapshot, group: number): ReservedDescription[] | null {
  const text = snapshot.text(`sys/kernel/iommu_groups/${group}/reserved_regions`);
  if (text === null) {
    return null;
  }
  return text.split("\n").flatMap((line) => {
    const match = /^(0x[0-9a-f]{1,16})\s+(0x[0-9a-f]{1,16})\s+(\S+)$/i.exec(line.trim());
    const type = RESERVED_TYPES.find((one) => one === match?.[3]);
    if (match === null || type === undefined) {
      return [];
    }
    const [base, last] = [BigInt(match[1]), BigInt(match[2])];
    const size = last - base + 1n;
    return size > 0n && last <= MOST_ADDRESS ? [{ base: Number(base), size: Number(size), type }] : [];
  });
}
