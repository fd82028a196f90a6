/**
 * QOM paths of the devices that the user asked for: /machine/peripheral/ID, and device[n] of
 * /machine/peripheral-anon for those without an id, counted up over the machine's life (QEMU's qdev_set_id).
 */
export class DeviceNames {
  private readonly names = new Map<object, { container: "peripheral" | "peripheral-anon"; name: string }>();
  private anonymous = 0;

  add(device: object, id: string): void {
    this.names.set(device, id === "" ? { container: "peripheral-anon", name: `device[${this.anonymous++}]` } : { container: "peripheral", name: id });
  }

  remove(device: object): void {
    this.names.delete(device);
  }

  /** Empty: the device is none of the user's. */
  pathOf(device: object): string {
    const found = this.names.get(device);
    return found === undefined ? "" : `/machine/${found.container}/${found.name}`;
  }

  /** The devices in a container by name, in the order in which they came. */
  in(container: "peripheral" | "peripheral-anon"): Map<string, object> {
    return new Map([...this.names].filter(([, one]) => one.container === container).map(([device, { name }]) => [name, device]));
  }
}
