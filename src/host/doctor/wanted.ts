/** What rules look at, and what they tell. */
import type { Finding } from "../../support/index.js";
import type { DescribedHost } from "../described/index.js";

/** What a machine wants of the host. */
export interface Wanted {
  /** Host PCI addresses of its functions, in full. */
  readonly functions: readonly string[];
  /** It opens /dev/iommu itself: no descriptor of one is given. */
  readonly opensIommufd: boolean;
  /** Bytes of memory that are pinned for devices, once for each iommufd; 0: not asked about. */
  readonly pinnedBytes: number;
}

/** A rule's view of a host. */
export interface Patient {
  readonly host: DescribedHost;
  readonly wanted: Wanted;
}

/** Something that is in the way ("error"), slower or less than could be ("warning"), or not known ("note"). */
export type HostProblem = Finding & { readonly found: string; readonly wouldWork: string };

export function problem(level: Finding["level"], rule: string, words: string, found: string, wouldWork: string): HostProblem {
  return { level, rule, words, found, wouldWork, place: null };
}

/** At most eight, and how many more. */
export function listed(all: readonly string[]): string {
  return all.length <= 8 ? all.join(", ") : `${all.slice(0, 8).join(", ")} and ${all.length - 8} more`;
}

/** Linux major.minor as one number that can be compared: 6.12 is 6012. */
export function versionOf(release: string): number {
  const [major, minor] = release.split(/[^0-9]/).map(Number);
  return major * 1000 + minor;
}
