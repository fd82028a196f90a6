/** Good lines, and what makes each of them break one rule. */
import type { HostDescriptionInput } from "../../src/host/simulated/index.js";
import type { RuleId } from "../../src/check/index.js";
import { hostInput } from "../machine/build.js";

/** Two functions of one physical SMMU of grace behind an accelerated SMMU, and an emulated one outside. */
export const ARM = `qemu-system-aarch64 \\
  -machine virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults \\
  -bios QEMU_EFI.fd \\
  -object iommufd,id=iommufd0 \\
  -device pxb-pcie,id=pcie.1,bus_nr=16,bus=pcie.0 \\
  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 \\
  -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 \\
  -device vfio-pci,host=0009:01:00.0,bus=rp1,id=gpu0,iommufd=iommufd0 \\
  -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2 \\
  -device vfio-pci,host=0009:02:00.0,bus=rp2,id=nic0,iommufd=iommufd0 \\
  -device virtio-net-pci,id=net0,bus=pcie.0
`;

/** A function of two-socket-spr behind an intel-iommu with first-stage nesting. */
export const X86 = `qemu-system-x86_64 \\
  -machine q35,accel=kvm,kernel-irqchip=split -cpu host -m 1G -nodefaults \\
  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\
  -object iommufd,id=iommufd0 \\
  -device pcie-root-port,id=rp1,bus=pcie.0,chassis=1 \\
  -device vfio-pci,host=0000:97:00.0,bus=rp1,id=nic1,iommufd=iommufd0 \\
  -device virtio-net-pci,id=net0,bus=pcie.0
`;

export interface BadLine {
  readonly rule: RuleId;
  readonly base: "arm" | "x86";
  /** What of the good line becomes what. */
  readonly change: ReadonlyArray<readonly [from: string, to: string]>;
  /** Null: none; left out: the one that the good line is for. */
  readonly host?: HostDescriptionInput | string | null;
  /** The text that the finding is about. */
  readonly at: string | null;
  readonly words: string;
  readonly wouldWork?: string;
  /** The fixed line is clean; else it is the line as it was. */
  readonly mended: boolean;
}

type Change = BadLine["change"];

function grace(change: (host: HostDescriptionInput) => void): HostDescriptionInput {
  const host = structuredClone(hostInput("grace"));
  change(host);
  return host;
}

function server(change: (host: HostDescriptionInput) => void): HostDescriptionInput {
  const host = structuredClone(hostInput("two-socket-spr"));
  change(host);
  return host;
}

/** The SMMU that the functions of ARM are behind. */
const smmuOf = (host: HostDescriptionInput) => host.smmus.find(({ name }) => name === "smmu3.0x0000000016600000")!;
const fnOf = (host: HostDescriptionInput, address: string) => host.functions.find((fn) => fn.address === address)!;
const unitOf = (host: HostDescriptionInput) => host.vtds!.find(({ name }) => name === "dmar2")!;

const arm = (rule: RuleId, change: Change, at: string | null, words: string, mended: boolean, more: Partial<BadLine> = {}): BadLine => ({ rule, base: "arm", change, at, words, mended, ...more });
const x86 = (rule: RuleId, change: Change, at: string | null, words: string, mended: boolean, more: Partial<BadLine> = {}): BadLine => ({ rule, base: "x86", change, at, words, mended, ...more });

