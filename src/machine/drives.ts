/** The machine's drives: opened when a device takes one, which has it alone. */
import { type Disk, FileDisk, MemoryDisk, NullDisk } from "../block/index.js";
import type { NvmeDrive } from "../devices/index.js";
import { type Log, Refusal } from "../support/index.js";
import { type DriveArgument, type Drives, STAND_IN_BYTES } from "./arguments/index.js";

export class MachineDrives {
  private readonly taken = new Map<string, string>();
  /** Disks of memory, which keep what is written when their device goes. */
  private readonly kept = new Map<string, MemoryDisk>();

  constructor(
    private readonly drives: Drives,
    private readonly log: Log,
  ) {}

  /** The drive is not there, or another device has it. @param label of the device. @throws Refusal in QEMU's words */
  check(id: string, label: string): void {
    if (!this.drives.has(id)) {
      throw new Refusal(`Property 'nvme.drive' can't find value '${id}'`, {
        found: this.drives.ids.length === 0 ? "no -drive or -blockdev with an id" : `there are ${this.drives.ids.join(", ")}`,
        wouldWork: `-drive file=FILE,format=raw,if=none,id=${id}`,
      });
    }
    const other = this.taken.get(id);
    if (other !== undefined) {
      throw new Refusal(`Drive '${id}' is already in use by another device`, { found: `${other}, and ${label}`, wouldWork: "a drive for each device" });
    }
  }

  /** What is behind a drive that `check` has found. @throws Refusal */
  describe(id: string): DriveArgument {
    return this.drives.resolve(id);
  }

  /** Opens a drive for a device. @throws Refusal */
  take(id: string, label: string): NvmeDrive {
    this.check(id, label);
    const disk = this.open(this.describe(id));
    this.taken.set(id, label);
    return {
      disk,
      release: () => {
        this.taken.delete(id);
        if (!(disk instanceof MemoryDisk)) {
          disk.close();
        }
      },
    };
  }

  private open(argument: DriveArgument): Disk {
    const { id, kind, path, size, readOnly, ignoreFlush, standIn } = argument;
    if (standIn !== null) {
      return this.standIn(argument, standIn);
    }
    switch (kind) {
      case "null":
        return new NullDisk(id, size, readOnly);
      case "memory":
        return this.memory(id, size);
      default: {
        const disk = FileDisk.open(path, { readOnly, ignoreFlush });
        try {
          if (disk.isQcow && !argument.formatSaid && argument.mayStandIn) {
            disk.close();
            return this.standIn(argument, `'${path}' holds a qcow2 image: images are raw here`);
          }
          if (disk.isQcow) {
            this.checkFormat(argument);
          }
          return disk;
        } catch (error) {
          disk.close();
          throw error;
        }
      }
    }
  }

  private memory(id: string, size: number): MemoryDisk {
    const disk = this.kept.get(id) ?? new MemoryDisk(id, size);
    this.kept.set(id, disk);
    return disk;
  }

  /** An empty disk in the place of one that cannot be read, which a guest that is a program has no use for but to try it. */
  private standIn({ id, where }: DriveArgument, reason: string): MemoryDisk {
    this.log.warnOnce(`${where}: ${reason}; an empty disk of ${STAND_IN_BYTES / 2 ** 30} GiB is in its place, which nothing outlasts`);
    return this.memory(id, STAND_IN_BYTES);
  }

  /** The file holds a qcow2 image, whose bytes are not the disk's. @throws Refusal where nobody has said that they are */
  private checkFormat({ where, path, formatSaid }: DriveArgument): void {
    if (!formatSaid) {
      throw new Refusal("Unknown driver 'qcow2'", { found: `${where}: '${path}' holds a qcow2 image`, wouldWork: "qemu-img convert -O raw, and format=raw" });
    }
    this.log.warn(`${where}: '${path}' holds a qcow2 image, and its bytes are taken as they are`);
  }
}
