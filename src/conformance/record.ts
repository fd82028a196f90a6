/**
 * A record: all that a kernel answered, and what it ran on. The package has some (conformance/*.json, by name), and
 * `viommu conformance --json` makes one.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { packageFolder, packageVersion, readTextFile, Refusal } from "../support/index.js";
import type { Facts } from "./survey.js";
import type { GroupResult, SuiteRun } from "./suite.js";

export const RECORD_FORMAT = "viommu-conformance-1";

/** Which kernel answered. */
export interface KernelFacts {
  /** uname's release, such as 7.3.4; of a simulated host the version whose answers it gives. */
  readonly release: string;
  readonly simulated: boolean;
  /** uname's machine, such as aarch64; "" for a simulated host. */
  readonly machine: string;
  /** Parameters of the modules that answer: "vfio_pci.disable_idle_d3": "N". */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface ConformanceRecord {
  readonly format: typeof RECORD_FORMAT;
  /** Version of the package that made it. */
  readonly viommu: string;
  readonly kernel: KernelFacts;
  /** Whose answers they are, such as "simulated: board". */
  readonly host: string;
  readonly facts: Facts;
  /** The function under test: its ids, as sysfs tells them. */
  readonly device: { readonly vendor: number; readonly device: number; readonly class: number };
  readonly groups: readonly GroupResult[];
}

/** From 7.3 on the kernel judges a guest's SMMUv3 commands before it hands them to the SMMU (arm_vsmmu_validate_user_cmd). */
export function judgesCommands({ release }: KernelFacts): boolean {
  return releaseNumber(release) >= 7003;
}

/** 7.3.4-generic as 7003. */
export function releaseNumber(release: string): number {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? ["", "0", "0"];
  return 1000 * Number(major) + Number(minor);
}

export function makeRecord(run: SuiteRun, about: Pick<ConformanceRecord, "kernel" | "host" | "device">): ConformanceRecord {
  return { format: RECORD_FORMAT, viommu: packageVersion(), ...about, facts: run.facts, groups: run.groups };
}

function folder(): string {
  return join(packageFolder(), "conformance");
}

/** Names of the records that come with the package, such as linux-7.3-smmuv3. */
export function packagedRecords(): string[] {
  return readdirSync(folder())
    .filter((file) => file.endsWith(".json"))
    .map((file) => file.slice(0, -".json".length))
    .sort();
}

/**
 * Reads a record: a packaged one by its name, or a file.
 * @throws Refusal
 */
export function loadRecord(name: string): ConformanceRecord {
  const packaged = join(folder(), `${name}.json`);
  const path = !/[/\\]|\.json$/.test(name) && existsSync(packaged) ? packaged : name;
  if (!existsSync(path)) {
    throw new Refusal(`Could not open '${name}': No such file or directory`, { found: `--compare ${name}`, wouldWork: `a file that --json has made, or one of ${packagedRecords().join(", ")}` });
  }
  const text = readTextFile(path, "a conformance record");
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new Refusal(`${name} is no conformance record`, { found: error instanceof Error ? error.message : String(error), wouldWork: "what viommu conformance --json prints" });
  }
  if (!isRecord(parsed)) {
    throw new Refusal(`${name} is no conformance record`, { found: "JSON of another form", wouldWork: `"format": "${RECORD_FORMAT}", as viommu conformance --json prints it` });
  }
  return parsed;
}

function isRecord(value: unknown): value is ConformanceRecord {
  const record = value as Partial<ConformanceRecord> | null;
  return (
    typeof record === "object" &&
    record !== null &&
    record.format === RECORD_FORMAT &&
    typeof record.kernel?.release === "string" &&
    typeof record.facts === "object" &&
    Array.isArray(record.groups) &&
    record.groups.every((group) => typeof group?.name === "string" && ("answers" in group || "notRun" in group))
  );
}

/**
 * The packaged record that a run is compared with where none is named: of the same kind of IOMMU, and of the kernel
 * of that version, or else of the newest one that is older. Null: there is none of that kind.
 */
export function recordFor(release: string, iommu: string): string | null {
  const candidates = packagedRecords()
    .map((name) => /^linux-(\d+)\.(\d+)-(.+)$/.exec(name))
    .filter((found) => found !== null && found[3] === iommu)
    .map((found) => ({ name: found!.input, version: 1000 * Number(found![1]) + Number(found![2]) }))
    .sort((a, b) => a.version - b.version);
  const version = releaseNumber(release);
  return (candidates.filter((one) => one.version <= version).at(-1) ?? candidates[0])?.name ?? null;
}
