import { loadHost } from "../host/shipped/index.js";
import type { HostDescription } from "../host/simulated/file/index.js";

/** What viommu run calls the machine that it runs on. */
export const THIS_MACHINE = "linux";

/** A host by the name that a user gives it, as a description: a file, a shipped one, this machine (which no name is, too). @throws Refusal */
export async function describedHost(name: string | undefined): Promise<HostDescription> {
  if (name !== undefined && name !== THIS_MACHINE) {
    return loadHost(name);
  }
  const { copyOf, describeSnapshot } = await import("../host/described/index.js");
  const { readHwInfo } = await import("../host/linux/index.js");
  return describeSnapshot(copyOf(undefined, readHwInfo)).description;
}
