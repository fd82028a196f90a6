import { describe, expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { wanted } from "../../src/run/open-host.js";

const GIB = 2 ** 30;
const want = (text: string): ReturnType<typeof wanted> => wanted(parseArguments(`-machine q35 -m 1G -nodefaults ${text}`.split(" ")));

describe("what a machine wants of a Linux host", () => {
  it("are the functions that are named, /dev/iommu, and its RAM for each iommufd that is used", () => {
    expect(want("-object iommufd,id=a -object iommufd,id=b -object iommufd,id=c -device vfio-pci,host=01:00.0,iommufd=a -device vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:02:00.0,iommufd=b")).toEqual({
      functions: ["0000:01:00.0", "0000:02:00.0"],
      opensIommufd: true,
      pinnedBytes: 2 * GIB,
    });
  });

  it("is not what comes by descriptors", () => {
    expect(want("-object iommufd,id=a,fd=20 -device vfio-pci,fd=21,iommufd=a")).toEqual({ functions: [], opensIommufd: false, pinnedBytes: GIB });
  });

  it("is nothing without functions", () => {
    expect(want("-object iommufd,id=a -device e1000e")).toEqual({ functions: [], opensIommufd: false, pinnedBytes: 0 });
  });
});
