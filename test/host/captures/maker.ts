/** Makes trees such as sysfs, procfs and /dev of a host are, as `viommu host --capture` would copy them. */
import { KERNEL_OPTIONS, NOTES, type NodeState, type ReadHwInfo, Snapshot } from "../../../src/host/sysfs/index.js";

const GIB = 2 ** 30;

export interface Bar {
  readonly index: number;
  readonly size: number;
  readonly is64?: boolean;
  readonly prefetchable?: boolean;
  readonly io?: boolean;
}

export interface Fn {
  readonly vendor: number;
  readonly device: number;
  readonly class: number;
  readonly driver?: string;
  readonly iommu?: string;
  readonly group?: number;
  readonly node?: number;
  readonly bars?: readonly Bar[];
  /** Bytes of configuration space that may be read: 64 or 4096. */
  readonly config?: 64 | 4096;
  readonly msix?: number;
  readonly msi?: number;
  readonly ats?: boolean;
  readonly pri?: boolean;
  readonly pasid?: number;
  /** ACS control of a port; undefined: no such capability. */
  readonly acs?: number;
  readonly reset?: string;
  readonly cdev?: string;
  readonly physfn?: string;
}

/** Device serial number, vital product data and a vendor's own capability: what a capture must not have. */
export const SECRET = "SN-0123456789-00:11:22:33:44:55";

export class HostMaker {
  readonly snapshot = new Snapshot();
  private readonly hwInfo: Record<string, ReadHwInfo> = {};
  private readonly nodes: Record<string, NodeState> = {};
  private readonly groups = new Map<number, { lines: string; type: string }>();

  constructor(
    readonly architecture: "aarch64" | "x86_64",
    release: string,
    private readonly regions: string,
    groupType = "DMA-FQ",
  ) {
    this.snapshot.file("proc/sys/kernel/osrelease", `${release}\n`);
    this.snapshot.file("proc/sys/kernel/arch", `${architecture}\n`);
    this.groupType = groupType;
  }

  private readonly groupType: string;

