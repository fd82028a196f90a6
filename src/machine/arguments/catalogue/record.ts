/**
 * Every device type of a QEMU, as devices/qemu-VERSION.json has it (made by tools/record-devices from real programs
 * of both machines). It is read when something is asked of it first: a machine of modelled devices never does.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageFolder } from "../../../support/index.js";
import { BOARD_KINDS, type BoardKind } from "../boards.js";

/** Where a function is, as its configuration space depends on it: on a root bus, in a slot of PCI Express, on conventional PCI. */
export type FunctionPlace = "root" | "port" | "conventional";

/** Configuration space after reset, and the bits of it that can be written. */
export interface RecordedSpace {
  readonly size: 256 | 4096;
  readonly image: Uint8Array;
  readonly mask: Uint8Array;
}

export interface RecordedProperty {
  readonly name: string;
  /** QEMU's type, as device-list-properties tells it. */
  readonly type: string;
  /** Empty: none. */
  readonly default: string;
}

export interface RecordedBus {
  /** `$` stands for the id of the device that makes it. */
  readonly name: string;
  readonly type: string;
}

export interface RecordedDevice {
  readonly name: string;
  /** QEMU's type of the bus that it sits on; null: none. */
  readonly bus: string | null;
  readonly description: string;
  /** QEMU's, as in `-device help`. */
  readonly category: string;
  /** Machines whose QEMU has it. */
  readonly boards: readonly BoardKind[];
  readonly hotpluggable: boolean;
  /** What QEMU says where none of these properties is said; null: it needs none. */
  readonly needs: { readonly words: string; readonly properties: readonly string[] } | null;
  readonly makes: readonly RecordedBus[];
  /** Its configuration space is taken from that type, which has the same: it could not be realized. */
  readonly like: string | null;
  properties(): readonly RecordedProperty[];
  /** A function's configuration space, or QEMU's words where it cannot be there; null: none was recorded. */
  space(board: BoardKind, place: FunctionPlace): RecordedSpace | string | null;
  /** QEMU's words where the machine could not have it; null: it can. */
  refused(board: BoardKind): string | null;
}

interface SpaceText {
  readonly size?: 256 | 4096;
  readonly image?: string;
  readonly mask?: string;
}

interface EntryText {
  readonly bus?: string;
  readonly alias?: string;
  readonly description?: string;
  readonly category: string;
  readonly board?: BoardKind;
  readonly cold?: true;
  readonly needs?: readonly [string, readonly string[]];
  readonly makes?: ReadonlyArray<readonly [string, string]>;
  readonly like?: string;
  readonly refused?: Partial<Record<BoardKind, string>>;
  readonly sets?: readonly string[];
  readonly properties?: readonly number[];
  readonly space?: Required<SpaceText> & Partial<Record<FunctionPlace, SpaceText | string>>;
  readonly "space-q35"?: EntryText["space"];
}

interface FileText {
  readonly qemu: string;
  readonly buses: Readonly<Record<BoardKind, ReadonlyArray<readonly [string, string]>>>;
  readonly properties: readonly string[];
  readonly sets: Readonly<Record<string, readonly number[]>>;
  readonly cpus: Readonly<Record<BoardKind, readonly string[]>>;
  readonly fixed: readonly string[];
  readonly devices: Readonly<Record<string, EntryText>>;
}

/** The version whose devices are known. */
export const CATALOGUE_VERSION = "11.1";

export class DeviceCatalogue {
  /** Of the QEMU that was asked. */
  readonly version: string;
  /** The present name of each other name. */
  readonly aliases: ReadonlyMap<string, string>;
  /** Types that boards make and -device does not. */
  readonly fixed: ReadonlySet<string>;
  private readonly known = new Map<string, RecordedDevice>();
  private readonly cpus: ReadonlyMap<string, BoardKind>;

  constructor(private readonly file: FileText) {
    this.version = file.qemu;
    this.aliases = new Map(Object.entries(file.devices).flatMap(([name, { alias }]) => (alias === undefined ? [] : [[alias, name] as const])));
    this.fixed = new Set(file.fixed);
    this.cpus = new Map(BOARD_KINDS.flatMap((board) => file.cpus[board].map((name) => [name, board] as const)));
  }

