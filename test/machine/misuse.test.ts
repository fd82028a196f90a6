import { describe, expect, it } from "vitest";
import type { HostDescriptionInput } from "../../src/host/simulated/index.js";
import { ACCEL, build, type Built, GPU, hostInput, VFIO } from "./build.js";
import { refusalOf } from "./refused.js";

interface Row {
  /** As reference tables name the situation. */
  readonly situation: string;
  readonly line: string;
  /** QEMU 11.1's words, which come first. */
  readonly words: string;
  /** Ours, somewhere behind. */
  readonly more?: string | RegExp;
  readonly host?: HostDescriptionInput;
}

const VTD = "-M q35 -nodefaults -device intel-iommu";
const SMMU = "-M virt -nodefaults -device arm-smmuv3";

/** A host with one register of all its SMMUs changed. */
function withRegister(register: "idr0" | "idr1" | "idr3" | "idr5", change: (value: number) => number, name = "grace"): HostDescriptionInput {
  const input = hostInput(name) as unknown as { smmus: Array<Record<string, unknown>> };
  for (const smmu of input.smmus) {
    smmu[register] = `0x${(change(Number(smmu[register])) >>> 0).toString(16)}`;
  }
  return input as unknown as HostDescriptionInput;
}

/** The grace host with one function that no SMMU serves. */
function withoutSmmu(address: string): HostDescriptionInput {
  const input = hostInput("grace") as unknown as { functions: Array<Record<string, unknown>> };
  for (const fn of input.functions.filter((one) => one.address === address)) {
    Object.assign(fn, { smmu: null, ats: false, pasidBits: 0 });
  }
  return input as unknown as HostDescriptionInput;
}

/** A function of the smaller server: no RIL, no ATS, no substreams, 44 bits of output address. */
const small = (properties: string): string =>
  `${ACCEL.replace("accel=on", `accel=on,${properties}`)} -device vfio-pci,host=0000:01:00.0,id=nic0,bus=rp1,iommufd=iommufd0`;

const explicit = (properties: string): string => `${ACCEL.replace("accel=on", `accel=on,${properties}`)} ${GPU}`;

