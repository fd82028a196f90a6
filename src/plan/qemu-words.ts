/** A plan in QEMU's words, in groups that belong together: what the formats that are command lines are made of. */
import { functionsOf, IOMMUFD, socketsOf } from "./machine-plan.js";
import type { MachinePlan, PlannedExpander, PlannedVtd } from "./report/index.js";

export interface WordGroup {
  /** What the group is, and its reasons. */
  readonly comments: readonly string[];
  /** Options with their arguments, a line each. */
  readonly lines: ReadonlyArray<readonly string[]>;
}

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** As QEMU takes it, in the largest unit that is whole. */
export function sizeWord(bytes: number): string {
  return bytes % GIB === 0 ? `${bytes / GIB}G` : bytes % MIB === 0 ? `${bytes / MIB}M` : String(bytes);
}

export const onOff = (value: boolean): "on" | "off" => (value ? "on" : "off");
export const busWord = (number: number): string => `0x${number.toString(16)}`;

/** Of QEMU's program for the board. */
export const PROGRAMS = { virt: "qemu-system-aarch64", q35: "qemu-system-x86_64" } as const;
const TYPES = { virt: "virt", q35: "pc-q35" } as const;

/** @param version of the machine's type */
export function qemuWords(plan: MachinePlan, version: string): WordGroup[] {
  return [machineGroup(plan, version), ...cellGroups(plan), ...(plan.vtd === null ? [] : [vtdGroup(plan.vtd, version)]), { comments: ["All functions share one iommufd: memory is pinned once", "Ports have io-reserve=0: functions of the host do without I/O ports, of which there are 64 KiB for all"], lines: [["-object", `iommufd,id=${IOMMUFD}`]] }, ...plan.expanders.map(expanderGroup), ...initiatorGroup(plan)];
}

function machineGroup(plan: MachinePlan, version: string): WordGroup {
  const type = `${TYPES[plan.board]}-${version}`;
  const { size, because } = plan.window;
  const window = size === null ? "" : `,highmem-mmio-size=${sizeWord(size)}`;
  const sockets = socketsOf(plan);
  const machine = plan.board === "virt" ? `${type},accel=kvm,gic-version=3${window}` : `${type},accel=kvm,kernel-irqchip=split`;
  return {
    comments: because,
    lines: [
      ["-machine", machine, "-cpu", "host", "-smp", `${plan.cpus}${sockets === null ? "" : `,sockets=${sockets}`}`, "-m", sizeWord(plan.memory), "-nodefaults", "-no-user-config", "-display", "none"],
      ...(plan.board === "q35" && size !== null ? [["-global", `q35-pcihost.pci-hole64-size=${sizeWord(size)}`]] : []),
    ],
  };
}

function cellGroups({ cells, distances }: MachinePlan): WordGroup[] {
  if (cells.length === 0) {
    return [];
  }
  const isShared = (reason: string): boolean => cells.filter(({ because }) => because.includes(reason)).length > 1;
  const nodes = cells.flatMap(({ id, hostNode, memory, cpus }) => {
    const node = `node,nodeid=${id}${cpus === null ? "" : `,cpus=${cpus[0]}${cpus[1] > cpus[0] ? `-${cpus[1]}` : ""}`}`;
    const bound = hostNode === null ? "" : `,host-nodes=${hostNode},policy=bind`;
    return memory === 0
      ? [["-numa", node]]
      : [
          ["-object", `memory-backend-ram,id=ram${id},size=${sizeWord(memory)}${bound}`],
          ["-numa", `${node},memdev=ram${id}`],
        ];
  });
  const between = (distances ?? []).flatMap((row, source) => row.flatMap((distance, destination) => (source === destination ? [] : [["-numa", `dist,src=${source},dst=${destination},val=${distance}`]])));
  return [
    {
      comments: [...new Set(cells.flatMap(({ id, because }) => because.map((one) => (isShared(one) ? one : `node ${id}: ${one}`)))), ...(between.length > 0 ? ["distances: the host's"] : [])],
      lines: [...nodes, ...between],
    },
  ];
}

