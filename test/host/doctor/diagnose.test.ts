import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { checkHost, diagnose } from "../../../src/host/doctor/index.js";
import type { Places } from "../../../src/host/sysfs/index.js";

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

interface Fn {
  readonly driver?: string;
  readonly group?: string;
  readonly cdev?: boolean;
}

/** A host's files. @param memlock RLIMIT_MEMLOCK in bytes */
function hostOf(functions: Readonly<Record<string, Fn>>, { iommufd = true, memlock = "unlimited", capabilities = "0" } = {}): Places {
  const root = mkdtempSync(join(tmpdir(), "doctor-"));
  folders.push(root);
  const places = { sys: join(root, "sys"), dev: join(root, "dev"), proc: join(root, "proc") };
  mkdirSync(join(places.dev, "vfio/devices"), { recursive: true });
  mkdirSync(join(places.proc, "self"), { recursive: true });
  writeFileSync(join(places.proc, "self/limits"), `Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         ${memlock.padEnd(20)} unlimited            bytes\n`);
  writeFileSync(join(places.proc, "self/status"), `Name:\tnode\nCapEff:\t${capabilities.padStart(16, "0")}\n`);
  if (iommufd) {
    writeFileSync(join(places.dev, "iommu"), "");
  }
  Object.entries(functions).forEach(([address, { driver, group, cdev = false }], n) => {
    const folder = join(places.sys, "bus/pci/devices", address);
    mkdirSync(folder, { recursive: true });
    if (driver !== undefined) {
      symlinkSync(`../../../bus/pci/drivers/${driver}`, join(folder, "driver"));
    }
    if (group !== undefined) {
      symlinkSync(`../../../kernel/iommu_groups/${group}`, join(folder, "iommu_group"));
      mkdirSync(join(places.sys, "kernel/iommu_groups", group, "devices"), { recursive: true });
      symlinkSync(folder, join(places.sys, "kernel/iommu_groups", group, "devices", address));
    }
    if (cdev) {
      mkdirSync(join(folder, `vfio-dev/vfio${n}`), { recursive: true });
      writeFileSync(join(places.dev, `vfio/devices/vfio${n}`), "");
    }
  });
  return places;
}

const NIC = "0000:01:00.0";
const wanted = (...functions: string[]): Parameters<typeof diagnose>[0] => ({ functions, opensIommufd: true, pinnedBytes: 2 ** 30 });

describe("what keeps a Linux from taking a machine", () => {
  it("is nothing where the functions are vfio-pci's, each in a group without others' drivers", () => {
    const places = hostOf({ [NIC]: { driver: "vfio-pci", group: "7", cdev: true }, "0000:01:00.1": { group: "7" }, "0000:00:01.0": { driver: "pcieport", group: "7" } });
    expect(diagnose(wanted(NIC), places)).toEqual([]);
    expect(() => checkHost(wanted(NIC), places)).not.toThrow();
  });

  it("is told all at once, each with what was found and what would work", () => {
    const places = hostOf(
      {
        [NIC]: { driver: "nvme", group: "7" },
        "0000:01:00.1": { driver: "snd_hda_intel", group: "7" },
        "0000:02:00.0": { driver: "vfio-pci", group: "8" },
        "0000:03:00.0": { group: "9" },
        "0000:04:00.0": { driver: "vfio-pci", cdev: true },
      },
      { iommufd: false, memlock: "8388608" },
    );
    const problems = diagnose(wanted(NIC, "0000:02:00.0", "0000:03:00.0", "0000:04:00.0", "0000:09:00.0"), places);
    expect(problems.map(({ words }) => words)).toEqual([
      "Could not open '/dev/iommu': No such file or directory",
      `vfio ${NIC}: couldn't open directory /sys/bus/pci/devices/${NIC}/vfio-dev: No such file or directory`,
      `vfio ${NIC}: group 7 is not viable`,
      "vfio 0000:02:00.0: couldn't open directory /sys/bus/pci/devices/0000:02:00.0/vfio-dev: No such file or directory",
      "vfio 0000:03:00.0: couldn't open directory /sys/bus/pci/devices/0000:03:00.0/vfio-dev: No such file or directory",
      "vfio 0000:04:00.0: no iommu_group found: No such file or directory",
      "vfio 0000:09:00.0: no such host device",
      "memory of the guest cannot be pinned: Cannot allocate memory",
    ]);
    const found = problems.map((problem) => problem.found);
    expect(found[1]).toBe("the function's driver is nvme");
    expect(found[2]).toBe("0000:01:00.1 (snd_hda_intel) in the same IOMMU group");
    expect(found[3]).toMatch(/^the function's driver is vfio-pci, and Linux .* shows no character device of it$/);
    expect(found[4]).toBe("the function has no driver");
    expect(found[7]).toBe("RLIMIT_MEMLOCK of 8388608 bytes, and 1073741824 to pin (the guest's RAM, once for each iommufd)");
    expect(problems[1].wouldWork).toContain(`echo ${NIC} >`);
    expect(() => checkHost(wanted(NIC), places)).toThrow(/Could not open[\s\S]*would work: [\s\S]*group 7 is not viable[\s\S]*ulimit -l 1048576/);
  });

  it("asks for no /dev/iommu where a descriptor is given, and heeds no limit with CAP_IPC_LOCK or none to pin", () => {
    const functions = { [NIC]: { driver: "vfio-pci", group: "7", cdev: true } };
    expect(diagnose({ ...wanted(NIC), opensIommufd: false }, hostOf(functions, { iommufd: false }))).toEqual([]);
    expect(diagnose(wanted(NIC), hostOf(functions, { memlock: "8388608", capabilities: "4000" }))).toEqual([]);
    expect(diagnose({ functions: [], opensIommufd: false, pinnedBytes: 0 }, hostOf({}, { iommufd: false, memlock: "65536" }))).toEqual([]);
  });
});
