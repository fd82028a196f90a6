/** `info mtree`: the tree of memory regions, and the flat view that it makes (QEMU's system/memory.c, mtree_info). */
import type { AddressSpace, MemoryRegion } from "../../memory/index.js";

interface Placed {
  readonly region: MemoryRegion;
  readonly base: number;
  readonly priority: number;
}

/** @param disabled shows regions that are not enabled too */
export function formatMemoryTree(memory: AddressSpace, disabled: boolean): string {
  const targets = new Set<MemoryRegion>();
  const space = `address-space: ${memory.name}\n${lines({ region: memory.root, base: 0, priority: 0 }, 1, disabled, targets)}\n`;
  // What aliases show parts of stands by itself, as in QEMU.
  let text = space;
  for (const target of targets) {
    text += `memory-region: ${target.name}\n${lines({ region: target, base: 0, priority: 0 }, 1, disabled, targets)}\n`;
  }
  return text;
}

function lines({ region, base, priority }: Placed, depth: number, disabled: boolean, targets: Set<MemoryRegion>): string {
  if (!region.enabled && !disabled) {
    return "";
  }
  const range = `${address(base)}-${address(base + region.size - 1)}`;
  const off = region.enabled ? "" : " [disabled]";
  const { target } = region;
  if (target !== null) {
    targets.add(target);
    const shown = `${address(region.ramOffset)}-${address(region.ramOffset + region.size - 1)}`;
    return `${"  ".repeat(depth)}${range} (prio ${priority}, ${kind(target)}): alias ${region.name} @${target.name} ${shown}${off}\n`;
  }
  // By address, then what lies above first (memory.c, mtree_print_mr).
  const below = [...region.layers].sort((a, b) => a.offset - b.offset || b.priority - a.priority);
  return (
    `${"  ".repeat(depth)}${range} (prio ${priority}, ${kind(region)}): ${region.name}${off}\n` +
    below.map((child) => lines({ region: child.region, base: base + child.offset, priority: child.priority }, depth + 1, disabled, targets)).join("")
  );
}

export function formatFlatView(memory: AddressSpace): string {
  const sections = memory.sections().map(({ region, offset, address: start, size }) => {
    const from = offset === 0 ? "" : ` @${address(offset)}`;
    return `  ${address(start)}-${address(start + size - 1)} (prio ${priorityOf(memory.root, region) ?? 0}, ${kind(region)}): ${region.name}${from}\n`;
  });
  return `FlatView #0\n AS "${memory.name}", root: ${memory.root.name}\n Root memory region: ${memory.root.name}\n${sections.join("")}\n`;
}

function priorityOf(root: MemoryRegion, wanted: MemoryRegion): number | null {
  for (const { region, priority } of root.target?.layers ?? root.layers) {
    const found = region === wanted ? priority : priorityOf(region, wanted);
    if (found !== null) {
      return found;
    }
  }
  return null;
}

function kind(region: MemoryRegion): string {
  return region.kind === "mmio" ? "i/o" : region.kind === "alias" ? "container" : region.kind;
}

function address(value: number): string {
  return value.toString(16).padStart(16, "0");
}