  /** Names of all types, in the order of the alphabet; processors apart. */
  names(): string[] {
    return Object.keys(this.file.devices);
  }

  processors(): string[] {
    return [...this.cpus.keys()];
  }

  /** Null: QEMU has no such type. */
  find(name: string): RecordedDevice | null {
    const found = this.known.get(name) ?? this.processor(name) ?? (Object.hasOwn(this.file.devices, name) ? this.read(name, this.file.devices[name]) : null);
    if (found !== null) {
      this.known.set(name, found);
    }
    return found;
  }

  /** Buses that a board has of itself. */
  busesOf(board: BoardKind): readonly RecordedBus[] {
    return this.file.buses[board].map(([name, type]) => ({ name, type }));
  }

  private processor(name: string): RecordedDevice | null {
    const board = this.cpus.get(name);
    return board === undefined
      ? null
      : {
          name, bus: null, description: "", category: "CPU", boards: [board], hotpluggable: true, needs: null, makes: [], like: null,
          properties: () => [], space: () => null, refused: () => null,
        };
  }

  private read(name: string, entry: EntryText): RecordedDevice {
    return {
      name,
      bus: entry.bus ?? null,
      description: entry.description ?? "",
      category: entry.category,
      boards: entry.board === undefined ? BOARD_KINDS : [entry.board],
      hotpluggable: entry.cold !== true,
      needs: entry.needs === undefined ? null : { words: entry.needs[0], properties: entry.needs[1] },
      makes: (entry.makes ?? []).map(([bus, type]) => ({ name: bus, type })),
      like: entry.like ?? null,
      properties: () => [...(entry.sets ?? []).flatMap((set) => this.file.sets[set]), ...(entry.properties ?? [])].map((n) => readProperty(this.file.properties[n])),
      space: (board, place) => readSpace((board === "q35" ? entry["space-q35"] : undefined) ?? entry.space, place),
      refused: (board) => (entry.board !== undefined && entry.board !== board ? `'${name}' is not a valid device model name` : (entry.refused?.[board] ?? null)),
    };
  }
}

let loaded: DeviceCatalogue | null = null;

export function deviceCatalogue(): DeviceCatalogue {
  loaded ??= new DeviceCatalogue(JSON.parse(readFileSync(join(packageFolder(), "devices", `qemu-${CATALOGUE_VERSION}.json`), "utf8")) as FileText);
  return loaded;
}

/** `name type default`; the default as JSON. */
function readProperty(text: string): RecordedProperty {
  const [name, type, ...rest] = text.split(" ");
  const value = rest.length === 0 ? "" : (JSON.parse(rest.join(" ")) as boolean | number | string);
  return { name, type, default: typeof value === "boolean" ? (value ? "on" : "off") : String(value) };
}

function readSpace(space: EntryText["space"], place: FunctionPlace): RecordedSpace | string | null {
  if (space === undefined) {
    return null;
  }
  const differs = space[place];
  if (typeof differs === "string") {
    return differs;
  }
  const size = differs?.size ?? space.size;
  const bytes = (text: string, more: string | undefined): Uint8Array => {
    const out = new Uint8Array(4096);
    putRuns(out, text);
    putRuns(out, more ?? "");
    return out.slice(0, size);
  };
  return { size, image: bytes(space.image, differs?.image), mask: bytes(space.mask, differs?.mask) };
}

/** `offset:bytes` words, both hexadecimal; `byte*count` among the bytes, between dots, repeats one. */
function putRuns(out: Uint8Array, text: string): void {
  for (const run of text.split(" ").filter((word) => word !== "")) {
    const colon = run.indexOf(":");
    let at = Number.parseInt(run.slice(0, colon), 16);
    for (const piece of run.slice(colon + 1).split(".")) {
      const [hex, count] = piece.split("*");
      const bytes = count === undefined ? Buffer.from(hex, "hex") : Buffer.alloc(Number(count), Number.parseInt(hex, 16));
      out.set(bytes, at);
      at += bytes.length;
    }
  }
}
