import { type Errno, HostError } from "../../../iommufd/index.js";

export type ObjectType = "device" | "ioas" | "hwpt-paging" | "hwpt-nested" | "viommu" | "vdevice" | "veventq" | "fault";

/** Makes the refusal of one call: `refuse("EINVAL", "what")`. */
export type Refuse = (errno: Errno, detail: string) => HostError;

export function refusing(operation: string): Refuse {
  return (errno, detail) => new HostError(operation, errno, detail);
}

/** A lower layer's error as the refusal of a call; anything but a HostError stays as it is. */
export function underCall(error: unknown, refuse: Refuse): unknown {
  return error instanceof HostError ? refuse(error.errno, error.detail) : error;
}

/** Runs an action of a lower layer under a call's name. */
export function guarded<T>(action: () => T, refuse: Refuse): T {
  try {
    return action();
  } catch (error) {
    throw underCall(error, refuse);
  }
}

/**
 * An object of an iommufd: it has an id, and counts who uses it, its own table included. It can be
 * destroyed only when the table is its one user.
 */
export abstract class KernelObject {
  abstract readonly type: ObjectType;
  id = 0;
  users = 1;

  /** Releases what the object holds; called once, when nobody uses it any more. */
  abstract release(): void;
}

/**
 * The objects of one iommufd by id. An id is the lowest free one from 1 on (an allocating xarray in
 * Linux, so ids are used again), up to 2^31 - 1.
 */
export class ObjectTable {
  private readonly slots: Array<KernelObject | "tombstone" | undefined> = [undefined];
  private lowestFree = 1;

  add<T extends KernelObject>(object: T): T {
    let id = this.lowestFree;
    while (this.slots[id] !== undefined) {
      id++;
    }
    this.slots[id] = object;
    this.lowestFree = id + 1;
    object.id = id;
    return object;
  }

  /** Any object, or undefined. */
  find(id: number): KernelObject | undefined {
    const slot = this.slots[id];
    return slot === "tombstone" ? undefined : slot;
  }

  /** The object of that id if it is of that class; ENOENT otherwise. */
  get<T extends KernelObject>(id: number, kind: abstract new (...args: never[]) => T, refuse: Refuse): T {
    const object = this.find(id);
    if (!(object instanceof kind)) {
      throw refuse("ENOENT", object === undefined ? `no object ${id}` : `object ${id} is a ${object.type}`);
    }
    return object;
  }

  /** IOMMU_DESTROY: ENOENT for no such object, EBUSY for one in use. */
  destroy(id: number, refuse: Refuse): void {
    const object = this.find(id);
    if (object === undefined) {
      throw refuse("ENOENT", `no object ${id}`);
    }
    if (object.users !== 1) {
      throw refuse("EBUSY", `${object.type} ${id} is in use by ${object.users - 1}`);
    }
    this.remove(object);
  }

  /** Takes an object out whose only user is the table. */
  remove(object: KernelObject): void {
    this.slots[object.id] = undefined;
    this.lowestFree = Math.min(this.lowestFree, object.id);
    object.release();
  }

  /** Takes an object out; its id stays taken until the table goes. */
  bury(object: KernelObject): void {
    this.slots[object.id] = "tombstone";
    object.release();
  }

  /** Destroys everything, users first. */
  clear(): void {
    for (let progress = true; progress; ) {
      progress = false;
      for (const slot of this.slots) {
        if (slot instanceof KernelObject && slot.users === 1) {
          this.remove(slot);
          progress = true;
        }
      }
    }
    this.slots.length = 1;
    this.lowestFree = 1;
  }

  live(): KernelObject[] {
    return this.slots.filter((slot): slot is KernelObject => slot instanceof KernelObject);
  }
}