  /** @param path the function's folder below sys/devices: `pci0009:00/0009:00:00.0/0009:01:00.0` */
  fn(path: string, fn: Fn, regions = this.regions): this {
    const { snapshot } = this;
    const address = path.split("/").pop()!;
    const folder = `sys/devices/${path}`;
    const up = "../".repeat(path.split("/").length);
    const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}\n`;
    snapshot.link(`sys/bus/pci/devices/${address}`, `../../../devices/${path}`);
    snapshot.file(`${folder}/vendor`, hex(fn.vendor, 4));
    snapshot.file(`${folder}/device`, hex(fn.device, 4));
    snapshot.file(`${folder}/class`, hex(fn.class, 6));
    snapshot.file(`${folder}/revision`, "0xa1\n");
    snapshot.file(`${folder}/numa_node`, `${fn.node ?? -1}\n`);
    snapshot.file(`${folder}/resource`, resources(fn.bars ?? []));
    snapshot.file(`${folder}/config`, configOf(fn).subarray(0, fn.config ?? 64));
    if (fn.reset !== undefined) {
      snapshot.file(`${folder}/reset_method`, `${fn.reset}\n`);
    }
    if (fn.driver !== undefined) {
      snapshot.link(`${folder}/driver`, `${up}bus/pci/drivers/${fn.driver}`);
    }
    if (fn.iommu !== undefined) {
      snapshot.link(`${folder}/iommu`, `${up}devices/${this.iommuPath(fn.iommu)}`);
    }
    if (fn.physfn !== undefined) {
      snapshot.link(`${folder}/physfn`, `../${fn.physfn}`);
    }
    if (fn.group !== undefined) {
      const group = `sys/kernel/iommu_groups/${fn.group}`;
      snapshot.link(`${folder}/iommu_group`, `${up}kernel/iommu_groups/${fn.group}`);
      snapshot.link(`${group}/devices/${address}`, `../../../../devices/${path}`);
      const known = this.groups.get(fn.group);
      this.groups.set(fn.group, { type: this.groupType, lines: known === undefined || regions.length > known.lines.length ? regions : known.lines });
    }
    if (fn.cdev !== undefined) {
      snapshot.folder(`${folder}/vfio-dev/${fn.cdev}`);
      this.nodes[`dev/vfio/devices/${fn.cdev}`] = "usable";
    }
    return this;
  }

  /** An SMMUv3 of the platform; `node` is its device's. */
  smmu(base: number, index: number, node: number): string {
    const name = `smmu3.0x${base.toString(16).padStart(16, "0")}`;
    this.iommus.set(name, `platform/arm-smmu-v3.${index}.auto/iommu/${name}`);
    this.snapshot.link(`sys/class/iommu/${name}`, `../../devices/${this.iommuPath(name)}`);
    this.snapshot.folder(`sys/devices/${this.iommuPath(name)}`);
    this.snapshot.file(`sys/devices/platform/arm-smmu-v3.${index}.auto/numa_node`, `${node}\n`);
    return name;
  }

  dmar(index: number, base: number, cap: string, ecap: string): string {
    const name = `dmar${index}`;
    this.iommus.set(name, `virtual/iommu/${name}`);
    this.snapshot.link(`sys/class/iommu/${name}`, `../../devices/virtual/iommu/${name}`);
    for (const [file, text] of [["address", base.toString(16)], ["cap", cap], ["ecap", ecap], ["version", "6:0"]] as const) {
      this.snapshot.file(`sys/devices/virtual/iommu/${name}/intel-iommu/${file}`, `${text}\n`);
    }
    return name;
  }

  /** An AMD unit, which is the PCI function at `path`. */
  ivhd(index: number, path: string): string {
    const name = `ivhd${index}`;
    this.iommus.set(name, `${path}/iommu/${name}`);
    this.snapshot.link(`sys/class/iommu/${name}`, `../../devices/${path}/iommu/${name}`);
    this.snapshot.file(`sys/devices/${path}/iommu/${name}/amd-iommu/cap`, "40190b0f\n");
    this.snapshot.file(`sys/devices/${path}/iommu/${name}/amd-iommu/features`, "246577efa2254afa:10\n");
    return name;
  }

  /** What IOMMU_GET_HW_INFO tells of an SMMUv3 by a function behind it. */
  registers(address: string, idr: readonly number[], { iidr = 0, aidr = 0, flags = 0, pasid = 0, capabilities = 0 } = {}): this {
    const words = Uint32Array.of(flags, 0, ...idr, iidr, aidr);
    this.hwInfo[address] = { type: 2, data: Buffer.from(words.buffer).toString("hex"), maxPasidLog2: pasid, capabilities };
    return this;
  }

  /** NUMA nodes: processors, GiB of memory from a GiB on, and the rows of distances. */
  numa(nodes: ReadonlyArray<{ readonly id: number; readonly cpus: string; readonly gib: number; readonly from: number; readonly distance: string }>, blockMib = 128): this {
    this.snapshot.file("sys/devices/system/memory/block_size_bytes", `${(blockMib * 2 ** 20).toString(16)}\n`);
    for (const { id, cpus, gib, from, distance } of nodes) {
      const folder = `sys/devices/system/node/node${id}`;
      this.snapshot.file(`${folder}/cpulist`, `${cpus}\n`);
      this.snapshot.file(`${folder}/distance`, `${distance}\n`);
      this.snapshot.file(`${folder}/meminfo`, `Node ${id} MemTotal:       ${gib * 2 ** 20} kB\nNode ${id} MemFree:        ${gib * 2 ** 19} kB\n`);
      for (let n = 0; n < (gib * 1024) / blockMib; n++) {
        const block = (from * 1024) / blockMib + n;
        this.snapshot.link(`${folder}/memory${block}`, `../../memory/memory${block}`);
      }
    }
    return this;
  }

  hugepages(node: number, kib: number, total: number, free: number): this {
    const folder = `sys/devices/system/node/node${node}/hugepages/hugepages-${kib}kB`;
    this.snapshot.file(`${folder}/nr_hugepages`, `${total}\n`);
    this.snapshot.file(`${folder}/free_hugepages`, `${free}\n`);
    return this;
  }

  /** Options that are set; all others of those that are copied are not. */
  kernel(options: Readonly<Record<string, string>>, commandLine: string): this {
    this.snapshot.file("proc/config", KERNEL_OPTIONS.map((name) => (name in options ? `${name}=${options[name]}\n` : `# ${name} is not set\n`)).join(""));
    this.snapshot.file("proc/cmdline", `${commandLine}\n`);
    return this;
  }

  node(path: string, state: NodeState): this {
    this.nodes[path] = state;
    return this;
  }

  proc(name: string, text: string): this {
    this.snapshot.file(`proc/${name}`, text);
    return this;
  }

  memlock(bytes: number | "unlimited", capabilities = "0000000000000000"): this {
    this.proc("self/limits", `Max locked memory         ${String(bytes).padEnd(20)} ${String(bytes).padEnd(20)} bytes\n`);
    return this.proc("self/status", `CapEff:\t${capabilities}\n`);
  }

  made(): Snapshot {
    for (const [group, { lines, type }] of this.groups) {
      this.snapshot.file(`sys/kernel/iommu_groups/${group}/reserved_regions`, lines);
      this.snapshot.file(`sys/kernel/iommu_groups/${group}/type`, `${type}\n`);
    }
    this.snapshot.file(NOTES, `${JSON.stringify({ capture: 1, architecture: this.architecture === "aarch64" ? "arm64" : "x64", nodes: this.nodes, hwInfo: this.hwInfo })}\n`);
    return this.snapshot;
  }

  private readonly iommus = new Map<string, string>();

  private iommuPath(name: string): string {
    return this.iommus.get(name)!;
  }
}

