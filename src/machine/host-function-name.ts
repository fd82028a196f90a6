/** Which function of the host a vfio-pci is: by address, by its folder in sysfs, or by a descriptor that the process was given. */
import { realpathSync } from "node:fs";
import { type Host, HostError, type VfioDevice } from "../iommufd/index.js";
import { Refusal } from "../support/index.js";
import { type DeviceArgument, deviceLabel, textProperty } from "./arguments/index.js";

const ADDRESS = /(?:^|\/)([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\/?$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** @throws Refusal in QEMU's words */
export function nameHostFunction(device: DeviceArgument, host: Host, hasIommufd: boolean): { hostAddress: string; given?: VfioDevice } {
  const [address, folder, descriptor] = ["host", "sysfsdev", "fd"].map((name) => textProperty(device, name));
  if (descriptor !== "") {
    if (!hasIommufd) {
      throw new Refusal("Use FD passing only with iommufd backend", { found: `${deviceLabel(device)} with fd=${descriptor}, without iommufd=`, wouldWork: "-object iommufd,id=iommufd0 and iommufd=iommufd0" });
    }
    const given = openGiven(device, host, descriptor);
    return { hostAddress: given.address, given };
  }
  if (address === "" && folder === "") {
    throw new Refusal("No provided host device\nUse -device vfio-pci,host=DDDD:BB:DD.F", {
      found: `${deviceLabel(device)} without host=, sysfsdev= or fd=`,
      wouldWork: `host=${host.functions()[0]?.address ?? "0009:01:00.0"}`,
    });
  }
  const hostAddress = hostFunctionAddress(device);
  if (hostAddress === null) {
    throw new Refusal(`vfio ${folder}: no such host device`, { found: `sysfsdev=${folder}, which is no folder of a PCI function`, wouldWork: "sysfsdev=/sys/bus/pci/devices/DDDD:BB:DD.F, or host=" });
  }
  return { hostAddress };
}

/** The host PCI address that host= or sysfsdev= of a vfio-pci names; null: neither, or a folder of none. */
export function hostFunctionAddress(device: DeviceArgument): string | null {
  const address = textProperty(device, "host");
  if (address !== "") {
    return address;
  }
  const folder = textProperty(device, "sysfsdev");
  return (ADDRESS.exec(folder.toLowerCase()) ?? ADDRESS.exec(resolved(folder)))?.[1] ?? null;
}

/** Where a link in sysfs leads. */
function resolved(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function openGiven(device: DeviceArgument, host: Host, text: string): VfioDevice {
  const fd = descriptorNumber(text);
  if (fd === null) {
    throw new Refusal(`Could not parse remote object fd ${text}`, { found: `${deviceLabel(device)} with fd=${text}`, wouldWork: "the number of an open descriptor of /dev/vfio/devices/vfioN" });
  }
  try {
    return host.openDevice({ fd });
  } catch (error) {
    if (!(error instanceof HostError)) {
      throw error;
    }
    throw new Refusal(`vfio VFIO_FD${fd}: ${error.message}`, { found: `${deviceLabel(device)} with fd=${fd}`, wouldWork: "a descriptor of /dev/vfio/devices/vfioN that the process inherits; or host=" });
  }
}

/** Null: it is no number. */
export function descriptorNumber(text: string): number | null {
  return /^[0-9]{1,9}$/.test(text) ? Number(text) : null;
}

/** @throws Refusal */
export function uuidBytes(device: DeviceArgument, text: string): Uint8Array {
  if (!UUID.test(text)) {
    throw new Refusal(`Parameter 'vf-token' expects UUID format`, { found: `${deviceLabel(device)} with vf-token=${text}`, wouldWork: "vf-token=00112233-4455-6677-8899-aabbccddeeff" });
  }
  return Uint8Array.from(Buffer.from(text.replaceAll("-", ""), "hex"));
}
