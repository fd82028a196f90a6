/** The account of a run for people: 80 columns, colours where the terminal has them. */
import pc from "picocolors";
import { byteText, plural, wrap } from "../support/index.js";
import type { IommuReport, RunReport } from "./report/index.js";
import { machineTree } from "./tree.js";

export interface AccountOptions {
  readonly color: boolean;
  readonly width?: number;
}

/** Warnings and notes beyond these are counted only. */
const SHOWN = 12;

export function formatAccount(report: RunReport, options: AccountOptions): string {
  const width = options.width ?? 80;
  const color = pc.createColors(options.color);
  const lines: string[] = [];
  const title = (text: string): void => {
    lines.push("", color.bold(text));
  };
  const row = (name: string, text: string): void => {
    const [first, ...rest] = wrap(text, width - 16);
    lines.push(`  ${name.padEnd(13)} ${first}`);
    rest.forEach((line) => lines.push(`${" ".repeat(18)}${line}`));
  };
  const { machine } = report;

  lines.push(color.bold(`Machine ${machine.type}`) + ` on ${report.host}`);
  row("memory", `${byteText(machine.memory)}, ${plural(machine.cpus, "CPU")}, ${machine.gicVersion === null ? "IOAPIC" : `GICv${machine.gicVersion}`}, MSIs by ${msiName(machine.msiController)}`);
  for (const iommu of machine.iommus) {
    row(iommu.id, `${iommu.accel ? `accelerated by ${iommu.hostIommu ?? "nobody yet"}` : "translates in software"}, covers ${covered(machine, iommu.id)}; ${features(iommu.features)}`);
  }
  lines.push(...machineTree(machine, width - 2).map((line) => `  ${line}`));
  if (machine.otherDevices.length > 0) {
    row("not modelled", machine.otherDevices.map(({ id, model, bus }) => `${model}${id === "" ? "" : ` ${id}`}${bus === null ? "" : ` on ${bus}`}`).join(", "));
  }

  if (report.kernel !== null) {
    title("Guest kernel");
    kernelRows(report.kernel, row);
  }
  if (report.guest !== null) {
    title(`Guest ${report.guest.name}`);
    lines.push(...guestLines(report.guest, options));
  }

  title("What happened");
  row("DMA", `${plural(report.dma.transactions, "transaction")}, ${byteText(report.dma.bytes)}, ${plural(report.dma.faults, "fault")}` +
    (report.dma.ofHost ? "" : " of emulated functions, the host's are not counted") +
    (report.guest === null ? "" : `; ${byteText(report.guest.dmaChecked)} compared`));
  row("events", report.events.length === 0 ? "none" : counted(report.events.map((event) => `${event.name} (${event.iommu})`)));
  const viaRoutes = report.msi.routes.reduce((sum, route) => sum + route.delivered, 0);
  row("MSIs", `${plural(report.msi.delivered, "message")} delivered, ${viaRoutes} over ${plural(report.msi.routes.length, "route")}` + doorbells(report));
  const { guestCommands, forwarded, hostCalls } = report.invalidation;
  row("invalidation", `${plural(guestCommands, "guest command")} in, ${forwarded} done by hosts in ${plural(hostCalls, "call")}`);
  blocked(machine).forEach((text, index) => row(index === 0 ? "blocked" : "", text));
  row("host calls", Object.entries(report.hostCalls).map(([name, count]) => `${name} ${count}`).join(", ") || "none");
  const { created, freed, alive } = report.hostObjects;
  row("host objects", `${created} made, ${freed} freed, ${alive} left`);

  if (report.recording !== null) {
    const { rows, bytes, complete, reason } = report.recording;
    row("recording", `${plural(rows, "row")}, ${byteText(bytes)}${complete ? "" : `; it is not complete: ${reason}`}`);
  }

  list(lines, color.yellow("Warnings"), report.warnings, width);
  list(lines, color.bold("About the arguments"), report.notes, width);
  lines.push("", report.ok ? color.green("ok") : color.red(`failed: ${report.failure ?? ""}`));
  return `${lines.join("\n")}\n`;
}

/** A line for each of the guest's steps and for what it said besides, and more where one is long. */
export function guestLines(guest: NonNullable<RunReport["guest"]>, options: AccountOptions): string[] {
  const color = pc.createColors(options.color);
  const steps = guest.steps.flatMap((step) => {
    const mark = step.skipped !== null ? color.dim("skip") : step.ok ? color.green("ok  ") : color.red("FAIL");
    const [first, ...rest] = wrap(`${step.name}: ${step.skipped ?? step.detail}`.replaceAll("\n", " "), (options.width ?? 80) - 7);
    return [`  ${mark} ${first}`, ...rest.map((line) => `         ${line}`)];
  });
  const said = guest.said.flatMap((text) => {
    const [first, ...rest] = wrap(text.replaceAll("\n", " "), (options.width ?? 80) - 7);
    return [`  ${color.dim("said")} ${first}`, ...rest.map((line) => `         ${line}`)];
  });
  return [...steps, ...said];
}

