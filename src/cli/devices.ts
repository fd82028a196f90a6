import type { Command } from "commander";
import { describeSpace } from "../devices/index.js";
import { type BoardKind, type DeviceModel, deviceCatalogue, deviceModels, findDeviceModel, OLDER_NAMES, type RecordedDevice, refusedFamily, typeName } from "../machine/arguments/index.js";
import { wrap } from "../support/index.js";
import type { Streams } from "./streams.js";

/** `viommu devices`: what -device takes. */
export function addTo(devices: Command, streams: Streams, finish: (code: number) => void): void {
  devices.action(() => {
    for (const category of ["iommu", "bridge", "passthrough", "endpoint", "memory"] as const) {
      for (const model of [...deviceModels.values()].filter((one) => one.category === category)) {
        wrap(model.description, 60).forEach((line, index) => streams.out(`${(index === 0 ? model.name : "").padEnd(index === 0 ? 20 : 22)}${line}\n`));
      }
    }
    otherDevices().forEach((line) => streams.out(`${line}\n`));
    finish(0);
  });
}

/** The name is not one more of a modelled device. */
function findsNoOther(name: string): boolean {
  return refusedFamily(name) !== null || findDeviceModel(name).model.name === name;
}

/** Types of QEMU's that are not modelled, by what becomes of them. */
function otherDevices(): string[] {
  const catalogue = deviceCatalogue();
  const all = catalogue.names().map((name) => catalogue.find(name)!).filter(({ name }) => !deviceModels.has(name) && !OLDER_NAMES.has(name) && findsNoOther(name));
  const isRefused = (one: RecordedDevice): boolean => refusedFamily(one.name) !== null || one.boards.every((board) => one.refused(board) !== null);
  const section = (title: string, those: readonly RecordedDevice[]): string[] => ["", title, ...columns(those.map(({ name }) => name))];
  const taken = all.filter((one) => !isRefused(one));
  const buses = [...new Set(taken.map(({ bus }) => bus))].filter((bus) => bus !== "PCI").sort((a, b) => String(a).localeCompare(String(b)));
  return [
    ...section(`PCI functions of QEMU ${catalogue.version}, placed and not modelled:`, taken.filter(({ bus }) => bus === "PCI")),
    ...buses.flatMap((bus) => section(`${bus === null ? "Of no bus" : `Of buses of type ${bus}`}, taken and not modelled:`, taken.filter((one) => one.bus === bus))),
    ...section("Not here (viommu device NAME tells why):", all.filter(isRefused)),
    "",
    `${catalogue.processors().length} processors (-smp says how many there are). Older names: ${[...OLDER_NAMES.keys()].join(", ")}.`,
  ].flatMap((line) => (line.length > 80 ? wrap(line, 80) : [line]));
}

/** `viommu device NAME`: what stands behind it. */
export function addDeviceTo(device: Command, streams: Streams, finish: (code: number) => void): void {
  device
    .argument("<name>", "such as arm-smmuv3")
    .action((name: string) => {
      const { model, note } = findDeviceModel(name);
      streams.out(`${note === null ? "" : `${note}\n`}${describe(model)}`);
      finish(0);
    });
}

function describe(model: DeviceModel): string {
  const all = [...model.properties.values()];
  const used = all.filter((property) => property.withoutEffect !== true && property.refused === undefined);
  const lines = [`${model.name}: ${model.description}`, model.hotpluggable ? "can be plugged while the machine runs" : "cannot be plugged while the machine runs", ...(model.recorded === undefined ? [] : recordedFacts(model.recorded)), "", "Properties:"];
  const own = [{ name: "id", type: "a name", text: "its name" }, ...(model.isPci ? [{ name: "bus", type: "id of a bus", text: "where it sits; default pcie.0" }] : [])];
  const row = (name: string, text: string): void => {
    if (name.length > 33) {
      lines.push(`  ${name}`);
    }
    const [first, ...rest] = wrap(text, 44);
    lines.push(`  ${(name.length > 33 ? "" : name).padEnd(34)}${first}`, ...rest.map((line) => `${" ".repeat(38)}${line}`));
  };
  for (const { name, type, text } of own) {
    row(`${name}=<${type}>`, text);
  }
  for (const property of used) {
    row(`${property.name}=<${typeName(property.type)}>`, property.description + (property.default === "" ? "" : ` (default ${property.default})`));
  }
  const idle = all.filter((property) => property.withoutEffect === true).map((property) => property.name);
  const refused = all.filter((property) => property.refused !== undefined);
  if (refused.length > 0) {
    lines.push("", "Not here:");
    refused.forEach((property) => row(property.name, property.refused!));
  }
  if (idle.length > 0) {
    lines.push("", model.recorded === undefined ? "Accepted, without effect:" : "Accepted, checked by their types:", ...columns(idle));
  }
  return `${lines.join("\n")}\n`;
}

/** What was recorded of a type: where it goes, what it makes, what a function is like. */
function recordedFacts(recorded: RecordedDevice): string[] {
  const { bus, boards, makes, needs } = recorded;
  const lines = [`of ${boards.join(" and ")}${bus === null || bus === "PCI" ? "" : `, on a ${bus}`}`];
  if (makes.length > 0) {
    lines.push(`makes ${makes.map(({ name, type }) => `${name.replace("$", "ID")} (${type})`).join(", ")}`);
  }
  if (needs !== null) {
    lines.push(`needs ${needs.properties.join(", ")}: ${needs.words}`);
  }
  const [board] = boards as readonly BoardKind[];
  let last = "";
  for (const [place, words] of [["port", "in a slot of a port"], ["root", "on a root bus"], ["conventional", "on conventional PCI"]] as const) {
    const space = recorded.space(board, place);
    if (space === null || typeof space === "string") {
      lines.push(...(space === null ? [] : [`${words}: ${space}`]));
      continue;
    }
    const { ids, classCode, revision, bars, capabilities } = describeSpace(space);
    const text = [`${ids}, class ${classCode}, revision ${revision}`, ...bars, ...(capabilities.length === 0 ? [] : [capabilities.join(", ")])];
    lines.push(`${words}:${text.join() === last ? " the same" : ""}`, ...(text.join() === last ? [] : text.map((line) => `  ${line}`)));
    last = text.join();
  }
  return lines.flatMap((line) => (line.length > 80 ? wrap(line, 80) : [line]));
}

function columns(names: readonly string[]): string[] {
  const lines: string[] = [];
  let line = " ";
  for (const name of names) {
    if (line.length + 1 + name.length > 78) {
      lines.push(line);
      line = " ";
    }
    line += ` ${name}`;
  }
  lines.push(line);
  return lines;
}
