/** Where descriptions come from: this machine, a folder, an archive. */
import { statSync } from "node:fs";
import { arch, release } from "node:os";
import { Refusal, systemWords } from "../../support/index.js";
import { collect, FolderSource, MachineSource, type Places, type ReadHwInfo, type Snapshot, unpack } from "../sysfs/index.js";
import { describeSnapshot, type DescribedHost } from "./describe.js";

/** Reads this machine. @param hwInfo asks the IOMMU of a function that VFIO has; by default nobody is asked */
export function copyOf(places?: Places, hwInfo?: (address: string) => ReadHwInfo | null): Snapshot {
  const snapshot = collect(new MachineSource(places), arch(), hwInfo);
  // Where /proc has been hidden the system call tells it all the same.
  snapshot.file("proc/sys/kernel/osrelease", release());
  return snapshot;
}

export function describeThisMachine(places?: Places): DescribedHost {
  return describeSnapshot(copyOf(places));
}

/** Reads a folder with a copy of a host, or an archive. @throws Refusal where there is none, or no PCI functions and no IOMMUs in it */
export async function readCapture(path: string): Promise<Snapshot> {
  let isFolder: boolean;
  try {
    isFolder = statSync(path).isDirectory();
  } catch (error) {
    throw new Refusal(`Could not open '${path}': ${systemWords(error)}`, { wouldWork: "a folder with a copy of a host's /sys, or a capture of viommu host --capture" });
  }
  const snapshot = isFolder ? collect(new FolderSource(path), null) : await unpack(path);
  if (!snapshot.has("sys")) {
    throw new Refusal(`${path}: no copy of a host: there is no folder sys in it`, { wouldWork: "what viommu host --capture makes, or a tar whose paths begin with sys/, proc/ and dev/" });
  }
  return snapshot;
}
