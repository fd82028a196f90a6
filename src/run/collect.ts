/** Fills the account of a run from the machine, the host and the guest. */
import type { CallCounter } from "../host/instruments/index.js";
import type { Machine, MachineDescription } from "../machine/index.js";
import { hex, type Log } from "../support/index.js";
import { type GuestReport, isProvoked } from "../guest/index.js";
import type { RunReport } from "./report/index.js";
import type { Said } from "./said.js";

/** DMA of one function of the host. */
export interface HostFunctionDma {
  /** Host PCI address. */
  readonly address: string;
  readonly transactions: number;
  readonly bytes: number;
  readonly faults: number;
}

export function dmaReport(machine: Machine, host: readonly HostFunctionDma[] | null, names: ReadonlyMap<string, string>): RunReport["dma"] {
  const functions = [
    ...machine.accounts().dma.map((one) => ({ function: one.function, transactions: one.transactions, bytes: one.bytes, faults: one.faults })),
    ...(host ?? [])
      .filter((one) => names.has(one.address))
      .map((one) => ({ function: names.get(one.address)!, transactions: one.transactions, bytes: one.bytes, faults: one.faults })),
  ];
  const sum = (key: "transactions" | "bytes" | "faults"): number => functions.reduce((total, one) => total + one[key], 0);
  return { ofHost: host !== null, transactions: sum("transactions"), bytes: sum("bytes"), faults: sum("faults"), functions };
}

export function msiReport(machine: Machine): RunReport["msi"] {
  const { msi, messages } = machine.accounts();
  return {
    delivered: messages,
    routes: msi.map((route) => ({ ...route, iova: hex(route.iova), doorbell: route.doorbell === null ? null : hex(route.doorbell) })),
  };
}

export function invalidationReport(machine: Machine): RunReport["invalidation"] {
  const iommus = machine.accounts().invalidation.map((one) => ({ ...one, commands: { ...one.commands } }));
  const sum = (key: "guestCommands" | "forwarded" | "hostCalls"): number => iommus.reduce((total, one) => total + one[key], 0);
  return { guestCommands: sum("guestCommands"), forwarded: sum("forwarded"), hostCalls: sum("hostCalls"), iommus };
}

export function guestReport(name: string, guest: GuestReport | null, said: Said): RunReport["guest"] {
  return guest === null
    ? null
    : {
        name,
        ok: guest.ok,
        dmaChecked: guest.dmaChecked,
        said: said.besides(guest),
        steps: guest.steps.map((step) => ({ name: step.name, ok: step.ok, skipped: step.skipped ?? null, detail: step.detail })),
      };
}

/** Events of the guest's queues, with the IOMMU's name as the user has it where the guest knows it by its address. */
export function eventReport(guest: GuestReport | null, machine: MachineDescription): RunReport["events"] {
  return namedEvents(guest, (name) => userNameOf(name, machine));
}

/** The user's name of an IOMMU that the guest knows by its address. */
function userNameOf(name: string, machine: MachineDescription): string {
  return machine.iommus.find((iommu) => name.endsWith(`@${iommu.base.toString(16)}`))?.id ?? name;
}

/** Events of the guest's queues; `nameOf` gives an IOMMU's name for the one that the guest has. */
export function namedEvents(guest: GuestReport | null, nameOf: (iommu: string) => string): RunReport["events"] {
  return (guest?.events ?? []).map((event) => ({
    iommu: nameOf(event.iommu),
    name: event.name,
    number: event.number,
    streamId: event.streamId,
    substreamId: event.substreamId,
    inputAddress: hex(event.inputAddress),
    ipa: hex(event.ipa),
    read: event.read,
    stage2: event.stage2,
  }));
}

export function hostCallReport(counter: CallCounter): RunReport["hostCalls"] {
  return Object.fromEntries([...counter.calls].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Warnings, guest errors among them but the faults that the guest meant to happen, and how many more there were. */
export function warningReport(log: Log, guest: GuestReport | null, machine: MachineDescription): string[] {
  const provoked = (guest?.provoked ?? []).map(({ event, length }) => ({ event: { ...event, iommu: userNameOf(event.iommu, machine) }, length }));
  return log.warningsBut((fault) => isProvoked(fault, provoked));
}
