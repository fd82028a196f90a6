/** A described host for people. */
import { createColors } from "picocolors";
import { HostFacts, type IommuFacts } from "../../plan/index.js";
import { plural } from "../../support/index.js";
import type { DescribedHost } from "../described/index.js";
import type { FunctionDescription, HostDescription, ReservedDescription } from "../simulated/file/index.js";
import { iommuOf } from "../simulated/names/index.js";

const BRIDGES = 0x06;
/** An IOMMU that is a PCI function itself. */
const CLASS_IOMMU = 0x0806;
/** Nodes whose distances are told at the most. */
const MOST_ROWS = 8;
/** Options of the kernel that are told of. */
const OPTIONS = ["CONFIG_IOMMUFD", "CONFIG_VFIO_DEVICE_CDEV", "CONFIG_ARM_SMMU_V3_IOMMUFD", "CONFIG_ARM_SMMU_V3_SVA", "CONFIG_TEGRA241_CMDQV", "CONFIG_INTEL_IOMMU", "CONFIG_INTEL_IOMMU_SVM", "CONFIG_AMD_IOMMU"];

export function formatHost(host: DescribedHost, { color = false } = {}): string {
  const paint = createColors(color);
  const { description } = host;
  const facts = new HostFacts(description);
  const lines = [paint.bold(description.name), ...general(host)];
  const shown = description.functions.filter((fn) => fn.class >>> 16 !== BRIDGES && fn.class >>> 8 !== CLASS_IOMMU);
  for (const { name } of [...description.smmus, ...description.vtds, ...description.amds]) {
    lines.push("", iommuLine(name, facts, description), ...shown.filter((fn) => iommuOf(fn) === name).flatMap((fn) => functionLines(fn, description)));
  }
  const alone = shown.filter((fn) => iommuOf(fn) === null);
  if (alone.length > 0) {
    lines.push("", "no IOMMU", ...alone.flatMap((fn) => functionLines(fn, description)));
  }
  if (host.remarks.length > 0) {
    lines.push("", ...host.remarks.map((remark) => `note: ${remark}`));
  }
  return `${lines.join("\n")}\n`;
}

function general({ description, nodes }: DescribedHost): string[] {
  const { memory, numa, hugepages, limits, kernelConfig, ports } = description;
  const total = memory.reduce((sum, { size }) => sum + size, 0);
  const nodeIds = [...new Set(memory.map(({ numaNode }) => numaNode))];
  const ofNodes = nodeIds.map((id) => `node ${id} ${bytes(memory.filter(({ numaNode }) => numaNode === id).reduce((sum, { size }) => sum + size, 0))}`);
  const lines = [`  memory     ${bytes(total)}${ofNodes.length > 1 ? ` (${ofNodes.join(", ")})` : ""}`];
  if (numa !== null) {
    const cpus = numa.nodes.filter((node) => (node.cpus ?? "") !== "").map(({ id, cpus: list }) => `node ${id}: ${list}`);
    const empty = numa.nodes.filter((node) => node.cpus === "");
    lines.push(`  processors ${cpus.join(", ") || "unknown"}${empty.length > 0 ? `; none in ${empty.length > 1 ? "nodes" : "node"} ${empty.map(({ id }) => id).join(", ")}` : ""}`);
    if (numa.nodes.length > 1 && numa.distances !== null) {
      lines.push(`  distances  ${numa.nodes.length > MOST_ROWS ? `of ${numa.nodes.length} nodes: --json has them` : numa.distances.map((row) => row.join(" ")).join(" / ")}`);
    }
  }
  const set = hugepages?.filter((one) => one.total > 0) ?? [];
  lines.push(`  huge pages ${hugepages === null ? "unknown" : set.length === 0 ? "none" : set.map(({ node, size, total: count, free }) => `${count} of ${bytes(size)}${node === null ? "" : ` in node ${node}`}${free === null ? "" : `, ${free} free`}`).join("; ")}`);
  const node = (path: string): string => `/${path} ${{ usable: "can be opened", forbidden: "is not for this user", absent: "is not there", unknown: "is unknown" }[nodes[path] ?? "unknown"]}`;
  lines.push(`  devices    ${node("dev/iommu")}, ${node("dev/kvm")}`);
  lines.push(`  locked RAM ${(limits?.memlock ?? null) === null ? "unknown" : limits!.memlock === "unlimited" ? "unlimited" : bytes(limits!.memlock!)}`);
  lines.push(`  kernel     ${kernelConfig === null ? "configuration unknown" : OPTIONS.filter((option) => option in kernelConfig && concerns(option, description)).map((option) => `${option.slice(7)}=${kernelConfig[option]}`).join(" ")}`);
  if (ports !== null && ports.length > 0) {
    const acs = ports.filter((port) => port.acs === true).length;
    lines.push(`  ports      ${ports.length}, ${ports.every((port) => port.acs === null) ? "ACS unknown" : `ACS on ${acs}`}`);
  }
  return lines;
}