function vtdGroup(vtd: PlannedVtd, version: string): WordGroup {
  return { comments: vtd.because, lines: [["-device", ["intel-iommu", `id=${vtd.id}`, ...vtdProperties(vtd, version).map(([name, value]) => `${name}=${value}`)].join(",")]] };
}

/** QEMU's names of first-stage nesting: 11.1 has given the older ones up. */
export function firstStageNames(version: string): readonly [scalable: string, firstStage: string] {
  return version === "11.0" ? ["x-scalable-mode", "x-flts"] : ["scalable-mode", "fsts"];
}

/** Properties that say something, by QEMU's names and in their order. */
export function vtdProperties({ fsts, fs1gp, pasidBits, awBits, deviceIotlb, eim }: PlannedVtd, version: string): Array<readonly [name: string, value: string]> {
  return [
    ...(fsts ? firstStageNames(version).map((name) => [name, "on"] as const) : []),
    ...(fsts && !fs1gp ? ([["fs1gp", "off"]] as const) : []),
    ...(pasidBits > 0 ? ([["pasid-bits", String(pasidBits)]] as const) : []),
    ["aw-bits", String(awBits)],
    ["caching-mode", "on"],
    ...(deviceIotlb ? ([["device-iotlb", "on"]] as const) : []),
    ["intremap", "on"],
    ...(eim ? ([["eim", "on"]] as const) : []),
  ];
}

function expanderGroup({ id, busNumber, cell, bypass, smmu, ports, hostIommu, hostNode, because }: PlannedExpander): WordGroup {
  return {
    comments: [`${id}: ${hostIommu}${hostNode === null ? "" : `, host node ${hostNode}`}`, ...because.slice(1), ...(smmu?.because ?? []), ...ports.flatMap((port) => port.because.map((one) => `${port.id}: ${one}`))],
    lines: [
      ["-device", `pxb-pcie,id=${id},bus=pcie.0,bus_nr=${busWord(busNumber)}${cell === null ? "" : `,numa_node=${cell}`}${bypass ? ",bypass_iommu=on" : ""}`],
      ...(smmu === null ? [] : [["-device", `arm-smmuv3,primary-bus=${id},id=${smmu.id},accel=on,ril=${onOff(smmu.ril)},ats=${onOff(smmu.ats)},oas=${smmu.oas},ssidsize=${smmu.ssidsize}`]]),
      ...ports.flatMap((port) => {
        const shared = ports.some((other) => other !== port && other.slot === port.slot);
        const addr = `${busWord(port.slot)}${port.number === 0 ? "" : `.${port.number}`}${shared && port.number === 0 ? ",multifunction=on" : ""}`;
        return [
          ["-device", `pcie-root-port,id=${port.id},bus=${id},addr=${addr},chassis=${port.chassis},io-reserve=0${port.reserve === null ? "" : `,pref64-reserve=${sizeWord(port.reserve)}`}`],
          ...port.functions.map((fn) => {
            const place = port.functions.length === 1 ? "" : fn.number === 0 ? ",addr=0x0,multifunction=on" : `,addr=0x0.${fn.number}`;
            return ["-device", `vfio-pci,host=${fn.host},bus=${port.id}${place},id=${fn.id},iommufd=${IOMMUFD}`];
          }),
        ];
      }),
    ],
  };
}

function initiatorGroup(plan: MachinePlan): WordGroup[] {
  const pairs = functionsOf(plan).flatMap(({ id, initiatorOf }) => initiatorOf.map((node) => ({ id, node })));
  return pairs.length === 0
    ? []
    : [
        {
          comments: functionsOf(plan).flatMap(({ id, because }) => because.map((one) => `${id}: ${one}`)),
          lines: pairs.map(({ id, node }, n) => ["-object", `acpi-generic-initiator,id=gi${n},pci-dev=${id},node=${node}`]),
        },
      ];
}
