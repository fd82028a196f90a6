import type { Command } from "commander";
import { type DeviceModel, deviceModels, findDeviceModel, typeName } from "../machine/arguments/index.js";
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
    finish(0);
  });
}

/** `viommu device NAME`: what stands behind it. */
export function addDeviceTo(device: Command, streams: Streams, finish: (code: number) => void): void {
  device
    .argument("<name>", "such as arm-smmuv3")
    .action((name: string) => {
      streams.out(describe(findDeviceModel(name).model));
      finish(0);
    });
}

function describe(model: DeviceModel): string {
  const all = [...model.properties.values()];
  const used = all.filter((property) => property.withoutEffect !== true && property.refused === undefined);
  const lines = [`${model.name}: ${model.description}`, model.hotpluggable ? "can be plugged while the machine runs" : "cannot be plugged while the machine runs", "", "Properties:"];
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
    lines.push("", "Accepted, without effect:", ...columns(idle));
  }
  return `${lines.join("\n")}\n`;
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