export const badLines: readonly BadLine[] = [
  arm("wrong-smmu", [["host=0009:02:00.0", "host=0008:02:00.0"]], "host=0008:02:00.0", "?", true),
  arm("wrong-host-iommu", [], "host=0009:01:00.0", "?", false, { host: server((host) => host.functions.push({ ...fnOf(host, "0000:98:00.0"), address: "0000:91:00.0" })) }),
  arm("emulated-behind-accel", [["id=net0,bus=pcie.0", "id=net0,bus=rp3"], ["  -device virtio-net", "  -device pcie-root-port,id=rp3,bus=pcie.1,chassis=3 \\\n  -device virtio-net"]], "bus=rp3", "?", true),
  arm("behind-software-iommu", [["accel=on,ats=on,ril=on,oas=48,ssidsize=16", "accel=off"]], "bus=rp1", "?", true),
  arm("several-iommufds", [["id=iommufd0 ", "id=iommufd0 -object iommufd,id=other "], ["id=nic0,iommufd=iommufd0", "id=nic0,iommufd=other"]], "iommufd=other", "?", true),
  arm("no-iommufd", [["id=nic0,iommufd=iommufd0", "id=nic0"]], "vfio-pci", "?", true),
  arm("no-iommufd", [["  -object iommufd,id=iommufd0 \\\n", ""], [",iommufd=iommufd0", ""], [",iommufd=iommufd0", ""]], "vfio-pci", "?", true),
  arm("no-such-iommufd", [["id=nic0,iommufd=iommufd0", "id=nic0,iommufd=iommufd1"]], "iommufd=iommufd1", "?", true),
  arm("shared-bridge", [["pcie-root-port,id=rp2,bus=pcie.1,chassis=2", "pcie-pci-bridge,id=rp2,bus=pcie.1"], ["bus=rp1,id=gpu0", "bus=rp2,addr=1,id=gpu0"], ["bus=rp2,id=nic0", "bus=rp2,addr=2,id=nic0"], ["  -device vfio-pci,host=0009:01:00.0,bus=rp2,addr=1,id=gpu0,iommufd=iommufd0 \\\n", ""], ["iommufd=iommufd0 \\\n  -device virtio", "iommufd=iommufd0 \\\n  -device vfio-pci,host=0009:01:00.0,bus=rp2,addr=1,id=gpu0,iommufd=iommufd0 \\\n  -device virtio"]], "bus=rp2", "?", true),
  arm("auto-without-function", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=32 \\\n  -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on \\\n  -device virtio-net"]], "accel=on", "?", true),
  arm("smmu-bus", [["primary-bus=pcie.1", "primary-bus=pcie.9"]], "primary-bus=pcie.9", "?", false),
  arm("smmu-bus", [["primary-bus=pcie.1,", ""]], "arm-smmuv3", "?", true),
  arm("smmu-bus-bypassed", [["bus_nr=16,", "bus_nr=16,bypass_iommu=on,"]], "primary-bus=pcie.1", "?", true),
  arm("iommu-twice", [["  -device pcie-root-port,id=rp1", "  -device arm-smmuv3,primary-bus=pcie.1,id=smmu2 \\\n  -device pcie-root-port,id=rp1"]], "primary-bus=pcie.1", "?", false),
  arm("host-ssidsize", [], "ssidsize=16", "?", true, { host: grace((host) => { smmuOf(host).idr1 = 0x02730010 | (10 << 6); host.functions.forEach((fn) => (fn.pasidBits = 0)); }) }),
  arm("host-ril", [], "ril=on", "?", true, { host: grace((host) => (smmuOf(host).idr3 = 0x1114)) }),
  arm("host-ats", [], "ats=on", "?", true, { host: grace((host) => { smmuOf(host).idr0 = 0x0d4c709b; host.functions.forEach((fn) => { fn.ats = false; }); }) }),
  arm("host-oas", [], "oas=48", "?", true, { host: grace((host) => { smmuOf(host).idr5 = 0x74; host.memory.splice(1); }) }),
  arm("host-granules", [], "host=0009:01:00.0", "?", false, { host: grace((host) => (smmuOf(host).idr5 = 0x55)) }),
  arm("host-smmu-format", [], "host=0009:01:00.0", "?", false, { host: grace((host) => (smmuOf(host).idr0 = 0x054c749b)) }),
  arm("host-nesting", [], "host=0009:01:00.0", "?", false, { host: grace((host) => (smmuOf(host).coherent = false)) }),
  arm("host-memory", [["-m 1G", "-m 400G"]], null, "?", false, { host: grace((host) => (host.memory[1].size = "64M")) }),
  arm("function-ats", [["id=nic0,iommufd", "id=nic0,ats=on,iommufd"]], "ats=on", "?", true, { host: grace((host) => (fnOf(host, "0009:02:00.0").ats = false)) }),
  arm("no-such-function", [["host=0009:02:00.0", "host=0009:05:00.0"]], "host=0009:05:00.0", "?", false),
  arm("function-taken-twice", [["host=0009:02:00.0", "host=0009:01:00.0"]], "host=0009:01:00.0", "?", false),
  arm("function-not-bound", [], "host=0009:02:00.0", "?", false, { host: grace((host) => (fnOf(host, "0009:02:00.0").driver = "mlx5_core")) }),
  arm("group-not-viable", [], "host=0009:02:00.0", "?", false, { host: grace((host) => { fnOf(host, "0009:02:00.0").group = 7; Object.assign(fnOf(host, "0009:03:00.0"), { group: 7, driver: "nvme" }); }) }),
  arm("firmware-mapping", [], "host=0009:02:00.0", "?", false, { host: grace((host) => { Object.assign(fnOf(host, "0009:02:00.0"), { group: 7, reserved: [{ base: "0xbf000000", size: "1M", type: "direct" }] }); }) }),
  arm("group-companions", [], "host=0009:02:00.0", "?", false, { host: grace((host) => { fnOf(host, "0009:02:00.0").group = 7; fnOf(host, "0009:03:00.0").group = 7; }) }),
  arm("kernel-option", [], "iommufd=iommufd0", "?", false, { host: grace((host) => (host.kernelConfig = { CONFIG_IOMMUFD: "n" })) }),
  arm("kernel-version", [], "accel=on", "?", false, { host: grace((host) => (host.kernel = "6.8.0-45-generic")) }),
  arm("memory-lock", [], "-m 1G", "?", false, { host: grace((host) => (host.limits = { memlock: "8M" })) }),
  arm("no-kvm", [], "accel=on", "?", false, { host: grace((host) => (host.kvm = false)) }),
  arm("needs-accel", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=32 \\\n  -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,ats=on \\\n  -device virtio-net"]], "ats=on", "?", true),
  arm("accel-needs-kvm", [["accel=kvm", "accel=tcg"]], "accel=on", "?", true),
  arm("accel-stage", [["accel=on,", "accel=on,stage=nested,"]], "stage=nested", "?", true),
  arm("cmdqv", [["accel=on,", "accel=on,cmdqv=on,"]], "cmdqv=on", "?", true),
  arm("oas-value", [["oas=48", "oas=52"]], "oas=52", "?", true),
  arm("bus-number-collision", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=16 \\\n  -device virtio-net"]], "bus_nr=16", "?", true),
  arm("bus-room", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=17 \\\n  -device virtio-net"]], "bus_nr=17", "?", true),
  arm("numa-node-missing", [["bus_nr=16,", "bus_nr=16,numa_node=2,"]], "numa_node=2", "?", true),
  arm("chassis-collision", [["chassis=2", "chassis=1"]], "chassis=1", "?", true),
  arm("no-such-bus", [["bus=rp2,", "bus=rp7,"]], "bus=rp7", "?", false),
  arm("bus-kind", [["bus=rp2,id=nic0", "bus=pcie.1,id=nic0"]], "bus=pcie.1", "?", true),
  arm("slot", [["bus=rp2,id=nic0", "bus=rp1,id=nic0"]], "bus=rp1", "?", true),
  arm("slot", [["id=net0,bus=pcie.0", "id=net0,bus=pcie.0,addr=1.0"]], "addr=1.0", "?", true),
  arm("window-too-small", [["-m 1G", "-m 1G -object iommufd,id=x"]], "virt", "?", true, { host: grace((host) => (fnOf(host, "0009:01:00.0").bars[1].size = "1024G")) }),
  arm("iommu-after-function", [["  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 \\\n", ""], ["  -device virtio-net", "  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 \\\n  -device virtio-net"]], "arm-smmuv3", "?", true),
  arm("acpi-off", [["gic-version=3", "gic-version=3,acpi=off"]], "acpi=off", "?", true),
  arm("no-firmware", [["  -bios QEMU_EFI.fd \\\n", ""]], "accel=on", "?", false),
  arm("outside-iommu", [["  -device virtio-net", "  -device vfio-pci,host=0009:03:00.0,id=disk0,iommufd=iommufd0 \\\n  -device virtio-net"]], "vfio-pci", "?", false),
  arm("mixed-containers", [["  -device virtio-net", "  -device vfio-pci,host=0009:03:00.0,id=disk0 \\\n  -device virtio-net"]], "vfio-pci", "?", true),
  arm("numa-mismatch", [["-m 1G", "-m 2G -object memory-backend-ram,id=m0,size=1G,host-nodes=0,policy=bind -object memory-backend-ram,id=m1,size=1G,host-nodes=1,policy=bind -numa node,nodeid=0,memdev=m0 -numa node,nodeid=1,memdev=m1"], ["bus_nr=16,", "bus_nr=16,numa_node=1,"]], "numa_node=1", "?", true),
  arm("numa-node-unsaid", [["-m 1G", "-m 2G -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=1G -numa node,nodeid=0,memdev=m0 -numa node,nodeid=1,memdev=m1"]], "id=pcie.1", "?", false),
  arm("invalidation-calls", [], "accel=on", "?", false),
  arm("ril-unused", [["ril=on", "ril=off"]], "ril=off", "?", true),
  arm("lost-invalidations", [], "accel=on", "?", false, { host: grace((host) => (smmuOf(host).errata = ["nvidia-t264-smmu-3"])) }),
  arm("migration-blocked", [["-m 1G", "-m 1G -only-migratable"]], "-only-migratable", "?", true),
  arm("qemu-version", [["qemu-system-aarch64", "# qemu version: 10.2.0\nqemu-system-aarch64"]], "accel=on", "?", false),
  arm("rom-file", [["id=nic0,", "id=nic0,romfile=x.rom,"]], "romfile=x.rom", "?", false),
  arm("unknown-property", [["ssidsize=16", "ssidSize=16"]], "ssidSize=16", "?", true),
  arm("duplicate-id", [["id=net0", "id=nic0"]], "virtio-net-pci", "?", false),
  arm("invalid-option", [["-nodefaults", "-nodefault"]], "-nodefault", "?", false),
  x86("host-nesting", [], "fsts=on", "?", true, { host: server((host) => { unitOf(host).nesting = false; }) }),
  x86("host-aw-bits", [["scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,", "aw-bits=48,"]], "aw-bits=48", "?", true, { host: server((host) => { unitOf(host).sagaw = [39]; unitOf(host).firstStage = false; Object.assign(unitOf(host), { firstStage1g: false, firstStage5Level: false, nesting: false, supervisor: false }); }) }),
  x86("host-fs1gp", [["fsts=on,", "fsts=on,fs1gp=on,"]], "fs1gp=on", "?", true, { host: server((host) => (unitOf(host).firstStage1g = false)) }),
  x86("host-pasid-bits", [], "pasid-bits=16", "?", true, { host: server((host) => { unitOf(host).pasidBits = 8; host.functions.forEach((fn) => (fn.pasidBits = Math.min(Number(fn.pasidBits ?? 0), 8))); }) }),
  x86("caching-mode", [["scalable-mode=on,fsts=on,pasid-bits=16,", ""], [",caching-mode=on", ",caching-mode=off"]], "caching-mode=off", "?", true),
  x86("vtd-properties", [["scalable-mode=on,", ""], ["pasid-bits=16,", ""]], "fsts=on", "?", true),
  x86("intremap-needs-split", [["kernel-irqchip=split", "kernel-irqchip=on"]], "kernel-irqchip=on", "?", true),
  x86("eim-needs-intremap", [["intremap=on", "intremap=off,eim=on"]], "intremap=off", "?", true),
  x86("caching-mode-unsaid", [[",caching-mode=on", ""]], "fsts=on", "?", false),
  x86("older-spelling", [["scalable-mode=on", "x-scalable-mode=on"]], "x-scalable-mode=on", "?", true),
  x86("older-spelling", [["scalable-mode=on,fsts=on", "x-scalable-mode=modern"]], "x-scalable-mode=modern", "?", true),
  x86("acpi-off", [["kernel-irqchip=split", "kernel-irqchip=split,acpi=off"]], "acpi=off", "?", true),
  x86("legacy-container", [["  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n", ""], [",iommufd=iommufd0", ""]], "vfio-pci", "?", true),
  x86("multiple-iommus", [["  -object", "  -device intel-iommu,id=iommu1 \\\n  -object"]], "intel-iommu", "?", false),
  x86("window-too-small", [["host=0000:97:00.0", "host=0000:98:00.0"]], "q35", "?", true),
  x86("iommu-after-function", [["  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n", ""], ["  -device virtio-net", "  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n  -device virtio-net"]], "intel-iommu", "?", true),
  x86("shared-bridge", [["pcie-root-port,id=rp1,bus=pcie.0,chassis=1", "pcie-pci-bridge,id=rp1,bus=pcie.0"], ["bus=rp1,", "bus=rp1,addr=1,"]], "bus=rp1", "?", true),
  x86("no-machine", [["-machine q35,accel=kvm,kernel-irqchip=split ", ""]], null, "?", false),
  x86("unsupported-machine", [["q35,", "q36,"]], "-machine q36,accel=kvm,kernel-irqchip=split", "?", false),
  x86("unknown-program", [["qemu-system-x86_64", "qemu-system-ppc64"]], null, "?", false),
  x86("too-many-cpus", [["-m 1G", "-m 1G -smp 10000"]], null, "?", false),
];

export function lineOf({ base, change }: Pick<BadLine, "base" | "change">): string {
  return change.reduce((text, [from, to]) => {
    if (!text.includes(from)) {
      throw new Error(`no ${from} in ${text}`);
    }
    return text.replace(from, to);
  }, base === "arm" ? ARM : X86);
}

export function hostFor({ base, host }: Pick<BadLine, "base" | "host">): HostDescriptionInput | string | null {
  return host === undefined ? (base === "arm" ? "grace" : "two-socket-spr") : host;
}
