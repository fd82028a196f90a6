/**
 * Functions that a line names by descriptors (`fd=31`), as libvirt and virt-launcher hand them to QEMU: a descriptor
 * means something in the process that was given it, and nothing on a simulated host. Which function each is, is said
 * beside the line, or is plain where the host has only one.
 */
import { Refusal, RefusalCollector } from "../support/index.js";
import { type DeviceArgument, deviceLabel, type MachineArguments, textProperty } from "./arguments/index.js";
import { hostFunctionAddress } from "./host-function-name.js";

export interface NamedFunctions {
  /** Function of the host by the descriptor's number, as the line says it. */
  readonly said: ReadonlyMap<string, string>;
  /** Addresses of the host's functions that can be passed through. */
  readonly functions: readonly string[];
}

/**
 * The arguments with addresses in the place of descriptors.
 * @throws Refusal of each that cannot be told
 */
export function nameDescriptors<Args extends MachineArguments>(args: Args, { said, functions }: NamedFunctions): Args {
  const isGiven = (device: DeviceArgument): boolean => device.model.name === "vfio-pci" && device.properties.has("fd") && device.properties.has("iommufd");
  const given = args.devices.filter(isGiven);
  const descriptors = new Set(given.map((device) => textProperty(device, "fd")));
  const unused = [...said.keys()].find((fd) => !descriptors.has(fd));
  if (unused !== undefined) {
    throw new Refusal(`--fd ${unused}=${said.get(unused)!}: no function of the machine has that descriptor`, {
      found: descriptors.size === 0 ? "no vfio-pci with fd=" : `descriptors ${[...descriptors].join(", ")}`,
      wouldWork: descriptors.size === 0 ? "host=ADDRESS in the line" : `--fd ${[...descriptors][0]}=${said.get(unused)!}`,
      rule: "no-such-descriptor",
    });
  }
  if (given.length === 0) {
    return args;
  }
  const taken = new Set([...said.values(), ...args.devices.flatMap((device) => (isGiven(device) ? [] : (hostFunctionAddress(device) ?? [])))]);
  const free = functions.filter((address) => !taken.has(address));
  const untold = given.filter((device) => !said.has(textProperty(device, "fd")));
  const notes: string[] = [];
  const refusals = new RefusalCollector();
  const devices = args.devices.map((device) => {
    if (!isGiven(device)) {
      return device;
    }
    const fd = textProperty(device, "fd");
    const address = said.get(fd) ?? (untold.length === 1 && free.length === 1 ? free[0] : null);
    if (address === null) {
      refusals.attempt(() => {
        throw new Refusal(`vfio VFIO_FD${fd}: open: EBADF (${fd} is no VFIO device)`, {
          found: `${deviceLabel(device)} with fd=${fd}, a descriptor of the process that the line was for`,
          wouldWork: free.length === 0 ? "a host with a function more" : `--fd ${fd}=${free[Math.min(untold.indexOf(device), free.length - 1)]}: which function of the host it is, one of ${free.slice(0, 8).join(", ")}`,
          rule: "unknown-descriptor",
          where: device.where,
          ...(device.place === undefined ? {} : { place: device.place }),
        });
      });
      return device;
    }
    if (!said.has(fd)) {
      notes.push(`${deviceLabel(device)}: fd=${fd} is taken as ${address}, the only function of the host that it can be (--fd ${fd}=ADDRESS says another)`);
    }
    const properties = new Map([...device.properties].filter(([name]) => name !== "fd"));
    return { ...device, properties: properties.set("host", address), said: new Set([...device.said, "host"]), text: renamed(device.text, fd, address) };
  });
  refusals.throwAll();
  return { ...args, devices, notes: [...args.notes, ...notes] };
}

/** The argument as the user would have written it with the address. */
function renamed(text: string, fd: string, address: string): string {
  if (text.trimStart().startsWith("{")) {
    const said = Object.entries(JSON.parse(text) as Record<string, unknown>);
    return JSON.stringify(Object.fromEntries(said.map(([name, value]) => (name === "fd" ? ["host", address] : [name, value]))));
  }
  return text.replace(new RegExp(`(^|,)fd=${fd}(?=,|$)`), `$1host=${address}`);
}
