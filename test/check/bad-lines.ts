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
  arm("wrong-smmu", [["host=0009:02:00.0", "host=0008:02:00.0"]], "host=0008:02:00.0", "vfio 0008:02:00.0: Failed to set vIOMMU: A vSMMU corresponds to exactly one physical SMMU", true),
  arm("wrong-host-iommu", [], "host=0009:01:00.0", "vfio 0009:01:00.0: Failed to set vIOMMU: Wrong data type (1) for Host SMMUv3 device info", false, { host: server((host) => { host.vtds!.push({ ...unitOf(host), name: "dmar9", base: 0xb000_0000, segment: 9 }); host.functions = ["0009:01:00.0", "0009:02:00.0"].map((address) => ({ ...fnOf(host, "0000:97:00.0"), address, vtd: "dmar9" })); }) }),
  arm("emulated-behind-accel", [["id=net0,bus=pcie.0", "id=net0,bus=rp3"], ["  -device virtio-net", "  -device pcie-root-port,id=rp3,bus=pcie.1,chassis=3 \\\n  -device virtio-net"]], "bus=rp3", "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on", true),
  arm("behind-software-iommu", [["accel=on,ats=on,ril=on,oas=48,ssidsize=16", "accel=off"]], "bus=rp1", "vfio 0009:01:00.0: device 00.00.0 requires iommu MAP notifier which is not currently supported", true),
  arm("several-iommufds", [["id=iommufd0 ", "id=iommufd0 -object iommufd,id=other "], ["id=nic0,iommufd=iommufd0", "id=nic0,iommufd=other"]], "iommufd=other", "vfio 0009:02:00.0: Failed to set vIOMMU: A vSMMU's functions go through one iommufd", true),
  arm("no-iommufd", [["id=nic0,iommufd=iommufd0", "id=nic0"]], "vfio-pci", "vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on", true),
  arm("no-iommufd", [["  -object iommufd,id=iommufd0 \\\n", ""], [",iommufd=iommufd0", ""], [",iommufd=iommufd0", ""]], "vfio-pci", "vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on", true),
  arm("no-such-iommufd", [["id=nic0,iommufd=iommufd0", "id=nic0,iommufd=iommufd1"]], "iommufd=iommufd1", "Device 'iommufd1' not found", true),
  arm("shared-bridge", [["pcie-root-port,id=rp2,bus=pcie.1,chassis=2", "pcie-pci-bridge,id=rp2,bus=pcie.1"], ["bus=rp1,id=gpu0", "bus=rp2,addr=1,id=gpu0"], ["bus=rp2,id=nic0", "bus=rp2,addr=2,id=nic0"], ["  -device vfio-pci,host=0009:01:00.0,bus=rp2,addr=1,id=gpu0,iommufd=iommufd0 \\\n", ""], ["iommufd=iommufd0 \\\n  -device virtio", "iommufd=iommufd0 \\\n  -device vfio-pci,host=0009:01:00.0,bus=rp2,addr=1,id=gpu0,iommufd=iommufd0 \\\n  -device virtio"]], "bus=rp2", "vfio 0009:01:00.0: Failed to set vIOMMU: vfio-pci functions behind one PCIe-to-PCI bridge share a StreamID", true),
  arm("auto-without-function", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=32 \\\n  -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,accel=on \\\n  -device virtio-net"]], "accel=on", "arm-smmuv3 accel=on with 'auto' properties requires at least one cold-plugged VFIO device", true),
  arm("smmu-bus", [["primary-bus=pcie.1", "primary-bus=pcie.9"]], "primary-bus=pcie.9", "Device 'pcie.9' not found", true),
  arm("smmu-bus", [["primary-bus=pcie.1,", ""]], "arm-smmuv3", "SMMU is not attached to any PCI bus!", true),
  arm("smmu-bus-bypassed", [["bus_nr=16,", "bus_nr=16,bypass_iommu=on,"]], "primary-bus=pcie.1", "Bypass option cannot be set for SMMUv3 associated PCIe RC", true),
  arm("iommu-twice", [["  -device pcie-root-port,id=rp1", "  -device arm-smmuv3,primary-bus=pcie.1,id=smmu2 \\\n  -device pcie-root-port,id=rp1"]], "primary-bus=pcie.1", "An iommu is already attached to this bus", false),
  arm("too-many-smmus", [["  -device virtio-net", `${Array.from({ length: 16 }, (_, n) => `  -device pxb-pcie,id=b${n},bus_nr=${32 + 8 * n} \\\n  -device arm-smmuv3,primary-bus=b${n},id=s${n} \\\n`).join("")}  -device virtio-net`]], "arm-smmuv3", "Platform Bus: Can not fit IRQ line", false),
  arm("host-call-refused", [], "host=0009:02:00.0", "vfio 0009:02:00.0: VFIO_ATTACH_IOMMUFD_PT: EADDRINUSE (IOVAs 0x48000000 to 0x480fffff are in use)", false, { host: grace((host) => { fnOf(host, "0009:02:00.0").reserved = [{ base: "0x48000000", size: "1M", type: "reserved" }]; }) }),
  arm("device-refused", [["virtio-net-pci,id=net0", "nvme,id=disk0,serial=1,drive=none"]], "nvme", "Property 'nvme.drive' can't find value 'none'", false),
  arm("machine-refused", [["-m 1G", "-m 1G -numa node,nodeid=0,memdev=m0"]], null, "memdev=m0 is ambiguous", false),
  arm("host-ssidsize", [], "ssidsize=16", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 SSIDSIZE not compatible (host=10, QEMU=16)", true, { host: grace((host) => { smmuOf(host).idr1 = 0x02730010 | (10 << 6); host.functions.forEach((fn) => (fn.pasidBits = 0)); }) }),
  arm("host-ril", [], "ril=on", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support Range Invalidation", true, { host: grace((host) => (smmuOf(host).idr3 = 0x1114)) }),
  arm("host-ats", [], "ats=on", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support Address Translation Services", true, { host: grace((host) => { smmuOf(host).idr0 = 0x0d4c709b; host.functions.forEach((fn) => { fn.ats = false; }); }) }),
  arm("host-oas", [], "oas=48", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 supports only 44-bit IPA, but the vSMMU OAS implies 48-bit IPA", true, { host: grace((host) => { smmuOf(host).idr5 = 0x74; host.memory.splice(1); }) }),
  arm("host-granules", [], "host=0009:01:00.0", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support 16K translation granule", false, { host: grace((host) => (smmuOf(host).idr5 = 0x55)) }),
  arm("host-smmu-format", [], "host=0009:01:00.0", "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 Stream Table format mismatch (host STLEVEL=0, QEMU STLEVEL=1)", false, { host: grace((host) => (smmuOf(host).idr0 = 0x054c749b)) }),
  arm("host-nesting", [], "host=0009:01:00.0", "vfio 0009:01:00.0: HWPT_ALLOC: EOPNOTSUPP (the SMMU does not nest)", false, { host: grace((host) => { smmuOf(host).idr0 = 0x0d4c749a; }) }),
  arm("host-nesting", [], "host=0009:01:00.0", "vfio 0009:01:00.0: VFIO_BIND_IOMMUFD: EINVAL (0009:01:00.0 has no IOMMU with coherent table walks)", false, { host: grace((host) => { smmuOf(host).idr0 = 0x0d4c748b; }) }),
  arm("host-memory", [["-m 1G", "-m 400G"]], null, "cannot set up guest memory 'mach-virt.ram': Cannot allocate memory", false, { host: grace((host) => (host.memory[1].size = "64M")) }),
  arm("function-ats", [["id=nic0,iommufd", "id=nic0,ats=on,iommufd"]], "ats=on", "vfio 0009:02:00.0: vfio-pci: ATS requested but not supported by kernel", true, { host: grace((host) => (fnOf(host, "0009:02:00.0").ats = false)) }),
  arm("no-such-function", [["host=0009:02:00.0", "host=0009:05:00.0"]], "host=0009:05:00.0", "vfio 0009:05:00.0: no such host device", false),
  arm("no-host-iommu", [], "host=0009:02:00.0", "vfio 0009:02:00.0: no iommu_group found: No such file or directory", false, { host: grace((host) => { Object.assign(fnOf(host, "0009:02:00.0"), { smmu: null, ats: false, pasidBits: 0, pri: false, streamId: undefined }); }) }),
  arm("function-taken-twice", [["host=0009:02:00.0", "host=0009:01:00.0"]], "host=0009:01:00.0", "vfio 0009:01:00.0: device is already attached", false),
  arm("function-not-bound", [], "host=0009:02:00.0", "vfio 0009:02:00.0: open: ENODEV (0009:02:00.0: it is bound to mlx5_core)", false, { host: grace((host) => (fnOf(host, "0009:02:00.0").driver = "mlx5_core")) }),
  arm("group-not-viable", [], "host=0009:02:00.0", "vfio 0009:02:00.0: VFIO_BIND_IOMMUFD: EPERM (group 7 is not viable: 0009:03:00.0 (nvme) in it, and only all devices within the iommu_group bound to their vfio bus driver go to a process)", false, { host: grace((host) => { fnOf(host, "0009:02:00.0").group = 7; Object.assign(fnOf(host, "0009:03:00.0"), { group: 7, driver: "nvme" }); }) }),
  arm("firmware-mapping", [], "host=0009:02:00.0", "vfio 0009:02:00.0: VFIO_BIND_IOMMUFD: EINVAL (0009:02:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.)", false, { host: grace((host) => { Object.assign(fnOf(host, "0009:02:00.0"), { group: 7, reserved: [{ base: "0xbf000000", size: "1M", type: "direct" }] }); }) }),
  arm("group-companions", [], "host=0009:02:00.0", "IOMMU group 7 of vfio-pci 'nic0' has functions that the machine does not take", false, { host: grace((host) => { fnOf(host, "0009:02:00.0").group = 7; fnOf(host, "0009:03:00.0").group = 7; }) }),
  arm("kernel-option", [], "iommufd=iommufd0", "/dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?)", false, { host: grace((host) => (host.kernelConfig = { CONFIG_IOMMUFD: "n" })) }),
  arm("kernel-version", [], "accel=on", "Linux 6.8.0-45-generic has no nested tables of an SMMUv3", false, { host: grace((host) => (host.kernel = "6.8.0-45-generic")) }),
  arm("memory-lock", [], "-m 1G", "RLIMIT_MEMLOCK of 0.1 GiB is below the 1 GiB that the machine pins", false, { host: grace((host) => (host.limits = { memlock: "8M" })) }),
  arm("memory-lock", [["-m 1G", "-m 1G -overcommit mem-lock=on"]], "mem-lock=on", "mlockall: Cannot allocate memory", false, { host: grace((host) => (host.limits = { memlock: "512M" })) }),
  arm("address-width", [["-m 1G", "-m 8G,maxmem=1T,slots=2"]], "-m 8G,maxmem=1T,slots=2", "Addressing limited to 39 bits, but memory exceeds it by 552977039360 bytes", false, { host: grace((host) => (host.addressBits = 39)) }),
  arm("address-width", [], "virt", "the machine has no 64-bit memory for BARs: its window from 0x8000000000 to 0xffffffffff is beyond 39 bits", false, { host: grace((host) => (host.addressBits = 39)) }),
  arm("address-width", [["-m 1G", "-m 1G,maxmem=400T,slots=1"]], null, "Addressing limited to 48 bits, but memory exceeds it by 158331821883392 bytes", false),
  x86("address-width", [["-m 1G", "-m 1G -global q35-pcihost.pci-hole64-size=1024G"]], "-global q35-pcihost.pci-hole64-size=1024G", "Address space limit 0x7fffffffff < 0x100ffffffff phys-bits too low (39)", false, { host: server((host) => (host.addressBits = 39)) }),
  arm("peer-to-peer", [], "host=0009:02:00.0", "functions of the host do not reach each other's BARs: Linux 6.14.0 maps none into an iommufd", false, { host: grace((host) => (host.kernel = "6.14.0")) }),
  arm("peer-to-peer", [], "host=0009:02:00.0", "functions of the host do not reach each other's BARs: Linux 7.3 maps none into an iommufd", false, { host: grace((host) => (host.kernelConfig = { CONFIG_VFIO_PCI_DMABUF: "n" })) }),
  arm("peer-to-peer", [], "host=0009:02:00.0", "DMA between vfio-pci 'gpu0' and vfio-pci 'nic0' does not pass the IOMMU", false, { host: grace((host) => { host.ports = [{ address: "0009:00:00.0", acs: false }]; for (const fn of ["0009:01:00.0", "0009:02:00.0"]) { Object.assign(fnOf(host, fn), { upstream: ["0009:00:00.0"] }); } }) }),
  arm("no-kvm", [], "accel=on", "SMMUv3 accel=on requires KVM with kernel-irqchip=on support", false, { host: grace((host) => (host.kvm = false)) }),
  arm("needs-accel", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=32 \\\n  -device arm-smmuv3,primary-bus=pcie.2,id=smmu2,ats=on \\\n  -device virtio-net"]], "ats=on", "ats can only be enabled if accel=on", true),
  arm("accel-needs-kvm", [["accel=kvm", "accel=tcg"]], "accel=on", "SMMUv3 accel=on requires KVM with kernel-irqchip=on support", true),
  arm("accel-stage", [["accel=on,", "accel=on,stage=nested,"]], "stage=nested", "Only stage1 is supported for SMMUv3 with accel=on", true),
  arm("cmdqv", [["accel=on,", "accel=on,cmdqv=on,"]], "cmdqv=on", "arm-smmuv3 'smmu1' has cmdqv=on: QEMU ends with \"CMDQV requested but not supported\" on a host without Tegra241's command queues", false),
  arm("unknown-descriptor", [["host=0009:02:00.0", "fd=31"]], "fd=31", "which function of grace fd=31 is, is not said", false),
  arm("oas-value", [["oas=48", "oas=52"]], "oas=52", "QEMU SMMUv3 model only implements auto, 44 bit, or 48 bit OAS. Other OasMode values are not supported.", true),
  arm("bus-number-collision", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=16 \\\n  -device virtio-net"]], "bus_nr=16", "Bus 16 is already in use", true),
  arm("bus-room", [["  -device virtio-net", "  -device pxb-pcie,id=pcie.2,bus_nr=17 \\\n  -device virtio-net"]], "bus_nr=17", "pxb-pcie 'pcie.1' (bus_nr=16) has room for 0 of the 2 buses below it, for pxb-pcie 'pcie.2' has bus_nr=17", true),
  arm("numa-node-missing", [["bus_nr=16,", "bus_nr=16,numa_node=2,"]], "numa_node=2", "Illegal numa node 2", true),
  arm("chassis-collision", [["chassis=2", "chassis=1"]], "chassis=1", "Can't add chassis slot, error -16", true),
  arm("no-such-bus", [["bus=rp2,", "bus=rp7,"]], "bus=rp7", "Bus 'rp7' not found", false),
  arm("bus-kind", [["bus=rp2,id=nic0", "bus=pcie.1,id=nic0"]], "bus=pcie.1", "PCI: Only PCI/PCIe bridges can be plugged into pxb-pcie", true),
  arm("slot", [["bus=rp2,id=nic0", "bus=rp1,id=nic0"]], "bus=rp1", "PCI: no slot/function available for the device, all in use or reserved", true),
  arm("slot", [["id=net0,bus=pcie.0", "id=net0,bus=pcie.0,addr=1.0"]], "addr=1.0", "PCI: slot 1 function 0 not available for virtio-net-pci, in use by pxb-pcie,id=pcie.1", true),
  arm("window-too-small", [["-m 1G", "-m 1G -object iommufd,id=x"]], "virt", "BARs of functions want 1024.1 GiB of 64-bit memory, and there are 512 GiB", true, { host: grace((host) => (fnOf(host, "0009:01:00.0").bars[1].size = "1024G")) }),
  arm("iommu-after-function", [["  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 \\\n", ""], ["  -device virtio-net", "  -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 \\\n  -device virtio-net"]], "arm-smmuv3", "arm-smmuv3 'smmu1' stands after a function that it is to cover", true),
  arm("acpi-off", [["gic-version=3", "gic-version=3,acpi=off"]], "acpi=off", "SMMUv3 with accel=on not supported for DT", true),
  arm("no-firmware", [["  -bios QEMU_EFI.fd \\\n", ""]], "accel=on", "SMMUv3 with accel=on not supported for DT", false),
  arm("outside-iommu", [["  -device virtio-net", "  -device vfio-pci,host=0009:03:00.0,id=disk0,iommufd=iommufd0 \\\n  -device virtio-net"]], "vfio-pci", "vfio-pci 'disk0' is behind no IOMMU of the machine", false),
  arm("mixed-containers", [["  -device virtio-net", "  -device vfio-pci,host=0009:03:00.0,id=disk0 \\\n  -device virtio-net"]], "vfio-pci", "vfio-pci 'disk0' has a legacy container, and vfio-pci 'gpu0' an iommufd", true),
  arm("numa-mismatch", [["-m 1G", "-m 2G -object memory-backend-ram,id=m0,size=1G,host-nodes=0,policy=bind -object memory-backend-ram,id=m1,size=1G,host-nodes=1,policy=bind -numa node,nodeid=0,memdev=m0 -numa node,nodeid=1,memdev=m1"], ["bus_nr=16,", "bus_nr=16,numa_node=1,"]], "numa_node=1", "numa_node=1 of pxb-pcie 'pcie.1' is not where the functions below are", true),
  arm("numa-node-unsaid", [["-m 1G", "-m 2G -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=1G -numa node,nodeid=0,memdev=m0 -numa node,nodeid=1,memdev=m1"]], "id=pcie.1", "pcie.1 has no NUMA node", false),
  arm("invalidation-calls", [], "accel=on", "invalidations behind arm-smmuv3 'smmu1' are a system call each", false),
  arm("ril-unused", [["ril=on", "ril=off"]], "ril=off", "arm-smmuv3 'smmu1' has ril=off, and smmu3.0x0000000016600000 has range invalidation", true),
  arm("lost-invalidations", [], "accel=on", "smmu3.0x0000000016600000 has erratum T264-SMMU-3, and QEMU 11.1 issues a guest's TLBI and CFGI once", false, { host: grace((host) => (smmuOf(host).errata = ["nvidia-t264-smmu-3"])) }),
  arm("migration-blocked", [["-m 1G", "-m 1G -only-migratable"]], "-only-migratable", "Migration not supported with SMMUv3 accelerator mode enabled", true),
  arm("qemu-version", [["qemu-system-aarch64", "# qemu version: 10.2.0\nqemu-system-aarch64"]], "accel=on", "Property 'arm-smmuv3.accel' not found", false),
  arm("rom-file", [["id=nic0,", "id=nic0,romfile=x.rom,"]], "romfile=x.rom", "vfio-pci 'nic0' shows the guest the expansion ROM of x.rom", false),
  arm("unknown-property", [["ssidsize=16", "ssidSize=16"]], "ssidSize=16", "Property 'arm-smmuv3.ssidSize' not found", true),
  arm("duplicate-id", [["id=net0", "id=nic0"]], "-device virtio-net-pci,id=nic0,bus=pcie.0", "Duplicate ID 'nic0' for device", false),
  arm("invalid-option", [["-nodefaults", "-nodefault"]], "-nodefault", "-nodefault: invalid option", false),
  x86("host-nesting", [], "fsts=on", "vfio 0000:97:00.0: Failed to set vIOMMU: Host IOMMU doesn't support nested translation", true, { host: server((host) => { unitOf(host).nesting = false; }) }),
  x86("host-aw-bits", [["scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,", "aw-bits=48,"]], "aw-bits=48", "vfio 0000:97:00.0: Failed to set vIOMMU: aw-bits 48 > host aw-bits 39", true, { host: server((host) => { unitOf(host).sagaw = [39]; unitOf(host).firstStage = false; Object.assign(unitOf(host), { firstStage1g: false, firstStage5Level: false, nesting: false, supervisor: false }); }) }),
  x86("host-fs1gp", [["fsts=on,", "fsts=on,fs1gp=on,"]], "fs1gp=on", "vfio 0000:97:00.0: Failed to set vIOMMU: First stage 1GB large page is unsupported by host IOMMU", true, { host: server((host) => (unitOf(host).firstStage1g = false)) }),
  x86("host-pasid-bits", [], "pasid-bits=16", "vfio 0000:97:00.0: Failed to set vIOMMU: PASID bits size 16 > host IOMMU PASID bits size 8", true, { host: server((host) => { unitOf(host).pasidBits = 8; host.functions.forEach((fn) => (fn.pasidBits = Math.min(Number(fn.pasidBits ?? 0), 8))); }) }),
  x86("peer-to-peer", [["  -device virtio-net", "  -device pcie-root-port,id=rp2,bus=pcie.0,chassis=2 \\\n  -device vfio-pci,host=0000:6b:00.0,bus=rp2,id=dsa0,iommufd=iommufd0 \\\n  -device virtio-net"]], "host=0000:6b:00.0", "peer to peer between functions behind 2 IOMMUs of the host goes from one root complex to another", false),
  x86("caching-mode", [["scalable-mode=on,fsts=on,pasid-bits=16,", ""], [",caching-mode=on", ",caching-mode=off"]], "caching-mode=off", "vfio 0000:97:00.0: Failed to set vIOMMU: Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.", true),
  x86("vtd-properties", [["scalable-mode=on,", ""], ["pasid-bits=16,", ""]], "fsts=on", "fsts is only available in scalable mode", true),
  x86("intremap-needs-split", [["kernel-irqchip=split", "kernel-irqchip=on"]], "kernel-irqchip=on", "Interrupt Remapping cannot work with kernel-irqchip=on, please use 'split|off'.", true),
  x86("eim-needs-intremap", [["intremap=on", "intremap=off,eim=on"]], "intremap=off", "eim=on cannot be selected without intremap=on", true),
  x86("caching-mode-unsaid", [[",caching-mode=on", ""]], "intel-iommu", "intel-iommu 'iommu0' has fsts=on and caching-mode=off: the guest does not tell of entries that come to be", false),
  x86("older-spelling", [["scalable-mode=on", "x-scalable-mode=on"]], "x-scalable-mode=on", "Property 'intel-iommu.x-scalable-mode' not found", true),
  x86("older-spelling", [["scalable-mode=on,fsts=on", "x-scalable-mode=modern"]], "x-scalable-mode=modern", "Property 'intel-iommu.x-scalable-mode' not found", true),
  x86("acpi-off", [["kernel-irqchip=split", "kernel-irqchip=split,acpi=off"]], "acpi=off", "intel-iommu 'iommu0' with acpi=off: no DMAR table tells the guest of it", true),
  x86("legacy-container", [["  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n", ""], [",iommufd=iommufd0", ""]], "vfio-pci", "vfio 0000:97:00.0: legacy VFIO containers are not available", true),
  x86("multiple-iommus", [["  -object", "  -device intel-iommu,id=iommu1 \\\n  -object"]], "-device intel-iommu,id=iommu1", "QEMU does not support multiple vIOMMUs for x86 yet.", false),
  x86("window-too-small", [["host=0000:97:00.0", "host=0000:98:00.0"]], "q35", "BARs of functions want 128.1 GiB of 64-bit memory, and pci-hole64-size is 32 GiB", false),
  x86("iommu-after-function", [["  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n", ""], ["  -device virtio-net", "  -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,intremap=on,caching-mode=on \\\n  -device virtio-net"]], "intel-iommu", "intel-iommu 'iommu0' stands after a function that it is to cover", true),
  x86("shared-bridge", [["pcie-root-port,id=rp1,bus=pcie.0,chassis=1", "pcie-pci-bridge,id=rp1,bus=pcie.0"], ["bus=rp1,", "bus=rp1,addr=1,"]], "bus=rp1", "Host device downstream to a PCI bridge is unsupported when fsts=on", true),
  x86("no-machine", [["-machine q35,accel=kvm,kernel-irqchip=split ", ""]], null, "No machine specified, and there is no default", false),
  x86("unsupported-machine", [["q35,", "q36,"]], "q36", "unsupported machine type: \"q36\"", true),
  x86("unknown-program", [["qemu-system-x86_64", "qemu-system-ppc64"]], null, "qemu-system-ppc64 is not a machine that viommu has", false),
  x86("too-many-cpus", [["-m 1G", "-m 1G -smp 10000"]], "-smp 10000", "Invalid SMP CPUs 10000. The max CPUs supported by machine 'pc-q35-11.1' is 4096", false),
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
