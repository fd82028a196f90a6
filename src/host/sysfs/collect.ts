/** Reading a host into a snapshot: what copied.ts lists, and no more. What cannot be read is not there. */
import { gunzipSync } from "node:zlib";
import { blanked } from "./config-space.js";
import { FUNCTION_FILES, FUNCTION_LINKS, GROUP_FILES, HUGEPAGE_FILES, IOMMU_FILES, IORT_FILE, NODE_FILES, PROC_FILES, wantedOf, wantedOptions } from "./copied.js";
import { Snapshot } from "./snapshot.js";
import type { FileSource, NodeState } from "./source.js";

/** Bytes of a file of sysfs or procfs at the most. */
const MOST_FILE = 65536;
/** Of a kernel's configuration, and of the first part of /proc/cpuinfo. */
const MOST_CONFIG = 4 * 2 ** 20;
/** Names that are looked at in one folder. */
const MOST_NAMES = 65536;

/** Where the snapshot has what is not a file of the host. */
export const NOTES = "viommu/capture.json";

/** What IOMMU_GET_HW_INFO answered for a function. */
export interface ReadHwInfo {
  readonly type: number;
  /** Hexadecimal digits of the structure. */
  readonly data: string;
  readonly maxPasidLog2: number;
  readonly capabilities: number;
}

/** What a capture knows beside files. */
export interface Notes {
  /** Node.js's name of the architecture of its processors: arm64, x64. */
  readonly architecture: string | null;
  /** Device nodes, by path without the first slash. */
  readonly nodes: Readonly<Record<string, NodeState>>;
  /** By function. */
  readonly hwInfo: Readonly<Record<string, ReadHwInfo>>;
}

const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/**
 * Reads a host.
 *
 * @param architecture of its processors, where it is known
 * @param hwInfo asks a function's IOMMU; null: it cannot be asked
 */
export function collect(source: FileSource, architecture: string | null, hwInfo: (address: string) => ReadHwInfo | null = () => null): Snapshot {
  const to = new Snapshot();
  const reader = new Reader(source, to);
  reader.functions();
  reader.iommus();
  reader.groups();
  reader.memory();
  reader.kernel();
  const nodes = reader.nodes();
  const infos: Record<string, ReadHwInfo> = {};
  for (const address of to.names("sys/bus/pci/devices")) {
    const info = to.names(`sys/bus/pci/devices/${address}/vfio-dev`).length > 0 ? hwInfo(address) : null;
    if (info !== null) {
      infos[address] = info;
    }
  }
  const kept = source.read(NOTES, MOST_CONFIG);
  to.file(NOTES, kept ?? `${JSON.stringify({ capture: 1, architecture, nodes, hwInfo: infos }, null, 1)}\n`);
  return to;
}

class Reader {
  constructor(
    private readonly source: FileSource,
    private readonly to: Snapshot,
  ) {}

  functions(): void {
    const all = "sys/bus/pci/devices";
    for (const address of this.names(all).filter((name) => ADDRESS.test(name))) {
      const folder = this.follow(`${all}/${address}`);
      this.files(folder, FUNCTION_FILES);
      FUNCTION_LINKS.forEach((name) => this.link(`${folder}/${name}`));
      const config = this.source.read(`${folder}/config`, 4096);
      if (config !== null) {
        this.to.file(`${folder}/config`, blanked(config));
      }
      this.source.names(`${folder}/vfio-dev`).forEach((name) => this.to.folder(`${folder}/vfio-dev/${name}`));
      // A bridge above has its own place on the bus, and its path is this one's beginning.
    }
  }

  iommus(): void {
    for (const name of this.names("sys/class/iommu")) {
      const folder = this.follow(`sys/class/iommu/${name}`);
      this.files(folder, IOMMU_FILES);
      // A platform device, or the PCI function that an AMD unit is, has it two folders above.
      this.files(folder.replace(/\/iommu\/[^/]*$/, ""), ["numa_node"]);
    }
    const iort = this.source.read(IORT_FILE, MOST_FILE);
    if (iort !== null) {
      this.to.file(IORT_FILE, iort);
    }
  }

  groups(): void {
    const all = "sys/kernel/iommu_groups";
    for (const group of this.names(all).filter((name) => /^\d+$/.test(name))) {
      this.files(`${all}/${group}`, GROUP_FILES);
      this.names(`${all}/${group}/devices`).forEach((name) => this.link(`${all}/${group}/devices/${name}`));
    }
  }

  memory(): void {
    this.files("sys/devices/system/memory", ["block_size_bytes"]);
    const nodes = "sys/devices/system/node";
    for (const node of this.names(nodes).filter((name) => /^node\d+$/.test(name))) {
      this.files(`${nodes}/${node}`, NODE_FILES);
      this.names(`${nodes}/${node}`)
        .filter((name) => /^memory\d+$/.test(name))
        .forEach((name) => this.link(`${nodes}/${node}/${name}`));
      this.hugepages(`${nodes}/${node}/hugepages`);
    }
    this.hugepages("sys/kernel/mm/hugepages");
  }