const rows: Row[] = [
  { situation: "no primary-bus", line: SMMU, words: "SMMU is not attached to any PCI bus!", more: "primary-bus=pcie.0" },
  {
    situation: "primary-bus = root port",
    line: "-M virt -nodefaults -device pcie-root-port,id=rp1 -device arm-smmuv3,primary-bus=rp1",
    words: "SMMU should be attached to a default PCIe root complex(pcie.0) or a pxb-pcie based root complex",
    more: "would work: primary-bus=pcie.0",
  },
  { situation: "unknown bus id", line: `${SMMU},primary-bus=nope.0`, words: "Device 'nope.0' not found", more: "pcie.0" },
  {
    situation: "a bus that a later -device makes",
    line: `${SMMU},primary-bus=pcie.1 -device pxb-pcie,id=pcie.1,bus_nr=16`,
    words: "Device 'pcie.1' not found",
    more: "a later -device makes",
  },
  { situation: "two SMMUs on one bus", line: `${SMMU},primary-bus=pcie.0 -device arm-smmuv3,primary-bus=pcie.0`, words: "An iommu is already attached to this bus", more: "pxb-pcie" },
  {
    situation: "machine iommu=smmuv3 + -device",
    line: "-M virt,iommu=smmuv3 -nodefaults -device arm-smmuv3,primary-bus=pcie.0",
    words: "virt machine already has iommu=smmuv3 set. Doesn't support incompatible iommus",
  },
  { situation: "iommu=<bad>", line: "-M virt,iommu=intel", words: "Invalid iommu value\nValid values are none, smmuv3." },
  {
    situation: "pxb bypass_iommu=on",
    line: "-M virt -nodefaults -device pxb-pcie,id=pcie.1,bus_nr=16,bypass_iommu=on -device arm-smmuv3,primary-bus=pcie.1",
    words: "Bypass option cannot be set for SMMUv3 associated PCIe RC",
    more: "bypass_iommu=off for pxb-pcie 'pcie.1'",
  },
  {
    situation: "default_bus_bypass_iommu=on with pcie.0",
    line: "-M virt,default_bus_bypass_iommu=on -nodefaults -device arm-smmuv3,primary-bus=pcie.0",
    words: "Bypass option cannot be set for SMMUv3 associated PCIe RC",
    more: "default-bus-bypass-iommu=off",
  },
  { situation: "accel=on under TCG", line: `${ACCEL} ${GPU} -accel tcg`, words: "SMMUv3 accel=on requires KVM with kernel-irqchip=on support", more: "accel=tcg" },
  { situation: "accel=on without in-kernel irqchip", line: `${ACCEL} ${GPU} -accel kvm,kernel-irqchip=off`, words: "SMMUv3 accel=on requires KVM with kernel-irqchip=on support" },
  { situation: "accel=on, stage != 1", line: explicit("stage=nested"), words: "Only stage1 is supported for SMMUv3 with accel=on", more: "stage=1" },
  { situation: "stage=7 (QEMU: silently stage 1)", line: `${SMMU},primary-bus=pcie.0,stage=7`, words: "Parameter 'stage' does not accept value '7'", more: "stage=1, stage=2, stage=nested" },
  { situation: "ril=off, accel=off", line: `${SMMU},primary-bus=pcie.0,ril=off`, words: "ril can only be disabled if accel=on" },
  { situation: "ats=on, accel=off", line: `${SMMU},primary-bus=pcie.0,ats=on`, words: "ats can only be enabled if accel=on" },
  { situation: "oas=48, accel=off", line: `${SMMU},primary-bus=pcie.0,oas=48`, words: "oas must be 44 bits when accel=off" },
  {
    situation: "oas=40",
    line: `${SMMU},primary-bus=pcie.0,oas=40`,
    words: "QEMU SMMUv3 model only implements auto, 44 bit, or 48 bit OAS. Other OasMode values are not supported.",
  },
  { situation: "oas=52, accel=on", line: explicit("oas=52"), words: "QEMU SMMUv3 model only implements auto, 44 bit, or 48 bit OAS." },
  { situation: "ssidsize>0, accel=off", line: `${SMMU},primary-bus=pcie.0,ssidsize=8`, words: "ssidsize can only be greater than 0 bits if accel=on" },
  { situation: "ssidsize=21", line: `${SMMU},primary-bus=pcie.0,ssidsize=21`, words: "Parameter 'ssidsize' does not accept value '21'" },
  { situation: "cmdqv=on, accel=off", line: `${SMMU},primary-bus=pcie.0,cmdqv=on`, words: "cmdqv can only be enabled if accel=on" },
  { situation: "cmdqv=on", line: explicit("cmdqv=on"), words: "CMDQV requested but not supported", more: "not modelled" },
  {
    situation: "emulated endpoint behind an accelerated SMMU",
    line: `${ACCEL} ${GPU} -device virtio-net-pci,id=net0,bus=rp2`,
    words: "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on",
    more: /found: virtio-net-pci 'net0'.*behind arm-smmuv3 'smmu1'[\s\S]*would work: a bus that no accelerated SMMU covers/,
  },
  {
    situation: "emulated endpoint on pcie.0 itself",
    line: "-M virt -nodefaults -device arm-smmuv3,primary-bus=pcie.0,accel=on,ril=on,ats=off,oas=44,ssidsize=0 -device e1000e",
    words: "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on",
  },
  {
    situation: "vfio-pci without iommufd=",
    line: `${ACCEL} -device vfio-pci,host=0009:01:00.0,bus=rp1`,
    words: "vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on",
    more: "iommufd=iommufd0",
  },
  { situation: "unknown iommufd", line: `${ACCEL} -device vfio-pci,host=0009:01:00.0,bus=rp1,iommufd=i9`, words: "Device 'i9' not found", more: "iommufd=iommufd0" },
  { situation: "vfio-pci without host=", line: `${ACCEL} -device vfio-pci,bus=rp1,iommufd=iommufd0`, words: "No provided host device" },
  { situation: "a host function that is not there", line: `${ACCEL} -device vfio-pci,host=0001:02:03.4,bus=rp1,iommufd=iommufd0`, words: "vfio 0001:02:03.4: no such host device", more: "0009:01:00.0" },
  { situation: "a host function bound to another driver", line: `${ACCEL} -device vfio-pci,host=0006:01:00.0,bus=rp1,iommufd=iommufd0`, words: "vfio 0006:01:00.0: open: ENODEV", more: "bound to" },
  { situation: "one host function twice", line: `${ACCEL} ${GPU} -device vfio-pci,host=0009:01:00.0,bus=rp2,iommufd=iommufd0`, words: "vfio 0009:01:00.0: device is already attached", more: "'gpu0'" },
  {
    situation: "STLEVEL differs",
    line: explicit("ril=on,ats=on,oas=48,ssidsize=16"),
    host: withRegister("idr0", (value) => value & ~(3 << 27)),
    words: "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 Stream Table format mismatch (host STLEVEL=0, QEMU STLEVEL=1)",
  },
  {
    situation: "SSIDSIZE host < guest",
    line: small("ril=off,ats=off,oas=44,ssidsize=20"),
    host: hostInput("arm-small"),
    words: "vfio 0000:01:00.0: Failed to set vIOMMU: Host SMMUv3 SSIDSIZE not compatible (host=0, QEMU=20)",
    more: "ssidsize=0",
  },
  {
    situation: "SIDSIZE host < guest",
    line: small("ril=off,ats=off,oas=44,ssidsize=0"),
    host: withRegister("idr1", (value) => (value & ~0x3f) | 15, "arm-small"),
    words: "vfio 0000:01:00.0: Failed to set vIOMMU: Host SMMUv3 SIDSIZE not compatible (host=15, QEMU=16)",
  },
  {
    situation: "RIL host < guest",
    line: small("ril=on,ats=off,oas=44,ssidsize=0"),
    host: hostInput("arm-small"),
    words: "vfio 0000:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support Range Invalidation",
  },
  {
    situation: "ATS host < guest",
    line: small("ril=off,ats=on,oas=44,ssidsize=0"),
    host: hostInput("arm-small"),
    words: "vfio 0000:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support Address Translation Services",
  },
  {
    situation: "OAS host < guest",
    line: small("ril=off,ats=off,oas=48,ssidsize=0"),
    host: hostInput("arm-small"),
    words: "vfio 0000:01:00.0: Failed to set vIOMMU: Host SMMUv3 supports only 44-bit IPA, but the vSMMU OAS implies 48-bit IPA",
  },
  {
    situation: "GRAN16K differs",
    line: explicit("ril=on,ats=on,oas=48,ssidsize=16"),
    host: withRegister("idr5", (value) => value & ~(1 << 5)),
    words: "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support 16K translation granule",
  },
  {
    situation: "GRAN64K differs",
    line: explicit("ril=on,ats=on,oas=48,ssidsize=16"),
    host: withRegister("idr5", (value) => value & ~(1 << 6)),
    words: "vfio 0009:01:00.0: Failed to set vIOMMU: Host SMMUv3 doesn't support 64K translation granule",
  },
  {
    situation: "host IOMMU is not SMMUv3",
    line: `${ACCEL.replace("accel=on", "accel=on,ril=off,ats=off,oas=44,ssidsize=0")} ${GPU}`,
    host: withoutSmmu("0009:01:00.0"),
    words: "vfio 0009:01:00.0:",
  },
  { situation: "machine iommu=smmuv3 + virtio-iommu-pci", line: "-M virt,iommu=smmuv3 -device virtio-iommu-pci", words: "'virtio-iommu-pci' is not a valid device model name", more: "arm-smmuv3" },
  { situation: "migration", line: `${ACCEL} ${GPU} -incoming defer`, words: "-incoming: not possible here", more: "Migration not supported with SMMUv3 accelerator mode enabled" },
  {
    situation: "a function of another physical SMMU",
    line: `${ACCEL} ${GPU} -device vfio-pci,host=0008:01:00.0,id=gpu1,bus=rp2,iommufd=iommufd0`,
    words: "vfio 0008:01:00.0: Failed to set vIOMMU:",
    more: /smmu3\.0x0000000016600000[\s\S]*smmu3\.0x0000000011600000|smmu3\.0x0000000011600000[\s\S]*smmu3\.0x0000000016600000/,
  },
  {
    situation: "a function of another iommufd",
    line: `${ACCEL} ${GPU} -object iommufd,id=iommufd1 -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp2,iommufd=iommufd1`,
    words: "vfio 0009:02:00.0: Failed to set vIOMMU:",
    more: /iommufd0[\s\S]*iommufd1|iommufd1[\s\S]*iommufd0/,
  },
  {
    situation: "vfio-pci behind an SMMU that translates in software",
    line: `-M virt -nodefaults ${VFIO} -device arm-smmuv3,primary-bus=pcie.0 -device vfio-pci,host=0009:01:00.0,iommufd=iommufd0`,
    words: "vfio 0009:01:00.0: device 00.01.0 requires iommu MAP notifier which is not currently supported",
    more: "accel=on",
  },
  { situation: "VT-d: fsts=on, scalable off", line: `${VTD},fsts=on`, words: "fsts is only available in scalable mode", more: "would work: scalable-mode=on,fsts=on" },
  { situation: "VT-d: the same before its width is looked at", line: `${VTD},fsts=on,aw-bits=39,pasid-bits=21`, words: "fsts is only available in scalable mode" },
  { situation: "VT-d: fsts=on, aw-bits != 48", line: `${VTD},scalable-mode=on,fsts=on,aw-bits=57`, words: "Scalable mode(fsts=on): supported value for aw-bits is: 48", more: "aw-bits=57" },
  { situation: "VT-d: fsts=on on an older machine", line: `${VTD.replace("q35", "pc-q35-9.1")},scalable-mode=on,fsts=on`, words: "Scalable mode(fsts=on): supported value for aw-bits is: 48", more: "the default of this machine's version" },
  { situation: "VT-d: scalable, fsts off, aw 57", line: `${VTD},scalable-mode=on,aw-bits=57`, words: "Scalable mode(fsts=off): supported values for aw-bits are: 39, 48" },
  { situation: "VT-d: legacy aw 40", line: `${VTD},aw-bits=40`, words: "Legacy mode: supported values for aw-bits are: 39, 48" },
  { situation: "VT-d: pasid-bits without scalable", line: `${VTD},pasid-bits=21`, words: "Need to set scalable mode for PASID", more: "scalable-mode=on,pasid-bits=20" },
  { situation: "VT-d: pasid-bits > 20", line: `${VTD},scalable-mode=on,pasid-bits=0x15`, words: "PASID width 21 exceeds Max PASID Width 20 allowed in PCI spec" },
  { situation: "VT-d: svm without device-iotlb", line: `${VTD},svm=on`, words: "Need to set device IOTLB for svm", more: "device-iotlb=on" },
  { situation: "VT-d: svm without fsts", line: `${VTD},scalable-mode=on,svm=on,device-iotlb=on`, words: "Need to set fsts for svm" },
  { situation: "VT-d: svm without dma-translation", line: `${VTD},scalable-mode=on,fsts=on,svm=on,device-iotlb=on,pasid-bits=8,dma-translation=off`, words: "Need to set dma-translation for svm" },
  { situation: "VT-d: svm without PASIDs", line: `${VTD},scalable-mode=on,fsts=on,svm=on,device-iotlb=on`, words: "Need to set PASID support for svm" },
  { situation: "VT-d: intremap=off,eim=on", line: `${VTD},intremap=off,eim=on,fsts=on`, words: "eim=on cannot be selected without intremap=on", more: "would work: intremap=on" },
  { situation: "VT-d: eim=on with KVM's own irqchip", line: `${VTD.replace("q35", "q35,accel=kvm")},eim=on`, words: "eim=on cannot be selected without intremap=on", more: "kernel-irqchip=split" },
  {
    situation: "VT-d: intremap=on with KVM's own irqchip",
    line: `${VTD.replace("q35", "q35,accel=kvm,kernel-irqchip=on")},intremap=on`,
    words: "Interrupt Remapping cannot work with kernel-irqchip=on, please use 'split|off'.",
    more: "would work: -machine kernel-irqchip=split",
  },
  { situation: "VT-d: two of them", line: `${VTD} -device intel-iommu`, words: "QEMU does not support multiple vIOMMUs for x86 yet." },
  { situation: "VT-d: beside virtio-iommu", line: `${VTD} -device virtio-iommu-pci`, words: "QEMU does not support multiple vIOMMUs for x86 yet." },
  { situation: "VT-d: -machine pc", line: VTD.replace("q35", "pc"), words: "Parameter 'driver' expects a dynamic sysbus device type for the machine", more: "would work: -machine q35" },
  { situation: "VT-d: SATC without ATS", line: `${VTD},x-satc=on`, words: "x-satc needs device-iotlb=on" },
  { situation: "VT-d: a node that is not there", line: `${VTD},x-numa-node=1 -object memory-backend-ram,id=m0,size=128M -numa node,memdev=m0`, words: "Illegal numa node 1", more: "x-numa-node=0 to 0" },
  { situation: "slot of the LPC bridge", line: "-M q35 -nodefaults -device edu,addr=1f", words: "PCI: slot 31 function 0 not available for edu, in use by ICH9-LPC,id=(null)" },
  { situation: "slot of the memory controller hub", line: "-M q35 -nodefaults -device edu,addr=0", words: "PCI: slot 0 function 0 not available for edu, in use by mch,id=(null)" },
  { situation: "Bus not found", line: "-M virt -nodefaults -device edu,bus=x", words: "Bus 'x' not found", more: "pcie.0" },
  { situation: "slot taken", line: "-M virt -nodefaults -device edu,addr=1 -device edu,addr=1", words: "PCI: slot 1 function 0 not available for edu, in use by edu,id=(null)" },
  { situation: "slot of the host bridge", line: "-M virt -nodefaults -device edu,addr=0", words: "PCI: slot 0 function 0 not available for edu, in use by gpex-root,id=(null)" },
  { situation: "function of a single-function device", line: "-M virt -nodefaults -device edu,addr=1.0 -device edu,addr=1.1", words: "PCI: single function device can't be populated in function 1.1" },
  { situation: "bus number taken", line: "-M virt -nodefaults -device pxb-pcie,bus_nr=16,id=a -device pxb-pcie,bus_nr=16,id=b", words: "Bus 16 is already in use" },
  { situation: "bus number 0 (QEMU: a second bus 0)", line: "-M virt -nodefaults -device pxb-pcie,bus_nr=0,id=a", words: "Bus 0 is already in use", more: "another bus_nr" },
  {
    situation: "bus number without configuration space (QEMU: unreachable)",
    line: "-M virt,highmem-ecam=off -nodefaults -device pxb-pcie,bus_nr=128,id=a",
    words: "Bus 128 is beyond the machine's configuration space",
    more: "bus_nr=1 to 15",
  },
  { situation: "one memory backend for two nodes", line: "-M virt -m 2G -object memory-backend-ram,id=m,size=1G -numa node,memdev=m -numa node,memdev=m", words: "memory backend m can't be used multiple times." },
  { situation: "numa node that is not there", line: "-M virt -nodefaults -device pxb-pcie,bus_nr=16,id=a,numa_node=3", words: "Illegal numa node 3" },
  { situation: "endpoint on an expander bus", line: "-M virt -nodefaults -device pxb-pcie,bus_nr=16,id=a -device edu,bus=a", words: "PCI: Only PCI/PCIe bridges can be plugged into pxb-pcie" },
  { situation: "chassis taken", line: "-M virt -nodefaults -device pcie-root-port,id=a,chassis=1 -device pcie-root-port,id=b,chassis=1", words: "Can't add chassis slot, error -16" },
  { situation: "memory backend of another size", line: "-M virt,memory-backend=m -m 2G -object memory-backend-ram,id=m,size=1G", words: "Machine memory size does not match the size of the memory backend" },
  { situation: "memory backend that is not there", line: "-M virt,memory-backend=m", words: "Memory backend 'm' not found" },
  { situation: "NUMA nodes smaller than RAM", line: "-M virt -m 2G -object memory-backend-ram,id=m,size=1G -numa node,nodeid=0,memdev=m", words: "total memory for NUMA nodes (0x40000000) should equal RAM size (0x80000000)" },
  { situation: "NUMA backend that is not there", line: "-M virt -m 1G -numa node,nodeid=0,memdev=x", words: "memdev=x is ambiguous" },
  { situation: "GICv2 with an ITS", line: "-M virt,gic-version=2,msi=its", words: "GICv2 + ITS is an invalid configuration." },
  { situation: "msi=its with its=off", line: "-M virt,gic-version=3,msi=its,its=off", words: "GICv2 + ITS is an invalid configuration." },
  { situation: "RAM beyond 32 bits without highmem", line: "-M virt,highmem=off -m 64G", words: "Addressing limited to 32 bits, but memory exceeds it by 65498251264 bytes" },
  { situation: "memory devices beyond 32 bits without highmem", line: "-M virt,highmem=off -m 3G,slots=1,maxmem=8G", words: "Addressing limited to 32 bits, but memory exceeds it by 6442450944 bytes", more: "would work: no maxmem, or highmem=on" },
  { situation: "RAM of a byte more than 32 bits have", line: "-M virt,highmem=off -m 3073M", words: "Addressing limited to 32 bits, but memory exceeds it by 1073741824 bytes", more: "-m 3072M at the most, or highmem=on" },
  { situation: "maxmem beyond a CPU's 44 bits", line: "-M virt -cpu cortex-a57 -m 1G,slots=1,maxmem=8192P", words: "Addressing limited to 44 bits, but memory exceeds it by 9223354446816215040 bytes", more: "-cpu cortex-a57 of 44 bits" },
  { situation: "maxmem that leaves no room for 256 buses", line: "-M virt -m 1G,slots=1,maxmem=262142G -device pxb-pcie,bus_nr=32", words: "Bus 32 is beyond the machine's configuration space", more: "bus_nr=1 to 15, or a smaller maxmem for 256 buses: their configuration space has no room below 0x1000000000000" },
  { situation: "q35: maxmem beyond 40 bits", line: "-M q35 -nodefaults -m 1G,slots=1,maxmem=1000G", words: "Address space limit 0xffffffffff < 0x102ffffffff phys-bits too low (40)", more: "-cpu max,phys-bits=41" },
  { situation: "q35: maxmem beyond all bits", line: "-M q35 -nodefaults -cpu host -m 1G,slots=1,maxmem=8192P", words: "Address space limit 0xfffffffffffff < 0x", more: "would work: a smaller maxmem" },
  { situation: "more RAM than the host has", line: "-M virt -m 16T", words: "cannot set up guest memory 'mach-virt.ram': Cannot allocate memory" },
];

