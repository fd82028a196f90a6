/** `-object` and object-add: iommufds and memory backends by id, and what keeps them from being deleted. */
import type { Host } from "../iommufd/index.js";
import { type Log, Refusal } from "../support/index.js";
import { IommufdContext } from "../vfio/index.js";
import { type ObjectArgument, parseObject } from "./object-argument.js";

export class MachineObjects {
  /** Read by those who make functions. */
  readonly iommufds = new Map<string, IommufdContext>();
  private readonly arguments = new Map<string, ObjectArgument>();

  /**
   * @param mapped ids of memory backends that are the machine's memory
   */
  constructor(
    objects: readonly ObjectArgument[],
    private readonly mapped: ReadonlySet<string>,
    private readonly host: Host,
    private readonly log: Log,
  ) {
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
      this.iommufds.set(object.id, new IommufdContext(object.id, this.host, this.log));
    }
  }
}
