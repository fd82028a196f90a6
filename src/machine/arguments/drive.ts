/**
 * -drive and -blockdev: what a disk's bytes are. QEMU's raw files, null-co, and x-memory of ours, which keeps what is
 * written as long as the machine is there. What no nvme uses is noted and not opened.
 */
import { Refusal } from "../../support/index.js";
import { type BoardKind, boardTraits } from "./boards.js";
import { checkId, describeArgument, type JsonValue, located, parseOptionString, scalar } from "./option-string.js";
import { parseBool, parseSize } from "./property.js";

/** What is behind a drive. */
export interface DriveArgument {
  readonly id: string;
  readonly where: string;
  readonly kind: "file" | "null" | "memory";
  /** Of a file. */
  readonly path: string;
  /** Bytes, of the others. */
  readonly size: number;
  readonly readOnly: boolean;
  /** cache=unsafe: flushes do nothing. */
  readonly ignoreFlush: boolean;
  /** The user has said what the file's bytes are; QEMU finds out by itself else. */
  readonly formatSaid: boolean;
  /** What is behind it cannot be read here, and why: an empty disk is in its place; null: it can. */
  readonly standIn: string | null;
  /** An empty disk may be in its place, where the file turns out to be of another format. */
  readonly mayStandIn: boolean;
  /** cache=writethrough and directsync: a write is done when it survives. */
  readonly writeThrough: boolean;
}

type Values = ReadonlyMap<string, JsonValue>;

interface Node {
  readonly id: string;
  readonly where: string;
  readonly values: Values;
  readonly option: "drive" | "blockdev";
}

/** Keys that change nothing here: how the host's kernel is asked, and what is told of errors. */
const HARMLESS =
  /^(?:if|index|bus|unit|media|addr|id|node-name|format|driver|file|filename|size|read-only|readonly|auto-read-only|cache|aio|locking|discard|detect-zeroes|rerror|werror|copy-on-read|aio-max-batch|drop-cache|x-check-cache-dropped|force-share|pr-manager|latency-ns|read-zeroes|snapshot|cache\.(?:direct|no-flush|writeback)|stats-.*|throttling.*|iops.*|bps.*)$/;

/** Formats, protocols and filters that QEMU has and viommu has not (qapi/block-core.json, BlockdevDriver). */
const FOREIGN = new Set(
  (
    "qcow2 qcow qed vmdk vdi vhdx vpc luks parallels cloop dmg bochs vvfat nbd rbd iscsi ssh http https ftp ftps gluster nfs curl host_cdrom nvme io_uring snapshot-access " +
    "nvme-io_uring virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa throttle copy-on-read copy-before-write quorum replication blkdebug blkverify blklogwrites blkreplay compress preallocate"
  ).split(" "),
);

const CACHE_MODES = new Set(["none", "writeback", "writethrough", "unsafe", "directsync", "off"]);
/** Bytes of a disk in the place of one that cannot be read. */
export const STAND_IN_BYTES = 2 ** 30;
/** Of null-co without a size. */
const NULL_BYTES = 2 ** 30;
const WOULD_WORK = "driver=raw over a file, driver=file, driver=null-co, driver=x-memory";

/** Gathers the options; a disk is made of them when something uses it. */
export class Drives {
  private readonly nodes = new Map<string, Node>();
  private readonly unnamed = new Map<string, number>();
  /** Arguments of -device that -drive stands for, in its order: QEMU adds them behind all that are said. */
  readonly functions: string[] = [];
  private snapshot = false;
  private standIns = false;

  /** @returns false where the option is none of these. @throws Refusal */
  take(option: string, value: string, board: BoardKind, notes: string[]): boolean {
    if (option === "drive") {
      this.takeDrive(value, board, notes);
    } else if (option === "blockdev") {
      this.takeNode(value);
    } else {
      this.snapshot ||= option === "snapshot";
      return false;
    }
    return true;
  }

  /**
   * Notes what none of `used` names.
   * @param standIns what cannot be read is an empty disk: nobody boots from it
   */
  finish(used: ReadonlySet<string>, notes: string[], standIns: boolean): void {
    this.standIns = standIns;
    const behind = new Set([...used].flatMap((id) => [id, ...this.below(id)]));
    for (const { id, where } of this.nodes.values()) {
      if (!behind.has(id)) {
        notes.push(`${where}: no backend is opened here`);
      }
    }
  }

  /** Whether there is a drive or node of that id. */
  has(id: string): boolean {
    return this.nodes.has(id);
  }

  /** Ids of drives and nodes, for messages. */
  get ids(): string[] {
    return [...this.nodes.keys()];
  }

  /** What is behind a drive or node. @throws Refusal in QEMU's words */
  resolve(id: string): DriveArgument {
    const node = this.nodes.get(id)!;
    return located(node.where, () => this.describe(node, node.values, {}, new Set([id])));
  }