describe("what cannot be", () => {
  it.each(rows)("$situation", ({ line, words, more, host }) => {
    const refusal = refusalOf(() => build(line, host));
    expect(refusal.words.startsWith(words), refusal.message).toBe(true);
    if (more !== undefined) {
      expect(refusal.message).toMatch(more);
    }
  });

  it("is the 17th SMMU", () => {
    const machine = (count: number): string =>
      `-M virt -nodefaults ${Array.from({ length: count }, (_unused, i) => `-device pxb-pcie,id=p${i},bus_nr=${8 * (i + 1)} -device arm-smmuv3,primary-bus=p${i}`).join(" ")}`;
    expect(refusalOf(() => build(machine(17))).words).toBe("Platform Bus: Can not fit IRQ line");
    const { machine: sixteen } = build(machine(16));
    expect(sixteen.describe().iommus).toHaveLength(16);
    expect(sixteen.describe().iommus[15]).toMatchObject({ base: 0x0c1e_0000, interrupts: [204, 205, 206, 207] });
  });

  it("is to start with auto properties and no function, once everything is plugged", () => {
    const { machine, host } = build(ACCEL);
    const refusal = refusalOf(() => machine.start());
    expect(refusal.words).toBe("arm-smmuv3 accel=on with 'auto' properties requires at least one cold-plugged VFIO device");
    expect(refusal.message).toContain("ril=on,ats=off,oas=44,ssidsize=0");
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("is the same where the function's bus= was forgotten, and that is told", () => {
    const { machine, host } = build(`${ACCEL} -device vfio-pci,host=0009:01:00.0,id=gpu0,iommufd=iommufd0`);
    expect(refusalOf(() => machine.start()).message).toContain("no vfio-pci function behind it; vfio-pci 'gpu0' is on bus 'pcie.0'");
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });
});

describe("an accelerated SMMU without ACPI", () => {
  it.each([
    [",acpi=off", 1],
    ["", 0],
  ])("is told in QEMU's words with '%s'", (option, times) => {
    const { machine, log } = build(ACCEL.replace("-M virt", `-M virt${option}`));
    expect(log.lines.filter(({ text }) => text.startsWith("SMMUv3 with accel=on not supported for DT: "))).toHaveLength(times);
    machine.shutdown();
  });
});

describe("memory without room for the firmware's tables", () => {
  it.each([
    ["-M q35 -nodefaults -m 4k", "ACPI's tables have no room between 1 MiB and the end of low RAM, 0x2000: -m 1.0625M would do"],
    ["-M q35,max-ram-below-4g=1M -nodefaults", "ACPI's tables have no room between 1 MiB and the end of low RAM, 0x100000: -m 1.0625M would do"],
    ["-M q35,acpi=off -nodefaults", "acpi=off takes a q35's only tables away: acpi=on has them"],
    ["-M q35,acpi=off -nodefaults -device intel-iommu,id=vtd0", "acpi=off takes a q35's only tables away, with them the DMAR that vtd0 is found by: acpi=on has them"],
    ["-M virt -nodefaults -m 4k", "ACPI's tables of 3456 bytes at 0x40010000 have no room in RAM: -m 1M would do"],
  ])("%s is told once, to the guest too", async (line, missing) => {
    const { machine, log } = build(line);
    machine.start();
    machine.reset();
    expect(log.lines.filter(({ level }) => level === "warning").map(({ text }) => text)).toEqual([`the guest misses tables of its firmware: ${missing}`]);
    expect(await machine.port().firmware()).toMatchObject({ acpiRoot: null, missing });
    machine.shutdown();
  });
});

describe("expanders without room for the buses below them", () => {
  const port = (bus: string, chassis: number): string => `-device pcie-root-port,bus=${bus},chassis=${chassis}`;

  it.each([
    ["-M virt -nodefaults -device pxb-pcie,id=p,bus_nr=16 -device pxb-pcie,id=q,bus_nr=17 " + port("p", 1), ["pxb-pcie 'p' (bus_nr=16) has room for 0 of the 1 buses below it, for pxb-pcie 'q' has bus_nr=17: a guest may find functions there under another IOMMU, or not at all; would work: bus_nr=18 or more for pxb-pcie 'q'"]],
    ["-M q35 -nodefaults -device pxb-pcie,id=p,bus_nr=254 " + port("p", 1) + " " + port("p", 2), ["pxb-pcie 'p' (bus_nr=254) has room for 1 of the 2 buses below it, for configuration space has 256 buses: a guest may find functions there under another IOMMU, or not at all; would work: bus_nr=253 or less for it"]],
    ["-M virt -nodefaults -device pxb-pcie,id=p,bus_nr=1 " + port("pcie.0", 1), ["pcie.0 has room for 0 of the 1 buses below it, for pxb-pcie 'p' has bus_nr=1: a guest may find functions there under another IOMMU, or not at all; would work: bus_nr=2 or more for pxb-pcie 'p'"]],
    ["-M virt -nodefaults -device pxb-pcie,id=p,bus_nr=16 -device pxb-pcie,id=q,bus_nr=18 " + port("p", 1), []],
  ])("%s", (line, warnings) => {
    const { machine, log } = build(line);
    machine.start();
    expect(log.lines.filter(({ level }) => level === "warning").map(({ text }) => text)).toEqual(warnings);
    machine.shutdown();
  });
});

describe("what can be", () => {
  const works: Array<[string, string]> = [
    ["accel=on without functions and with explicit properties", ACCEL.replace("accel=on", "accel=on,ril=on,ats=off,oas=44,ssidsize=0")],
    ["cmdqv=auto and cmdqv=off", `${ACCEL.replace("accel=on", "accel=on,cmdqv=off")} ${GPU}`],
    ["several functions of one physical SMMU", `${ACCEL} ${GPU} -device vfio-pci,host=0009:02:00.0,bus=rp2,iommufd=iommufd0`],
    ["several vSMMUs on one physical SMMU", `${ACCEL} ${GPU} -device pxb-pcie,id=pcie.2,bus_nr=32 -device arm-smmuv3,primary-bus=pcie.2,accel=on -device pcie-root-port,id=rp3,bus=pcie.2,chassis=3 -device vfio-pci,host=0009:02:00.0,bus=rp3,iommufd=iommufd0`],
    ["an SMMU in software beside an accelerated one", `${ACCEL} ${GPU} -device arm-smmuv3,primary-bus=pcie.0 -device e1000e -device nvme,serial=a`],
    ["an SMMU after the functions of its bus", "-M virt -nodefaults -device virtio-net-pci -device arm-smmuv3,primary-bus=pcie.0"],
    ["stage 2, nested, all defaults spelt out", "-M virt -nodefaults -device arm-smmuv3,primary-bus=pcie.0,stage=nested,ril=on,ats=off,oas=44,ssidsize=0,cmdqv=auto"],
    ["vfio-pci where no SMMU is", `-M virt -nodefaults ${VFIO} -device vfio-pci,host=0009:01:00.0,iommufd=iommufd0`],
    ["memory up to the last GiB of a CPU's bits", "-M virt,highmem=off -nodefaults -m 1G,slots=1,maxmem=2G"],
    ["maxmem beyond 40 bits with a CPU that has more", "-M q35 -nodefaults -cpu Skylake-Server,phys-bits=42 -m 1G,slots=1,maxmem=1T"],
    ["maxmem beyond 48 bits with a CPU that has more", "-M virt -nodefaults -cpu max -m 1G,slots=1,maxmem=300T"],
    ["ril=off with accel=on", `${ACCEL.replace("accel=on", "accel=on,ril=off")} ${GPU}`],
  ];
  it.each(works)("%s", (_name, line) => {
    const { machine, host }: Built = build(line);
    machine.start();
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });
});
