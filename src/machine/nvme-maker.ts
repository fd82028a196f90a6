/** An nvme from its argument. */
import { Nvme } from "../devices/index.js";
import { Refusal } from "../support/index.js";
import { type DeviceArgument, deviceLabel, numberProperty, textProperty } from "./arguments/index.js";
import type { MachineDrives } from "./drives.js";

const MOST_QUEUE_PAIRS = 65535;
const MOST_VECTORS = 2048;
const MOST_BLOCK_BYTES = 0x20_0000;

/** The function that the argument asks for; its drive is opened when it is plugged. @throws Refusal in QEMU's words */
export function makeNvme(device: DeviceArgument, drives: MachineDrives): Nvme {
  const label = deviceLabel(device);
  const drive = textProperty(device, "drive");
  if (drive !== "") {
    drives.check(drive, label);
  }
  const serial = textProperty(device, "serial");
  if (serial === "") {
    throw new Refusal("serial property not set", { found: label, wouldWork: "serial=1" });
  }
  const queuePairs = within(device, "max_ioqpairs", 1, MOST_QUEUE_PAIRS);
  const vectors = within(device, "msix_qsize", 1, MOST_VECTORS);
  const cache = textProperty(device, "write-cache");
  return new Nvme({
    id: device.id,
    serial,
    modelNumber: textProperty(device, "model"),
    firmware: textProperty(device, "firmware-version"),
    queuePairs,
    vectors,
    mdts: numberProperty(device, "mdts"),
    mqes: within(device, "mqes", 1, 0xffff),
    aerl: numberProperty(device, "aerl"),
    blockBytes: blockBytes(device),
    writeCache: cache === "auto" ? drive === "" || !drives.describe(drive).writeThrough : cache === "on",
    criticalWarning: numberProperty(device, "smart_critical_warning"),
    openDrive: drive === "" ? undefined : () => drives.take(drive, label),
  });
}

function within(device: DeviceArgument, name: string, least: number, most: number): number {
  const value = numberProperty(device, name);
  if (value < least || value > most) {
    throw new Refusal(`${name} must be between ${least} and ${most}`, { found: `${deviceLabel(device)} with ${name}=${value}`, wouldWork: `${name}=${Math.min(Math.max(value, least), most)}` });
  }
  return value;
}

function blockBytes(device: DeviceArgument): number {
  const size = (name: string): number => {
    const bytes = numberProperty(device, name);
    if (bytes < 512 || bytes > MOST_BLOCK_BYTES) {
      throw new Refusal(`Property .${name} doesn't take value ${bytes} (minimum: 512, maximum: ${MOST_BLOCK_BYTES})`, { wouldWork: `${name}=4096` });
    }
    if (2 ** Math.round(Math.log2(bytes)) !== bytes) {
      throw new Refusal(`Property .${name} doesn't take value '${bytes}', it's not a power of 2`, { wouldWork: `${name}=4096` });
    }
    return bytes;
  };
  const logical = size("logical_block_size");
  if (logical > size("physical_block_size")) {
    throw new Refusal("logical_block_size > physical_block_size not supported", {
      found: `logical_block_size=${logical}`,
      wouldWork: `logical_block_size=${logical},physical_block_size=${logical}`,
    });
  }
  return logical;
}