  private takeDrive(value: string, board: BoardKind, notes: string[]): void {
    const { values, where } = parseOptionString("-drive", value, null);
    const kind = String(values.get("if") ?? boardTraits[board].defaultDrive);
    checkInterface(kind, board, values);
    if (kind === "pflash") {
      notes.push(`${describeArgument("-drive", value)}: no backend is opened here`);
      return;
    }
    // QEMU names those without an id by their interface and number.
    const number = this.unnamed.get(kind) ?? 0;
    const id = checkId(values.get("id")) || `${kind}${number}`;
    this.unnamed.set(kind, values.has("id") ? number : number + 1);
    if (this.nodes.has(id)) {
      throw new Refusal(`Duplicate ID '${id}' for drive`, { found: this.nodes.get(id)!.where, wouldWork: "another id" });
    }
    this.nodes.set(id, { id, where, values, option: "drive" });
    if (kind === "virtio") {
      this.functions.push(`virtio-blk-pci,drive=${id}${values.has("addr") ? `,addr=${String(values.get("addr"))}` : ""}`);
    }
  }

  private takeNode(value: string): void {
    const { values, where } = parseOptionString("-blockdev", value, "driver");
    const id = values.get("node-name");
    if (id === undefined) {
      throw new Refusal("'node-name' must be specified for the root node", { found: where, wouldWork: "-blockdev driver=raw,node-name=NAME,file.driver=file,file.filename=FILE" });
    }
    const name = checkId(id, `Invalid node-name: '${String(id)}'`);
    if (this.nodes.has(name)) {
      throw new Refusal(`Duplicate nodes with node-name='${name}'`, { found: this.nodes.get(name)!.where, wouldWork: "another node-name" });
    }
    this.nodes.set(name, { id: name, where, values: flatten(values), option: "blockdev" });
  }

  /** Nodes that a node is over. */
  private below(id: string): string[] {
    const found: string[] = [];
    for (let next = this.nodes.get(id)?.values.get("file"); typeof next === "string" && this.nodes.has(next) && !found.includes(next); ) {
      found.push(next);
      next = this.nodes.get(next)!.values.get("file");
    }
    return found;
  }

  /** @param above what the nodes over this one have said */
  private describe(node: Node, values: Values, above: Partial<DriveArgument>, seen: Set<string>): DriveArgument {
    const isDrive = node.option === "drive" && values === node.values;
    const text = (key: string): string | undefined => {
      const value = values.get(key);
      return value === undefined ? undefined : String(value);
    };
    const bool = (key: string): boolean | undefined => (text(key) === undefined ? undefined : parseBool(key, scalar(key, values.get(key)!)));
    const driver = isDrive ? (text("format") ?? text("driver") ?? (values.has("file") || values.has("file.filename") ? "raw" : "")) : (text("driver") ?? "");
    const standIn = (reason: string): DriveArgument => ({ id: node.id, where: node.where, kind: "memory", path: "", size: STAND_IN_BYTES, readOnly: false, ignoreFlush: false, writeThrough: false, formatSaid: true, mayStandIn: true, standIn: reason });
    const protocol = isDrive && driver === "raw" ? /^([a-z][a-z0-9+-]*):/.exec(text("file") ?? "")?.[1] : undefined;
    if (this.standIns && (FOREIGN.has(driver) || (protocol !== undefined && protocol !== "file"))) {
      return standIn(protocol === undefined || FOREIGN.has(driver) ? `${isDrive ? "format" : "driver"}=${driver}: images are raw here` : `${protocol}: disks are files here`);
    }
    for (const key of values.keys()) {
      if (!HARMLESS.test(key) && !key.startsWith("file.")) {
        throw new Refusal(isDrive ? `Block format '${text("format") ?? "raw"}' does not support the option '${key}'` : `Parameter '${key}' is unexpected`, { wouldWork: `leaving ${key} out` });
      }
    }
    if (bool("snapshot") === true || (this.snapshot && isDrive)) {
      throw new Refusal("snapshot=on is not possible here", { found: "writes would go to the file itself", wouldWork: "a copy of the file, or readonly=on" });
    }
    const cache = cacheMode(text("cache"));
    const said: Partial<DriveArgument> = {
      readOnly: above.readOnly === true || bool("read-only") === true || bool("readonly") === true,
      ignoreFlush: above.ignoreFlush === true || cache.ignoreFlush || bool("cache.no-flush") === true,
      writeThrough: above.writeThrough === true || cache.writeThrough || bool("cache.writeback") === false,
    };
    const made = (kind: DriveArgument["kind"], path: string, size: number): DriveArgument => ({
      id: node.id,
      where: node.where,
      kind,
      path,
      size,
      readOnly: said.readOnly === true,
      ignoreFlush: said.ignoreFlush === true,
      writeThrough: said.writeThrough === true,
      formatSaid: !isDrive || values.has("format") || values.has("driver"),
      standIn: null,
      mayStandIn: this.standIns,
    });
    switch (driver) {
      case "null-co":
      case "null-aio":
        return made("null", "", text("size") === undefined ? NULL_BYTES : parseSize("size", text("size")!, "", "a size value"));
      case "x-memory":
        if (text("size") === undefined) {
          throw new Refusal("Parameter 'size' is missing", { wouldWork: "driver=x-memory,size=64M" });
        }
        return made("memory", "", parseSize("size", text("size")!, "", "a size value"));
      case "file":
      case "host_device": {
        const path = text("filename");
        if (path === undefined || path === "") {
          throw new Refusal(`Parameter '${values === node.values ? "" : "file."}filename' is missing`, { wouldWork: "filename=FILE" });
        }
        return made("file", path, 0);
      }
      case "raw":
        return this.describeRaw(node, values, said, isDrive, made, seen);
      case "":
        throw new Refusal(isDrive ? "could not get blockdev size: No medium found" : "Parameter 'driver' is missing", { wouldWork: isDrive ? "file=FILE,format=raw" : WOULD_WORK });
      default:
        throw new Refusal(isDrive ? `Unknown driver '${driver}'` : `Parameter 'driver' does not accept value '${driver}'`, {
          found: `${isDrive ? "format" : "driver"}=${driver}: images are raw here`,
          wouldWork: `${WOULD_WORK}; qemu-img convert -O raw makes a raw file of an image`,
        });
    }
  }