  kernel(): void {
    for (const [name, wanted, separator] of PROC_FILES) {
      const data = this.source.read(`proc/${name}`, name === "cpuinfo" ? MOST_FILE : MOST_CONFIG);
      if (data !== null) {
        this.to.file(`proc/${name}`, wantedOf(Buffer.from(data).toString("latin1"), wanted, separator));
      }
    }
    const config = this.config();
    if (config !== null) {
      this.to.file("proc/config", wantedOptions(config));
    }
    const release = this.to.text("proc/sys/kernel/osrelease");
    const drivers = `lib/modules/${release ?? ""}/kernel/drivers/iommu/iommufd`;
    if (release !== null && !release.includes("/") && this.source.names(drivers).length > 0) {
      this.to.folder(drivers);
    }
  }

  /** What the user may do with the nodes of devices. */
  nodes(): Record<string, NodeState> {
    const paths = ["dev/iommu", "dev/kvm", ...this.source.names("dev/vfio/devices").map((name) => `dev/vfio/devices/${name}`)];
    return Object.fromEntries(paths.map((path) => [path, this.source.node(path)]));
  }

  /** The kernel's configuration, from where there is one. */
  private config(): string | null {
    const release = this.to.text("proc/sys/kernel/osrelease") ?? "";
    const packed = this.source.read("proc/config.gz", MOST_CONFIG);
    if (packed !== null) {
      try {
        return gunzipSync(packed, { maxOutputLength: MOST_CONFIG }).toString("latin1");
      } catch {
        // Not what its name says: there are others.
      }
    }
    const plain = ["proc/config", ...(/^[^/]+$/.test(release) ? [`boot/config-${release}`, `lib/modules/${release}/config`] : [])];
    for (const path of plain) {
      const data = this.source.read(path, MOST_CONFIG);
      if (data !== null) {
        return Buffer.from(data).toString("latin1");
      }
    }
    return null;
  }

  private hugepages(folder: string): void {
    for (const size of this.names(folder).filter((name) => /^hugepages-\d+kB$/.test(name))) {
      this.files(`${folder}/${size}`, HUGEPAGE_FILES);
    }
  }

  private names(path: string): string[] {
    return this.source.names(path).slice(0, MOST_NAMES);
  }

  private files(folder: string, files: readonly string[]): void {
    for (const name of files) {
      const data = this.source.read(`${folder}/${name}`, MOST_FILE);
      if (data !== null) {
        this.to.file(`${folder}/${name}`, data);
      }
    }
  }

  private link(path: string): void {
    const target = this.source.readlink(path);
    if (target !== null) {
      this.to.link(path, target);
    }
  }

  /** Takes a link, and tells where the folder is that it leads to; a folder that is no link is where it is. */
  private follow(path: string): string {
    const target = this.source.readlink(path);
    if (target === null) {
      this.to.folder(path);
      return path;
    }
    this.to.link(path, target);
    const parts = target.startsWith("/") ? [] : path.split("/").slice(0, -1);
    for (const part of target.split("/")) {
      if (part === "..") {
        parts.pop();
      } else if (part !== "" && part !== ".") {
        parts.push(part);
      }
    }
    this.to.folder(parts.join("/"));
    return parts.join("/");
  }
}

/** What a snapshot knows beside files; nothing where it is no capture of ours, or its notes are none. */
export function notesOf(snapshot: Snapshot): Notes {
  const none: Notes = { architecture: null, nodes: {}, hwInfo: {} };
  try {
    const read = JSON.parse(snapshot.text(NOTES) ?? "{}") as Partial<Record<keyof Notes, unknown>> | null;
    const record = (value: unknown): Record<string, unknown> => (typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {});
    const states: readonly unknown[] = ["usable", "forbidden", "absent", "unknown"];
    const isInfo = (value: unknown): value is ReadHwInfo => {
      const info = record(value);
      return typeof info.data === "string" && /^(?:[0-9a-f]{2}){0,512}$/.test(info.data) && [info.type, info.maxPasidLog2, info.capabilities].every((one) => typeof one === "number" && Number.isInteger(one));
    };
    return {
      architecture: typeof read?.architecture === "string" ? read.architecture : null,
      nodes: Object.fromEntries(Object.entries(record(read?.nodes)).filter((entry): entry is [string, NodeState] => states.includes(entry[1]))),
      hwInfo: Object.fromEntries(Object.entries(record(read?.hwInfo)).filter((entry): entry is [string, ReadHwInfo] => isInfo(entry[1]))),
    };
  } catch {
    return none;
  }
}