/** What a kernel's vCPUs did. */
function kernelRows(kernel: NonNullable<RunReport["kernel"]>, row: (name: string, text: string) => void): void {
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const most = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .sort((a, b) => b[1] - a[1])
      .slice(0, SHOWN)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ") || "none";
  row("end", `${kernel.end}${kernel.reason === null ? "" : `: ${kernel.reason}`}, after ${seconds(kernel.runMs)}${kernel.resets === 0 ? "" : `, ${plural(kernel.resets, "reset")}`}`);
  row("boot", kernel.bootMs === null ? "its first program was not seen to start" : `${seconds(kernel.bootMs)} to its first program`);
  row("vCPUs", `${plural(kernel.vcpus, "vCPU")}, ${seconds(kernel.vcpuMs)} of processor time, KVM_RUN ${kernel.runs}`);
  row("exits", most(kernel.exits) + (kernel.keptWrites === 0 ? "" : `; ${plural(kernel.keptWrites, "write")} without one`) + (kernel.registerPages === 0 ? "" : `; registers of ${plural(kernel.registerPages, "IOMMU")} read as memory`));
  row("devices", most(kernel.exitsByDevice));
  const { perThousandInvalidations: each } = kernel;
  if (each !== null) {
    row("invalidating", `${plural(each.exits, "exit")} and ${plural(each.hostCalls, "host call")} for each 1000 of the guest's commands`);
  }
}

function list(lines: string[], title: string, texts: readonly string[], width: number): void {
  if (texts.length === 0) {
    return;
  }
  lines.push("", title);
  for (const text of texts.slice(0, SHOWN)) {
    const [first, ...rest] = wrap(text.replaceAll("\n", " "), width - 4);
    lines.push(`  - ${first}`, ...rest.map((line) => `      ${line}`));
  }
  if (texts.length > SHOWN) {
    lines.push(`  and ${texts.length - SHOWN} more (--json has all)`);
  }
}

/** Functions whose requests reach nothing at the end of the run, and why: a text for each reason. */
function blocked({ iommus }: RunReport["machine"]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { function: name, pasid, reason } of iommus.flatMap(({ bindings }) => bindings)) {
    if (reason !== null) {
      byReason.set(reason, [...(byReason.get(reason) ?? []), pasid === null ? name : `${name} PASID ${pasid}`]);
    }
  }
  const texts = [...byReason].map(([reason, names]) => {
    const more = names.length - SHOWN;
    return `${names.slice(0, SHOWN).join(", ")}${more > 0 ? ` and ${more} more` : ""} at the end: ${reason}`;
  });
  return texts.length <= SHOWN ? texts : [...texts.slice(0, SHOWN), `and for ${texts.length - SHOWN} more reasons (--json has all)`];
}

/** The root buses that an IOMMU covers: none that bypasses it. */
function covered(machine: RunReport["machine"], iommu: string): string {
  return machine.buses.filter((bus) => bus.iommu === iommu).map((bus) => bus.id).join(", ") || "no bus";
}

function doorbells(report: RunReport): string {
  const distinct = [...new Set(report.msi.routes.map((route) => `${route.iova} to ${route.doorbell ?? "nowhere"}${route.direct ? " (told by the SMMU)" : ""}`))];
  return distinct.length === 0 ? "" : `: ${distinct.slice(0, 4).join(", ")}${distinct.length > 4 ? ` and ${distinct.length - 4} more` : ""}`;
}

function counted(names: readonly string[]): string {
  const counts = new Map<string, number>();
  names.forEach((name) => counts.set(name, (counts.get(name) ?? 0) + 1));
  return [...counts].map(([name, count]) => (count === 1 ? name : `${count} x ${name}`)).join(", ");
}

function features(of: IommuReport["features"]): string {
  if ("stage" in of) {
    return `stage ${of.stage}, ril ${onOff(of.ril)}, ats ${onOff(of.ats)}, oas ${of.oas}, ssidsize ${of.ssidsize}${of.msi ? ", msi on" : ""}`;
  }
  const mode = of.scalableMode ? `scalable mode, fsts ${onOff(of.fsts)}, pasid-bits ${of.pasidBits}` : "legacy mode";
  return `${mode}, aw-bits ${of.awBits}, device-iotlb ${onOff(of.deviceIotlb)}, intremap ${onOff(of.intremap)}`;
}

function onOff(value: boolean): string {
  return value ? "on" : "off";
}

function msiName(controller: RunReport["machine"]["msiController"]): string {
  return controller === "apic" ? "the local APICs" : controller === "its" ? "the ITS" : controller === "gicv2m" ? "the GICv2m frame" : "nobody";
}
