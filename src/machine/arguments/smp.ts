/** -smp. */
import { Refusal } from "../../support/index.js";
import type { BoardKind } from "./boards.js";
import { parseOptionString } from "./option-string.js";

/** Levels between all processors and one, from the outermost, each counted in one of the level before it. */
export const CPU_LEVELS = ["sockets", "dies", "clusters", "modules", "cores", "threads"] as const;
export type CpuLevel = (typeof CPU_LEVELS)[number];

export interface SmpArguments extends Readonly<Record<CpuLevel, number>> {
  readonly cpus: number;
  readonly maxCpus: number;
}

export const ONE_PROCESSOR: SmpArguments = { cpus: 1, maxCpus: 1, sockets: 1, dies: 1, clusters: 1, modules: 1, cores: 1, threads: 1 };

/** The levels that a board has; the others are one. */
export const cpuLevels = {
  virt: ["sockets", "clusters", "cores", "threads"],
  q35: ["sockets", "dies", "modules", "cores", "threads"],
} as const satisfies Readonly<Record<BoardKind, readonly CpuLevel[]>>;

/** Machine types before this one have sockets before cores. */
const CORES_FIRST = [6, 2] as const;

/**
 * Processors of a machine; missing levels of the topology are computed as QEMU does (hw/core/machine-smp.c).
 * @throws Refusal in QEMU's words
 */
export function parseSmp(value: string, board: BoardKind, [major, minor]: readonly [number, number]): SmpArguments {
  const { values } = parseOptionString("-smp", value, "cpus");
  const levels: readonly CpuLevel[] = cpuLevels[board];
  const numbers = new Map<string, number>();
  for (const [key, given] of values) {
    if (!["cpus", "maxcpus", "drawers", "books", ...CPU_LEVELS].includes(key)) {
      throw new Refusal(`Parameter 'smp.${key}' is unexpected`, { wouldWork: `cpus, maxcpus, ${levels.join(", ")}` });
    }
    if (!/^\d+$/.test(String(given))) {
      throw new Refusal(`Parameter 'smp.${key}' expects integer`, { found: `${key}=${String(given)}` });
    }
    if (Number(given) === 0) {
      throw new Refusal("Invalid CPU topology: CPU topology parameters must be greater than zero", { found: `${key}=0` });
    }
    numbers.set(key, Number(given));
  }
  for (const level of ["modules", "clusters", "dies", "books", "drawers"] as const) {
    if ((numbers.get(level) ?? 1) > 1 && !levels.some((one) => one === level)) {
      throw new Refusal(`${level} > 1 not supported by this machine's CPU topology`, { found: `${level}=${numbers.get(level)!}`, wouldWork: levels.join(", ") });
    }
  }
  const asked = numbers.get("maxcpus") ?? numbers.get("cpus");
  const [dies, clusters, modules] = [numbers.get("dies") ?? 1, numbers.get("clusters") ?? 1, numbers.get("modules") ?? 1];
  const between = dies * clusters * modules;
  let [sockets, cores, threads] = [numbers.get("sockets"), numbers.get("cores"), numbers.get("threads")];
  const coresFirst = major > CORES_FIRST[0] || (major === CORES_FIRST[0] && minor >= CORES_FIRST[1]);
  if (asked === undefined) {
    [sockets, cores, threads] = [sockets ?? 1, cores ?? 1, threads ?? 1];
  } else if (coresFirst ? cores === undefined : sockets !== undefined && cores === undefined) {
    [sockets, threads] = [sockets ?? 1, threads ?? 1];
    cores = Math.floor(asked / (sockets * between * threads));
  } else if (sockets === undefined) {
    [cores, threads] = [cores ?? 1, threads ?? 1];
    sockets = Math.floor(asked / (between * cores * threads));
  } else {
    threads ??= Math.floor(asked / (sockets * between * cores!));
  }
  const smp = { sockets, dies, clusters, modules, cores: cores!, threads };
  const total = sockets * between * smp.cores * threads;
  const maxCpus = asked ?? total;
  const cpus = numbers.get("cpus") ?? maxCpus;
  const product = levels.map((level) => `${level} (${smp[level]})`).join(" * ");
  if (total !== maxCpus) {
    throw new Refusal(`Invalid CPU topology: product of the hierarchy must match maxcpus: ${product} != maxcpus (${maxCpus})`, { wouldWork: `-smp ${maxCpus}` });
  }
  if (cpus > maxCpus) {
    throw new Refusal(`Invalid CPU topology: maxcpus must be equal to or greater than smp: ${product} == maxcpus (${maxCpus}) < smp_cpus (${cpus})`, { wouldWork: `maxcpus=${cpus}` });
  }
  return { cpus, maxCpus, ...smp };
}

/** Number of a processor at each level, counted in the level before. */
export function placeOfCpu(smp: SmpArguments, cpu: number): Record<CpuLevel, number> {
  const place = { sockets: 0, dies: 0, clusters: 0, modules: 0, cores: 0, threads: 0 };
  let rest = cpu;
  for (const level of [...CPU_LEVELS].reverse()) {
    place[level] = level === "sockets" ? rest : rest % smp[level];
    rest = Math.floor(rest / smp[level]);
  }
  return place;
}

const bitsOf = (count: number): number => Math.ceil(Math.log2(count));

/** Initial APIC id of a processor: each level has whole bits (SDM 3A, 9.9.1). */
export function apicIdOf(smp: SmpArguments, cpu: number): number {
  const place = placeOfCpu(smp, cpu);
  return (["dies", "modules", "cores", "threads"] as const).reduce((id, level) => id * 2 ** bitsOf(smp[level]) + place[level], place.sockets);
}
