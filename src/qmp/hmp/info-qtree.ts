/** `info qtree`: buses and devices with their properties (QEMU's system/qdev-monitor.c). */
import { boardTraits } from "../../machine/arguments/index.js";
import { isSmmu } from "../../machine/index.js";
import { type PciBus, PCI_CLASSES, type PciFunction } from "../../pci/index.js";
import type { PciDeviceInfo } from "../pci-info.js";
import { findNode, type QomNode, type QomProperty } from "../qom/node.js";
import { qomTree } from "../qom/tree.js";
import type { MonitorTarget } from "../target.js";

/** @param brief leaves properties out */
export function formatDeviceTree(target: MonitorTarget, brief: boolean): string {
  const { board } = target.machine;
  const root = qomTree(target);
  const out: string[] = ["bus: main-system-bus\n", "  type System\n"];
  const line = (depth: number, text: string): void => {
    out.push(`${"  ".repeat(depth)}${text}\n`);
  };
  const properties = (depth: number, node: QomNode, fn: PciFunction | null): void => {
    for (const [name, property] of brief ? [] : node.properties) {
      if (property.setting === true) {
        line(depth, `${name} = ${name === "addr" && fn !== null ? `${hex(fn.devfn >> 3, 2)}.${fn.devfn & 7}` : formatProperty(property)}`);
      }
    }
  };
  const bus = (depth: number, one: PciBus): void => {
    line(depth, `bus: ${one.id}`);
    line(depth + 1, `type ${one.typeName}`);
    // The last one that came is the first, as in QEMU.
    [...one.functions.values()].reverse().forEach((fn) => device(depth + 1, fn));
  };
  const device = (depth: number, fn: PciFunction): void => {
    line(depth, `dev: ${fn.model}, id "${fn.id}"`);
    const path = board.names.pathOf(fn);
    if (path !== "") {
      properties(depth + 1, findNode(root, path).node, fn);
    }
    if (!brief) {
      functionLines(fn).forEach((text) => line(depth + 1, text));
    }
    fn.secondaryBuses.filter((one) => !one.isRoot).forEach((one) => bus(depth + 1, one));
  };
  for (const iommu of [...board.iommus].reverse()) {
    line(1, `dev: ${iommu.argument?.model.name ?? "arm-smmuv3"}, id "${iommu.argument?.id ?? ""}"`);
    if (isSmmu(iommu)) {
      line(2, 'gpio-out "sysbus-irq" 4');
    }
    const path = board.names.pathOf(iommu.device);
    if (path !== "") {
      properties(2, findNode(root, path).node, null);
    }
    if (isSmmu(iommu)) {
      line(2, `mmio ${hex(iommu.base, 16)}/${hex(iommu.size, 16)}`);
    }
  }
  const rootHost = boardTraits[board.kind].hostBridge;
  for (const one of board.pci.rootBuses().reverse()) {
    line(1, one.bridge === null ? `dev: ${rootHost}, id ""` : 'dev: pxb-host, id ""');
    bus(2, one);
  }
  return out.join("");
}

function formatProperty({ type, value }: QomProperty): string {
  if (typeof value === "number" || typeof value === "bigint") {
    return type === "size" ? `${value} (${bytes(Number(value))})` : `${value} (0x${BigInt.asUintN(64, BigInt(value)).toString(16)})`;
  }
  return typeof value === "boolean" ? String(value) : `"${typeof value === "string" ? value : JSON.stringify(value)}"`;
}

/** With the unit that leaves at least one, as QEMU's size_to_str. */
function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = 0;
  let left = value;
  while (left >= 1000 && unit < units.length - 1) {
    left /= 1024;
    unit++;
  }
  return `${Number(left.toPrecision(3))} ${units[unit]}`;
}

function functionLines(fn: PciFunction): string[] {
  const { config } = fn;
  const code = config.get16(0x0a);
  const name: PciDeviceInfo["class_info"]["desc"] = PCI_CLASSES.get(code);
  const place = `${hex(fn.bus?.number ?? 0, 2)}:${hex(fn.devfn >> 3, 2)}.${fn.devfn & 7}`;
  const isBridge = (config.bytes[0x0e] & 0x7f) === 1;
  const sub = isBridge ? "0000:0000" : `${hex(config.get16(0x2c), 4)}:${hex(config.get16(0x2e), 4)}`;
  return [
    `class ${name ?? `Class ${hex(code, 4)}`}, addr ${place}, pci id ${hex(config.get16(0), 4)}:${hex(config.get16(2), 4)} (sub ${sub})`,
    ...fn.bars.map((bar) => {
      const start = fn.decodesMemory ? fn.barAddress(bar) : 2n ** 64n - 1n;
      return `bar ${bar.index}: mem at 0x${start.toString(16)} [0x${BigInt.asUintN(64, start + BigInt(bar.size) - 1n).toString(16)}]`;
    }),
  ];
}

function hex(value: number, width: number): string {
  return value.toString(16).padStart(width, "0");
}
