/** -smp. */
import { Refusal } from "../../support/index.js";
import { parseOptionString } from "./option-string.js";

export interface SmpArguments {
  readonly cpus: number;
  readonly maxCpus: number;
}

/**
 * Processors of a machine; missing levels of the topology are computed as QEMU does (hw/core/machine-smp.c, cores
 * before sockets).
 * @throws Refusal in QEMU's words
 */
export function parseSmp(value: string): SmpArguments {
  const { values } = parseOptionString("-smp", value, "cpus");
  const numbers = new Map<string, number>();
  for (const [key, given] of values) {
    if (!["cpus", "maxcpus", "drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads"].includes(key)) {
      throw new Refusal(`Parameter 'smp.${key}' is unexpected`, { wouldWork: "cpus, maxcpus, sockets, clusters, cores, threads" });
    }
    if (!/^\d+$/.test(String(given))) {
      throw new Refusal(`Parameter 'smp.${key}' expects integer`, { found: `${key}=${String(given)}` });
    }
    if (Number(given) === 0) {
      throw new Refusal("Invalid CPU topology: CPU topology parameters must be greater than zero", { found: `${key}=0` });
    }
    numbers.set(key, Number(given));
  }
  for (const level of ["drawers", "books", "dies", "modules"]) {
    if ((numbers.get(level) ?? 1) > 1) {
      throw new Refusal(`${level} > 1 not supported by this machine's CPU topology`, { found: `${level}=${numbers.get(level)!}`, wouldWork: "sockets, clusters, cores, threads" });
    }
  }
  const asked = numbers.get("maxcpus") ?? numbers.get("cpus");
  const clusters = numbers.get("clusters") ?? 1;
  let [sockets, cores, threads] = [numbers.get("sockets"), numbers.get("cores"), numbers.get("threads")];
  if (asked === undefined) {
    [sockets, cores, threads] = [sockets ?? 1, cores ?? 1, threads ?? 1];
  } else if (cores === undefined) {
    [sockets, threads] = [sockets ?? 1, threads ?? 1];
    cores = Math.floor(asked / (sockets * clusters * threads));
  } else if (sockets === undefined) {
    threads ??= 1;
    sockets = Math.floor(asked / (clusters * cores * threads));
  } else {
    threads ??= Math.floor(asked / (sockets * clusters * cores));
  }
  const total = sockets * clusters * cores * threads;
  const maxCpus = asked ?? total;
  const cpus = numbers.get("cpus") ?? maxCpus;
  const product = `sockets (${sockets}) * clusters (${clusters}) * cores (${cores}) * threads (${threads})`;
  if (total !== maxCpus) {
    throw new Refusal(`Invalid CPU topology: product of the hierarchy must match maxcpus: ${product} != maxcpus (${maxCpus})`, { wouldWork: `-smp ${maxCpus}` });
  }
  if (cpus > maxCpus) {
    throw new Refusal(`Invalid CPU topology: maxcpus must be equal to or greater than smp: ${product} == maxcpus (${maxCpus}) < smp_cpus (${cpus})`, { wouldWork: `maxcpus=${cpus}` });
  }
  return { cpus, maxCpus };
}
