/** `-object` and object-add: iommufds and memory backends by id, and what keeps them from being deleted. */
import type { Host } from "../iommufd/index.js";
import { type Log, Refusal } from "../support/index.js";
import { descriptorNumber } from "./host-function-name.js";
import { IommufdContext } from "../vfio/index.js";
import { type ObjectArgument, parseObject } from "./arguments/index.js";

export class MachineObjects {
  /** Read by those who make functions. */
  readonly iommufds = new Map<string, IommufdContext>();
  private readonly arguments = new Map<string, ObjectArgument>();
  /** Memory backends that are memory of the machine now. */
  private readonly mapped: Set<string>;

  /**
   * @param mapped ids of memory backends that are the machine's memory from the start
   */
  constructor(
    objects: readonly ObjectArgument[],
    mapped: Iterable<string>,
    private readonly host: Host,
    private readonly log: Log,
  ) {
    this.mapped = new Set(mapped);
    objects.forEach((object) => this.take(object));
  }

  /** Everything that there is, in the order of its coming. */
  list(): ObjectArgument[] {
    return [...this.arguments.values()];
  }

  /** object-add: `argument` as after -object. @throws Refusal */
  add(argument: string): void {
    const notes: string[] = [];
    const object = parseObject(argument, notes, "object-add");
    if (this.arguments.has(object.id)) {
      throw new Refusal(`attempt to add duplicate property '${object.id}' to object (type 'container')`, { found: object.where, wouldWork: "another id" });
    }
    this.take(object);
    notes.forEach((note) => this.log.info(note));
  }

  /** The memory backend of that id, for a device that is to be made of it. @throws Refusal in QEMU's words */
  unusedBackend(id: string): ObjectArgument {
    const backends = this.list().filter(({ type }) => type === "memory-backend");
    const found = this.arguments.get(id);
    const wouldWork = `-object memory-backend-ram,id=NAME,size=1G, and memdev=NAME`;
    if (found === undefined) {
      throw new Refusal(`Device '${id}' not found`, { found: `memdev=${id}; memory backends: ${backends.map((one) => one.id).join(", ") || "none"}`, wouldWork });
    }
    if (found.type !== "memory-backend") {
      throw new Refusal("Invalid parameter type for 'memdev', expected: memory-backend", { found: found.where, wouldWork });
    }
    if (this.mapped.has(id)) {
      throw new Refusal(`can't use already busy memdev: ${id}`, { found: `${found.where}: the machine's memory is made of it`, wouldWork });
    }
    return found;
  }

  /** A memory backend is memory of the machine from now on, or is no more. */
  use(id: string, used: boolean): void {
    if (used) {
      this.mapped.add(id);
    } else {
      this.mapped.delete(id);
    }
  }

  /** object-del. @throws Refusal while it is used */
  delete(id: string): void {
    if (!this.arguments.has(id)) {
      throw new Refusal(`object '${id}' not found`, { found: `object-del ${id}`, wouldWork: [...this.arguments.keys()].join(", ") });
    }
    if (this.mapped.has(id)) {
      throw new Refusal(`Cannot delete host memory backend '${id}' which is mapped`, { found: "the machine's memory is made of it" });
    }
    this.iommufds.get(id)?.checkUnused();
    this.iommufds.delete(id);
    this.arguments.delete(id);
  }

  private take(object: ObjectArgument): void {
    this.arguments.set(object.id, object);
    if (object.type === "iommufd") {
      this.iommufds.set(object.id, new IommufdContext(object.id, this.host, this.log, this.given(object)));
    }
  }

  /** The iommufd that the process was given; it is used when a function is. @throws Refusal */
  private given({ id, fd: text }: ObjectArgument): { readonly fd: number } | undefined {
    if (text === undefined) {
      return undefined;
    }
    if (this.host.hasDescriptors !== true) {
      this.log.info(`-object iommufd,id=${id}: fd has no effect, the host opens its own /dev/iommu`);
      return undefined;
    }
    const fd = descriptorNumber(text);
    if (fd === null) {
      throw new Refusal(`Could not parse remote object fd ${text}`, { found: `-object iommufd,id=${id},fd=${text}`, wouldWork: "the number of an open descriptor of /dev/iommu" });
    }
    return { fd };
  }
}