  private describeRaw(
    node: Node,
    values: Values,
    said: Partial<DriveArgument>,
    isDrive: boolean,
    made: (kind: DriveArgument["kind"], path: string, size: number) => DriveArgument,
    seen: Set<string>,
  ): DriveArgument {
    const file = values.get("file");
    if (values.has("offset") || (!isDrive && values.has("size"))) {
      throw new Refusal("Parameter 'offset' is unexpected", { found: "a part of a file", wouldWork: "the whole file" });
    }
    const nested = new Map([...values].filter(([key]) => key.startsWith("file.")).map(([key, value]) => [key.slice(5), value]));
    if (nested.size > 0) {
      if (!nested.has("driver")) {
        nested.set("driver", "file");
      }
      return this.describe(node, nested, said, seen);
    }
    if (typeof file !== "string" || file === "") {
      throw new Refusal(isDrive ? `A block device must be specified for "file"` : "Parameter 'file' is missing", { wouldWork: isDrive ? "file=FILE" : "file=NODE, or file.driver=file,file.filename=FILE" });
    }
    if (isDrive) {
      if (/^[a-z][a-z0-9+-]*:/.test(file) && !file.startsWith("file:")) {
        throw new Refusal(`Unknown protocol '${file.slice(0, file.indexOf(":"))}'`, { found: `file=${file}`, wouldWork: "a file of this machine" });
      }
      return made("file", file.replace(/^file:/, ""), 0);
    }
    const below = this.nodes.get(file);
    if (below === undefined || seen.has(file)) {
      throw new Refusal(`Cannot find device='${file}' nor node-name='${file}'`, { wouldWork: "-blockdev driver=file,node-name=NAME,filename=FILE before it" });
    }
    return { ...this.describe(below, below.values, said, seen.add(file)), id: node.id, where: node.where };
  }
}

/** QEMU's interfaces, and those that a board has a place for (QEMU 11.1, hw/core/machine.c and drive_check_orphaned). @throws Refusal */
function checkInterface(kind: string, board: BoardKind, values: Values): void {
  const places = board === "q35" ? ["none", "virtio", "ide", "floppy", "pflash"] : ["none", "virtio", "pflash"];
  if (places.includes(kind)) {
    return;
  }
  const wouldWork = `if=${places.join(", if=")}`;
  if (!["scsi", "sd", "mtd", "xen", "ide", "floppy"].includes(kind)) {
    throw new Refusal(`unsupported bus type '${kind}'`, { found: `if=${kind}`, wouldWork });
  }
  const number = Number(values.get("index") ?? values.get("unit") ?? 0);
  throw new Refusal(`machine type does not support if=${kind},bus=0,unit=${number}`, { found: `if=${kind} on ${board}`, wouldWork });
}

/** A node's nested objects as dotted keys, which say the same. */
function flatten(values: Values): Map<string, JsonValue> {
  const flat = new Map<string, JsonValue>();
  const put = (key: string, value: JsonValue, depth: number): void => {
    if (typeof value === "object" && value !== null && !Array.isArray(value) && depth < 8) {
      for (const [inner, its] of Object.entries(value)) {
        put(`${key}.${inner}`, its as JsonValue, depth + 1);
      }
    } else {
      flat.set(key, value);
    }
  };
  values.forEach((value, key) => put(key, value, 0));
  return flat;
}

function cacheMode(mode: string | undefined): { ignoreFlush: boolean; writeThrough: boolean } {
  if (mode !== undefined && !CACHE_MODES.has(mode)) {
    throw new Refusal("invalid cache option", { found: `cache=${mode}`, wouldWork: [...CACHE_MODES].join(", ") });
  }
  return { ignoreFlush: mode === "unsafe", writeThrough: mode === "writethrough" || mode === "directsync" };
}
