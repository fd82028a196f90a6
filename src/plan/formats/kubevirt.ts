/** A plan as a VirtualMachineInstance of KubeVirt, as far as that can say it; the rest stands in comments. */
import { Document, type YAMLMap } from "yaml";
import { byteText } from "../../support/index.js";
import { functionsOf, titleOf } from "../machine-plan.js";
import type { MachinePlan, PlannedFunction } from "../report/index.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DISPLAY_CLASS = 0x03;

/** What KubeVirt's code for Grace gives each SMMU, whatever the host's has (VEP-199). */
const VEP_199 = { ats: true, ril: false, ssidsize: 20, oas: 48 } as const;

export function kubevirtYaml(plan: MachinePlan): string {
  const cluster = new Document({
    apiVersion: "kubevirt.io/v1",
    kind: "KubeVirt",
    metadata: { name: "kubevirt", namespace: "kubevirt" },
    spec: { configuration: { developerConfiguration: { featureGates: ["HostDevices", "GPU", "NUMA", "CPUManager"] }, permittedHostDevices: { pciHostDevices: pciHostDevices(plan) } } },
  });
  cluster.commentBefore = comments([titleOf(plan), "What the cluster hands out: a resource for each kind of function. Which of several of a kind a machine gets, the device plugin decides"]);
  const functions = functionsOf(plan);
  const isGpu = (fn: PlannedFunction): boolean => fn.class >>> 16 === DISPLAY_CLASS;
  const entry = (fn: PlannedFunction): object => ({ name: fn.id, deviceName: resourceName(fn) });
  const gpus = functions.filter(isGpu).map(entry);
  const others = functions.filter((fn) => !isGpu(fn)).map(entry);
  const withCells = plan.cells.length > 0;
  const instance = new Document({
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachineInstance",
    metadata: { name: `viommu-${plan.host.toLowerCase().replace(/[^a-z0-9-]+/g, "-")}` },
    spec: {
      architecture: plan.board === "virt" ? "arm64" : "amd64",
      domain: {
        machine: { type: plan.board },
        cpu: { sockets: 1, cores: plan.cpus, threads: 1, model: "host-passthrough", ...(withCells ? { dedicatedCpuPlacement: true, numa: { guestMappingPassthrough: {} } } : {}) },
        memory: { guest: plan.memory % GIB === 0 ? `${plan.memory / GIB}Gi` : `${plan.memory / MIB}Mi`, ...(withCells ? { hugepages: { pageSize: "2Mi" } } : {}) },
        firmware: { bootloader: { efi: { secureBoot: false } } },
        devices: { ...(gpus.length > 0 ? { gpus } : {}), ...(others.length > 0 ? { hostDevices: others } : {}) },
      },
    },
  });
  (instance.contents as YAMLMap).commentBefore = comments(remarks(plan));
  return `${cluster.toString({ lineWidth: 0 })}---\n${instance.toString({ lineWidth: 0 })}`;
}

const comments = (texts: readonly string[]): string => texts.map((text) => ` ${text}`).join("\n");
const idText = (id: number): string => id.toString(16).padStart(4, "0");
const resourceName = ({ vendor, device }: PlannedFunction): string => `devices.kubevirt.io/pci-${idText(vendor)}-${idText(device)}`;

function pciHostDevices(plan: MachinePlan): object[] {
  const kinds = new Map(functionsOf(plan).map((fn) => [resourceName(fn), fn]));
  return [...kinds].map(([name, { vendor, device }]) => ({ pciVendorSelector: `${idText(vendor)}:${idText(device)}`.toUpperCase(), resourceName: name }));
}

/** What the plan has and a VirtualMachineInstance cannot say. */
function remarks(plan: MachinePlan): string[] {
  const lines = plan.expanders.map(({ hostIommu, hostNode, ports }) => `behind ${hostIommu}${hostNode === null ? "" : ` on node ${hostNode}`}: ${ports.flatMap(({ functions }) => functions.map(({ id, host }) => `${id} (${host})`)).join(", ")}`);
  const vep = plan.expanders.flatMap(({ smmu }) => {
    const differs = smmu === null ? [] : (["ats", "ril", "ssidsize", "oas"] as const).filter((name) => smmu[name] !== VEP_199[name]);
    return differs.map((name) => `${smmu!.id}: the host has ${name}=${wordOf(smmu![name])}, KubeVirt's code for Grace gives ${wordOf(VEP_199[name])}`);
  });
  return [
    "A VirtualMachineInstance has no words for which function is behind which IOMMU, nor for what IOMMUs offer:",
    ...lines.map((line) => `  ${line}`),
    ...(plan.board === "virt" ? ["An accelerated SMMU for each GPU is KubeVirt's own doing where VEP-199 is on (1.9, alpha):", ...vep.map((line) => `  ${line}`)] : ["KubeVirt makes no intel-iommu for a guest: functions are passed through without a virtual IOMMU, or with a sidecar that changes the domain XML (viommu plan --format libvirt)"]),
    ...(plan.window.size === null ? [] : [`BARs want a window of ${byteText(plan.window.size)} (pcihole64): VEP-199 takes 512 GiB for each GPU, else a sidecar sets it`]),
    ...(plan.cells.length === 0 ? [] : ["guestMappingPassthrough gives the guest the nodes that its CPUs come from: those of the functions where the kubelet's topology manager is single-numa-node or restricted"]),
    ...plan.notes,
  ];
}

const wordOf = (value: boolean | number): string => (typeof value === "boolean" ? (value ? "on" : "off") : String(value));