/** Options of another architecture's IOMMU are of no use here. */
function concerns(option: string, { architecture, amds }: HostDescription): boolean {
  const of = /ARM_|TEGRA/.test(option) ? "arm" : /INTEL/.test(option) ? "intel" : /AMD/.test(option) ? "amd" : null;
  return of === null || architecture === null || of === (architecture === "aarch64" ? "arm" : amds.length > 0 ? "amd" : "intel");
}

function iommuLine(name: string, facts: HostFacts, { amds }: HostDescription): string {
  const amd = amds.find((one) => one.name === name);
  if (amd !== undefined) {
    return `${name}  AMD-Vi${nodeText(amd.numaNode)}: nests no guest's tables here`;
  }
  const iommu = facts.iommus.get(name)!;
  const kind = iommu.kind === "smmuv3" ? "SMMUv3" : "VT-d";
  return `${name}  ${kind}${nodeText(iommu.numaNode ?? -1)}: ${iommu.obstacle ?? `nests; ${offer(iommu)}`}`;
}

function offer(iommu: IommuFacts): string {
  if (iommu.kind === "smmuv3") {
    const { oas, ssidsize, ats, ril } = iommu.offer;
    return [`oas ${oas.value}`, `ssidsize ${ssidsize.value}`, `ats ${ats.value ? "on" : "off"}`, `ril ${ril.value ? "on" : "off"}`].join(", ");
  }
  const { awBits, pasidBits, deviceIotlb } = iommu.offer;
  return [`aw-bits ${awBits.value ?? "none"}`, `PASIDs of ${pasidBits.value} bits`, `device IOTLB ${deviceIotlb.value ? "on" : "off"}`].join(", ");
}

function functionLines(fn: FunctionDescription, { functions }: HostDescription): string[] {
  const shares = fn.group === null ? 0 : functions.filter(({ group }) => group === fn.group).length - 1;
  const flag = (name: string, value: boolean | null): string => (value === null ? `${name}?` : value ? name : "");
  const services = [flag("ATS", fn.ats), flag("PRI", fn.pri), fn.pasidBits === null ? "PASID?" : fn.pasidBits > 0 ? `PASID ${fn.pasidBits} bits` : ""].filter((part) => part !== "");
  const parts = [
    `  ${fn.address}  ${fn.name}`,
    fn.driver === "" ? "no driver" : fn.driver,
    fn.group === null ? "no group" : `group ${fn.group}${shares > 0 ? ` with ${plural(shares, "other")}` : ""}`,
    ...(fn.numaNode < 0 ? [] : [`node ${fn.numaNode}`]),
    ...(services.length > 0 ? [services.join(" ")] : []),
    ...(fn.bars.length > 0 ? [`BARs ${fn.bars.map(({ index, size }) => `${index}:${bytes(size)}`).join(" ")}`] : []),
    ...(fn.reset === null ? [] : [fn.reset.length === 0 ? "no reset" : `reset ${fn.reset.join(" ")}`]),
  ];
  const direct = (fn.reserved ?? []).filter(({ type }) => type === "direct");
  return [parts.join(", "), ...(direct.length === 0 ? [] : [`    the firmware wants ${direct.map(rangeText).join(", ")} mapped one to one: it goes to no guest`])];
}

function rangeText({ base, size }: ReservedDescription): string {
  return `0x${base.toString(16)} to 0x${(base + size - 1).toString(16)}`;
}

function nodeText(node: number): string {
  return node < 0 ? "" : `, node ${node}`;
}

/** `64K`, `1.5T`: powers of 1024. */
export function bytes(count: number): string {
  const units = ["", "K", "M", "G", "T", "P"];
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < units.length - 1 && (value % 1024 === 0 || value >= 10240)) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(1))}${units[unit]}`;
}
