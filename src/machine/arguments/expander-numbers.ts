/** Bus numbers of expander bridges that say none. */
import type { DeviceArgument } from "./device.js";

/**
 * Gives each pxb-pcie without bus_nr the middle of the largest range of bus numbers between root buses.
 * QEMU's default is 0, the number of pcie.0 itself, which no guest could enumerate; QEMU's documentation
 * leaves bus_nr out all the same (docs/system/arm/virt.rst, user-creatable SMMUv3 devices).
 * @param busCount buses that configuration space has room for
 */
export function numberExpanders(devices: readonly DeviceArgument[], busCount: number, notes: string[]): DeviceArgument[] {
  const expanders = devices.filter((device) => device.model.name === "pxb-pcie");
  const roots = [0, ...expanders.map((device) => device.properties.get("bus_nr")).filter((number) => typeof number === "number")];
  return devices.map((device) => {
    if (device.model.name !== "pxb-pcie" || device.properties.has("bus_nr")) {
      return device;
    }
    const number = freeNumber(roots, busCount);
    roots.push(number);
    notes.push(`pxb-pcie${device.id === "" ? "" : ` '${device.id}'`}: no bus_nr is said, it takes ${number}`);
    return { ...device, properties: new Map([...device.properties, ["bus_nr", number]]) };
  });
}

function freeNumber(roots: readonly number[], busCount: number): number {
  const starts = [...new Set(roots)].sort((a, b) => a - b);
  let best = { from: 0, size: 0 };
  starts.forEach((from, index) => {
    const size = (starts[index + 1] ?? busCount) - from;
    if (size > best.size) {
      best = { from, size };
    }
  });
  return best.from + Math.floor(best.size / 2);
}
