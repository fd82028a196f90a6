/** Where a host's files are read from: this machine, or a folder that is a copy of one. */
import { accessSync, closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, readSync, realpathSync } from "node:fs";
import { join, sep } from "node:path";

/** Whether the user may read and write a device's node. */
export type NodeState = "usable" | "forbidden" | "absent" | "unknown";

export interface FileSource {
  /** Names in a folder; none where there is none. */
  names(path: string): string[];
  /** The first `most` bytes of a file; null: it cannot be read. */
  read(path: string, most: number): Uint8Array | null;
  /** A link's text; null: it is none. */
  readlink(path: string): string | null;
  node(path: string): NodeState;
}

/** Where sysfs and the devices are; others for tests. */
export interface Places {
  readonly sys: string;
  readonly dev: string;
  readonly proc: string;
  readonly boot?: string;
  readonly lib?: string;
}

export const PLACES: Places = { sys: "/sys", dev: "/dev", proc: "/proc", boot: "/boot", lib: "/lib" };

/** This machine, whose links are the kernel's. */
export class MachineSource implements FileSource {
  constructor(private readonly places: Places = PLACES) {}

  names(path: string): string[] {
    const place = this.place(path);
    return place === null ? [] : namesIn(place);
  }

  read(path: string, most: number): Uint8Array | null {
    const place = this.place(path);
    return place === null ? null : readStart(place, most);
  }

  readlink(path: string): string | null {
    const place = this.place(path);
    return place === null ? null : linkText(place);
  }

  node(path: string): NodeState {
    const place = this.place(path);
    if (place === null) {
      return "unknown";
    }
    try {
      accessSync(place, constants.R_OK | constants.W_OK);
      return "usable";
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "ENOENT" ? "absent" : "forbidden";
    }
  }

  private place(path: string): string | null {
    const [top, ...rest] = path.split("/");
    const root = this.places[top as keyof Places];
    return root === undefined ? null : join(root, ...rest);
  }
}

/** A folder with a copy, which may be anybody's: nothing is read that is outside of it, and no device. */
export class FolderSource implements FileSource {
  private readonly root: string;
  private readonly inside = new Map<string, boolean>();

  constructor(folder: string) {
    this.root = realpathSync(folder);
  }

  names(path: string): string[] {
    return this.holds(path) ? namesIn(join(this.root, path)) : [];
  }

  read(path: string, most: number): Uint8Array | null {
    const place = join(this.root, path);
    try {
      return this.holds(path.slice(0, Math.max(0, path.lastIndexOf("/")))) && lstatSync(place).isFile() ? readStart(place, most) : null;
    } catch {
      return null;
    }
  }

  readlink(path: string): string | null {
    return this.holds(path.slice(0, Math.max(0, path.lastIndexOf("/")))) ? linkText(join(this.root, path)) : null;
  }

  node(): NodeState {
    return "unknown";
  }

  /** Whether a folder is in the copy, links followed. */
  private holds(folder: string): boolean {
    let known = this.inside.get(folder);
    if (known === undefined) {
      try {
        const real = realpathSync(join(this.root, folder));
        known = real === this.root || real.startsWith(`${this.root}${sep}`);
      } catch {
        known = false;
      }
      this.inside.set(folder, known);
    }
    return known;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function linkText(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function readStart(path: string, most: number): Uint8Array | null {
  let fd: number | null = null;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const buffer = Buffer.alloc(Math.min(most, 65536));
    const parts: Buffer[] = [];
    for (let total = 0; total < most; ) {
      const count = readSync(fd, buffer, 0, Math.min(buffer.length, most - total), null);
      if (count === 0) {
        break;
      }
      parts.push(Buffer.from(buffer.subarray(0, count)));
      total += count;
    }
    return Buffer.concat(parts);
  } catch {
    return null;
  } finally {
    if (fd !== null) {
      closeSync(fd);
    }
  }
}
