/**
 * An iommufd as the user named it (`-object iommufd,id=`): opened with its first function, closed with its
 * last, and the IO address spaces that functions share in it.
 */
import type { Host, Iommufd } from "../iommufd/index.js";
import type { AddressSpace } from "../memory/index.js";
import { type Log, Refusal } from "../support/index.js";
import { IoAddressSpace } from "./io-address-space.js";

export class IommufdContext {
  private opened: Iommufd | null = null;
  private users = 0;
  private readonly spaces = new Map<AddressSpace, { space: IoAddressSpace; users: number }>();

  constructor(
    /** The user's id. */
    readonly id: string,
    private readonly host: Host,
    private readonly log: Log,
  ) {}

  /** Functions that use it now. */
  get userCount(): number {
    return this.users;
  }

  /** Opens /dev/iommu for the first user. Throws HostError. */
  connect(): Iommufd {
    this.opened ??= this.host.openIommufd();
    this.users++;
    return this.opened;
  }

  disconnect(): void {
    this.users--;
    if (this.users === 0) {
      this.opened?.close();
      this.opened = null;
    }
  }

  /** The IOAS that mirrors an address space, made with its first user. Throws HostError, leaving nothing behind. */
  takeSpace(memory: AddressSpace): IoAddressSpace {
    let entry = this.spaces.get(memory);
    if (entry === undefined) {
      entry = { space: IoAddressSpace.make(this.opened!, memory, this.log), users: 0 };
      this.spaces.set(memory, entry);
    }
    entry.users++;
    return entry.space;
  }

  releaseSpace(memory: AddressSpace): void {
    const entry = this.spaces.get(memory);
    if (entry !== undefined && --entry.users === 0) {
      this.spaces.delete(memory);
      entry.space.free();
    }
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

