/** A plan for people: the machine as a tree, with the reason of each choice. */
import { byteText, drawTree, indented, plural, type TreeNode } from "../../support/index.js";
import { onOff, vtdProperties } from "../qemu-words.js";
import type { MachinePlan, PlannedExpander, PlannedPort } from "../report/index.js";

/** @param qemu whose names properties have */
export function planText(plan: MachinePlan, qemu: string, width = 80): string {
  const lines: string[] = [];
  const row = (text: string, because: readonly string[]): void => {
    lines.push(...indented(text, width, "  "), ...because.flatMap((one) => indented(one, width, "    ")));
  };
  lines.push(`A ${plan.board} on ${plan.host}`);
  row(`${plural(plan.cpus, "CPU")}, ${byteText(plan.memory)}`, []);
  row(`memory for BARs above 4 GiB: ${plan.window.size === null ? "QEMU's" : byteText(plan.window.size)}`, plan.window.because);
  for (const cell of groupedCells(plan)) {
    row(cell.text, cell.because);
  }
  if (plan.vtd !== null) {
    row(`intel-iommu ${plan.vtd.id}: ${vtdProperties(plan.vtd, qemu).map(([name, value]) => `${name}=${value}`).join(", ")}`, plan.vtd.because);
  }
  lines.push("", `pcie.0${plan.vtd === null ? "" : ` behind ${plan.vtd.id}`}`, ...drawTree(plan.expanders.map((one) => expanderNode(one)), width));
  const list = (title: string, texts: readonly string[]): void => {
    if (texts.length > 0) {
      lines.push("", title, ...texts.flatMap((text) => indented(text, width, "  ")));
    }
  };
  list("Before it starts", plan.preparations);
  list("Notes", plan.notes);
  return `${lines.join("\n")}\n`;
}

/** Nodes that are there for one reason are told once. */
function groupedCells({ cells }: MachinePlan): Array<{ text: string; because: readonly string[] }> {
  const told: Array<{ text: string; because: readonly string[] }> = [];
  for (const cell of cells) {
    const same = cells.filter(({ because }) => because.join() === cell.because.join());
    if (same[0] !== cell) {
      continue;
    }
    const what = cell.cpus === null ? "" : `: CPU${cell.cpus[1] > cell.cpus[0] ? `s ${cell.cpus[0]} to ${cell.cpus[1]}` : ` ${cell.cpus[0]}`}, ${byteText(cell.memory)}`;
    told.push({ text: `NUMA node${same.length > 1 ? `s ${cell.id} to ${same.at(-1)!.id}` : ` ${cell.id}`}${what}`, because: cell.because });
  }
  return told;
}

function expanderNode({ id, cell, bypass, smmu, ports, because }: PlannedExpander): TreeNode {
  const lines = (texts: readonly string[]): TreeNode["sections"] => texts.map((title) => ({ title, children: [] }));
  return {
    title: `pxb-pcie ${id}${cell === null ? "" : `, NUMA node ${cell}`}${bypass ? ", bypass_iommu=on" : ""}`,
    sections: [
      ...lines(because),
      ...(smmu === null ? [] : lines([`arm-smmuv3 ${smmu.id}: accel=on, ril=${onOff(smmu.ril)}, ats=${onOff(smmu.ats)}, oas=${smmu.oas}, ssidsize=${smmu.ssidsize}`, ...smmu.because])),
      { title: "", children: ports.map(portNode) },
    ],
  };
}

function portNode({ id, slot, number, functions, because }: PlannedPort): TreeNode {
  const title = (text: string): TreeNode["sections"][number] => ({ title: text, children: [] });
  return {
    title: `pcie-root-port ${id} at ${slot.toString(16).padStart(2, "0")}.${number}${functions.length === 0 ? ", empty" : ""}`,
    sections: [...because.map(title), ...functions.flatMap((fn) => [title(`vfio-pci ${fn.id} = host ${fn.host} (${fn.name})`), ...fn.because.map((one) => title(`  ${one}`))])],
  };
}
