/** The host of a run: a simulated one, or the Linux that this process runs on. */
import type { Wanted } from "../host/doctor/index.js";
import { loadHost } from "../host/shipped/index.js";
import type { HostDescription } from "../host/simulated/file/index.js";
import { createSimulatedHost } from "../host/simulated/host/index.js";
import type { Host } from "../iommufd/index.js";
import { DEFAULT_RAM, type MachineArguments } from "../machine/arguments/index.js";
import { hostFunctionAddress, type Machine, nameDescriptors } from "../machine/index.js";
import type { MakeMemory } from "../memory/index.js";
import { Refusal } from "../support/index.js";
import type { HostFunctionDma } from "./collect.js";
import { UnclaimedFaults } from "./unclaimed-faults.js";

/** A simulated host by its description, or "linux": this machine. */
export type HostToRun = HostDescription | "linux";

/** The host by the name that a user gives it: a file, a shipped one, or "linux". @throws Refusal */
export async function hostToRun(name: string): Promise<HostToRun> {
  return name === "linux" ? "linux" : loadHost(name);
}

export interface OpenHost {
  readonly host: Host;
  /** The machine is there: what the host alone sees of its functions becomes warnings. */
  watch(machine: Machine): void;
  /** DMA of the host's functions, as the hardware counts it; null: it cannot be asked. */
  dma(): HostFunctionDma[] | null;
  close(): void;
}

/**
 * The arguments as they are for a host: on a simulated one functions that are named by descriptors get their addresses.
 * @param said function of the host by the descriptor's number
 * @throws Refusal
 */
export function argumentsFor(which: HostToRun, args: MachineArguments, said: ReadonlyMap<string, string> = new Map()): MachineArguments {
  if (which !== "linux") {
    return nameDescriptors(args, { said, functions: which.functions.filter(({ driver }) => driver === "vfio-pci").map(({ address }) => address) });
  }
  if (said.size > 0) {
    throw new Refusal("--fd is for simulated hosts", { found: "a Linux host, where fd=N is a descriptor of this process", wouldWork: "leaving --fd out; host=ADDRESS in the line" });
  }
  return args;
}

/** @throws Refusal where this Linux cannot take the machine, with all that is in the way */
export async function openHost(which: HostToRun, args: MachineArguments, makeMemory?: MakeMemory): Promise<OpenHost> {
  if (which === "linux") {
    const [{ checkHost }, { LinuxHost }] = await Promise.all([import("../host/doctor/index.js"), import("../host/linux/index.js")]);
    checkHost(wanted(args));
    const host = new LinuxHost({ makeMemory });
    return { host, watch: () => {}, dma: () => null, close: () => host.close() };
  }
  const simulated = createSimulatedHost(which, { makeMemory });
  return {
    host: simulated,
    watch: (machine) => simulated.kernel.onUnclaimedFault(new UnclaimedFaults(machine).take),
    dma: () =>
      [...simulated.hardware.functions.values()].map(({ description: { address }, counters: { transactions, bytes, faults } }) => ({ address, transactions, bytes, faults })),
    close: () => simulated.close(),
  };
}

/**
 * What a machine wants of a Linux: the functions that its arguments name by address or sysfs folder. Descriptors have
 * been opened by who gave them.
 */
export function wanted({ devices, objects, memory }: Pick<MachineArguments, "devices" | "objects" | "memory">): Wanted {
  const ours = devices.filter(({ model }) => model.name === "vfio-pci");
  const functions = ours.flatMap((device) => (device.properties.has("fd") ? [] : (hostFunctionAddress(device) ?? [])));
  const iommufds = objects.filter(({ type }) => type === "iommufd");
  const used = iommufds.filter(({ id }) => ours.some(({ properties }) => properties.get("iommufd") === id));
  return {
    functions,
    opensIommufd: used.some(({ fd }) => fd === undefined),
    pinnedBytes: (memory.size ?? DEFAULT_RAM) * used.length,
  };
}
