/** Which QEMU a line is for, where its text says so, and what that one has not. */
import { booleanProperty, type DeviceArgument, deviceLabel } from "../../machine/arguments/index.js";
import type { Raised, Subject } from "../subject.js";

export type Version = readonly [major: number, minor: number];

export function atLeast([major, minor]: Version, [otherMajor, otherMinor]: Version): boolean {
  return major > otherMajor || (major === otherMajor && minor >= otherMinor);
}

/** As libvirt's log and QEMU itself say it: `qemu version: 10.0.2`, `QEMU emulator version 11.1.3`. Null: nowhere. */
export function qemuOf(text: string): Version | null {
  const found = /qemu (?:emulator )?version:?\s+(\d+)\.(\d+)/i.exec(text);
  return found === null ? null : [Number(found[1]), Number(found[2])];
}

/** Of a kernel's release: 6.8.0-45-generic. */
export function kernelOf(release: string): Version {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return [Number(major), Number(minor)];
}

interface Since {
  readonly version: Version;
  /** Whether a device asks for it, and by which property; null: by being there. */
  asks(device: DeviceArgument): boolean;
  readonly property?: string;
  readonly words: (device: DeviceArgument) => string;
}

const isModel = (name: string) => (device: DeviceArgument): boolean => device.model.name === name;
const says = (model: string, property: string) => (device: DeviceArgument): boolean => device.model.name === model && device.said.has(property);
const unknown = (property: string) => (device: DeviceArgument): string => `Property '${device.model.name}.${property}' not found`;
const property = (model: string, name: string, version: Version): Since => ({ version, asks: says(model, name), property: name, words: unknown(name) });

/** What came when (QEMU's releases and their compat properties). */
const SINCE: readonly Since[] = [
  property("vfio-pci", "iommufd", [9, 0]),
  property("vfio-pci", "fd", [9, 0]),
  property("vfio-pci", "ats", [11, 1]),
  { version: [10, 2], asks: isModel("arm-smmuv3"), words: () => "Parameter 'driver' expects a dynamic sysbus device type for the machine" },
  { version: [11, 0], asks: (device) => device.model.name === "arm-smmuv3" && booleanProperty(device, "accel"), property: "accel", words: unknown("accel") },
  property("arm-smmuv3", "cmdqv", [11, 1]),
  property("intel-iommu", "scalable-mode", [11, 1]),
  property("intel-iommu", "fsts", [11, 1]),
  property("intel-iommu", "pasid-bits", [11, 1]),
];

export function olderQemu(subject: Subject): Raised[] {
  const { args, line } = subject;
  const version = qemuOf(line.text.text);
  if (version === null) {
    return [];
  }
  const text = version.join(".");
  const devices = args.devices.flatMap((device) =>
    SINCE.filter((one) => one.asks(device) && !atLeast(version, one.version)).map((one): Raised => ({
      rule: "qemu-version",
      words: one.words(device),
      found: `${deviceLabel(device)}, and the line is of QEMU ${text}`,
      wouldWork: `QEMU ${one.version.join(".")}`,
      spot: subject.spotOf(device, one.property),
    })),
  );
  const machine = subject.lastOption("machine", "M");
  const isNewer = machine !== null && !atLeast(version, args.machine.version) && /\d/.test(line.said(machine, "type") ?? "");
  return [...devices, ...(isNewer ? [{ rule: "qemu-version", words: `unsupported machine type: "${line.said(machine, "type")}"`, found: `the line is of QEMU ${text}`, wouldWork: `QEMU ${args.machine.version.join(".")}`, spot: { option: machine, property: "type" } } as const] : [])];
}