/** Lines of first address, last address and flags, of which the first six are BARs. */
function resources(bars: readonly Bar[]): string {
  const lines: string[] = [];
  let next = 0x100_0000_0000n;
  for (let index = 0; index < 7; index++) {
    const bar = bars.find((one) => one.index === index);
    if (bar === undefined) {
      lines.push([0n, 0n, 0n].map(hex16).join(" "));
      continue;
    }
    const size = BigInt(bar.size);
    const first = bar.io === true ? 0x1000n : ((next + size - 1n) / size) * size;
    next = first + size;
    const flags = bar.io === true ? 0x40101n : 0x4_0200n | (bar.is64 === false ? 0n : 0x10_0004n) | (bar.prefetchable === true ? 0x2008n : 0n);
    lines.push([first, first + size - 1n, flags].map(hex16).join(" "));
  }
  return `${lines.join("\n")}\n`;
}

const hex16 = (value: bigint): string => `0x${value.toString(16).padStart(16, "0")}`;

/** A configuration space with the capabilities of a function, and with what a capture must not have. */
function configOf(fn: Fn): Uint8Array {
  const space = new Uint8Array(4096);
  const view = new DataView(space.buffer);
  const isPort = fn.class >>> 8 === 0x0604;
  view.setUint16(0, fn.vendor, true);
  view.setUint16(2, fn.device, true);
  view.setUint16(6, 0x10, true);
  view.setUint32(8, (fn.class << 8) | 0xa1, true);
  space[0x0e] = isPort ? 1 : 0;
  let last = 0x34;
  const put = (id: number, offset: number): void => {
    space[last] = offset;
    space[offset] = id;
    last = offset + 1;
  };
  put(0x01, 0x40);
  if (fn.msi !== undefined) {
    put(0x05, 0x50);
    view.setUint16(0x52, 0x80 | (Math.log2(fn.msi) << 1), true);
  }
  put(0x10, 0x70);
  if (fn.msix !== undefined) {
    put(0x11, 0xb0);
    view.setUint16(0xb2, fn.msix - 1, true);
  }
  put(0x03, 0xc0);
  space.set(Buffer.from(SECRET.slice(0, 6)), 0xc2);
  put(0x09, 0xd0);
  space.set(Buffer.from(SECRET), 0xd3);
  let at = 0x100;
  let before = 0;
  const extend = (id: number, bytes: number, fill: (offset: number) => void = () => {}): void => {
    if (before !== 0) {
      view.setUint32(before, view.getUint32(before, true) | (at << 20), true);
    }
    view.setUint32(at, id | 0x1_0000, true);
    fill(at);
    before = at;
    at += bytes;
  };
  extend(0x03, 12, (offset) => space.set(Buffer.from(SECRET.slice(3, 11)), offset + 4));
  if (fn.acs !== undefined) {
    extend(0x0d, 8, (offset) => view.setUint16(offset + 6, fn.acs!, true));
  }
  if (fn.ats === true) {
    extend(0x0f, 8);
  }
  if (fn.pri === true) {
    extend(0x13, 16);
  }
  if (fn.pasid !== undefined) {
    extend(0x1b, 8, (offset) => view.setUint16(offset + 4, 6 | (fn.pasid! << 8), true));
  }
  extend(0x0b, 48, (offset) => space.set(Buffer.from(SECRET), offset + 8));
  return space;
}

/** A root port with ACS on (0x1d) or another control. */
export function port(vendor: number, device: number, more: Partial<Fn> = {}): Fn {
  return { vendor, device, class: 0x060400, driver: "pcieport", config: 4096, acs: 0x1d, ...more };
}

export const MEBI = 2 ** 20;
export const GIBI = GIB;
