/**
 * An iommufd as the user named it (`-object iommufd,id=`): opened with its first function, closed with its
 * last, and the IO address spaces that functions share in it.
 */
import type { Host, Iommufd, ObjectAccount } from "../iommufd/index.js";
import type { AddressSpace } from "../memory/index.js";
import { type Log, Refusal, traceEvent } from "../support/index.js";
import type { Siblings } from "./function-reset.js";
import { IoAddressSpace } from "./io-address-space.js";

const traceConnect = traceEvent("iommufd_backend_connect", "fd=%d owned=%d users=%d");
const traceDisconnect = traceEvent("iommufd_backend_disconnect", "fd=%d users=%d");
const traceSpace = traceEvent("iommufd_cdev_alloc_ioas", " [iommufd=%d] new IOMMUFD container with ioasid=%d");

export class IommufdContext {
  /** Functions that it knows, for resets that reach several. */
  readonly siblings: Siblings = new Map();
  private opened: Iommufd | null = null;
  private users = 0;
  private readonly spaces: Array<{ memory: AddressSpace; mapsReadOnly: boolean; space: IoAddressSpace; users: number }> = [];

  constructor(
    /** The user's id. */
    readonly id: string,
    private readonly host: Host,
    private readonly log: Log,
    /** A descriptor that the process was given: it is used instead of opening one, and stays open. */
    private readonly given?: { readonly fd: number },
  ) {}

  /** Functions that use it now. */
  get userCount(): number {
    return this.users;
  }

  /** Opens /dev/iommu for the first user. Throws HostError. */
  connect(): Iommufd {
    this.opened ??= this.host.openIommufd(this.given);
    this.users++;
    if (traceConnect.on) {
      traceConnect.emit(this.opened.fd, this.given === undefined ? 1 : 0, this.users);
    }
    return this.opened;
  }

  disconnect(): void {
    this.users--;
    if (traceDisconnect.on) {
      traceDisconnect.emit(this.users === 0 || this.opened === null ? -1 : this.opened.fd, this.users);
    }
    if (this.users === 0) {
      this.opened?.close();
      this.opened = null;
    }
  }

  /**
   * The IOAS that mirrors an address space, made with its first user. Throws HostError, leaving nothing behind.
   *
   * @param mapsReadOnly false: ROM is left out, for a host IOMMU whose nesting parents take no read-only mappings
   */
  takeSpace(memory: AddressSpace, mapsReadOnly = true): IoAddressSpace {
    let entry = this.find(memory, mapsReadOnly);
    if (entry === undefined) {
      entry = { memory, mapsReadOnly, space: IoAddressSpace.make(this.opened!, memory, this.log, mapsReadOnly), users: 0 };
      this.spaces.push(entry);
      if (traceSpace.on) {
        traceSpace.emit(this.opened!.fd, entry.space.ioasId);
      }
    }
    entry.users++;
    return entry.space;
  }

  releaseSpace(memory: AddressSpace, mapsReadOnly = true): void {
    const entry = this.find(memory, mapsReadOnly);
    if (entry !== undefined && --entry.users === 0) {
      this.spaces.splice(this.spaces.indexOf(entry), 1);
      entry.space.free();
    }
  }

  /** Dirty tracking of all functions that were made for it. Throws HostError; then it is as before. */
  setDirtyTracking(on: boolean): void {
    const changed: IoAddressSpace[] = [];
    try {
      for (const { space } of this.spaces) {
        space.setDirtyTracking(on);
        changed.push(space);
      }
    } catch (error) {
      changed.forEach((space) => space.setDirtyTracking(!on));
      throw error;
    }
  }

  /**
   * The pages that functions have written since the last reading: bit n of the bitmap (from bit 0 of byte 0) is the
   * page of 4 KiB n pages behind `address` (guest-physical, bytes). Throws HostError, EINVAL while tracking is off.
   *
   * @param pages how many, a multiple of 8
   * @param clear from then on they count as clean; default true
   */
  readDirtyPages(address: number, pages: number, clear = true): Uint8Array {
    const bitmap = new Uint8Array(pages / 8);
    for (const { space } of this.spaces) {
      space.readDirtyPages(address, bitmap, clear);
    }
    return bitmap;
  }

  /** The IO address spaces that are shared, and the tables on them. */
  hostObjects(): ObjectAccount[] {
    return this.spaces.flatMap(({ memory, space }) => [
      { iommufd: this.id, id: space.ioasId, kind: "ioas" as const, on: null, what: `address space ${memory.name}` },
      ...space.tables().map(({ hwptId, what }) => ({ iommufd: this.id, id: hwptId, kind: "hwpt-paging" as const, on: space.ioasId, what })),
    ]);
  }

  private find(memory: AddressSpace, mapsReadOnly: boolean): (typeof this.spaces)[number] | undefined {
    return this.spaces.find((entry) => entry.memory === memory && entry.mapsReadOnly === mapsReadOnly);
  }

  /** For `object-del`: throws where functions still use it. */
  checkUnused(): void {
    if (this.users > 0) {
      throw new Refusal(`Can not delete IOMMUFD backend '${this.id}' with ${this.users} users`, {
        wouldWork: "unplugging its vfio-pci functions first",
      });
    }
  }
}

