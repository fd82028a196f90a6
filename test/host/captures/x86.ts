/** x86 hosts: a Xeon of two sockets, an Epyc, a desktop. */
import type { Snapshot } from "../../../src/host/sysfs/index.js";
import { GIBI, HostMaker, MEBI, port } from "./maker.js";

const INTEL = 0x8086;
const NVIDIA = 0x10de;
const AMD = 0x1022;

/** The range in which memory writes are interrupts. */
const X86_MSI = "0x00000000fee00000 0x00000000feefffff msi\n";

const FULL_X86 = {
  CONFIG_IOMMU_SUPPORT: "y",
  CONFIG_IOMMUFD: "m",
  CONFIG_IOMMUFD_DRIVER: "y",
  CONFIG_VFIO: "m",
  CONFIG_VFIO_PCI: "m",
  CONFIG_VFIO_DEVICE_CDEV: "y",
  CONFIG_VFIO_GROUP: "y",
  CONFIG_INTEL_IOMMU: "y",
  CONFIG_INTEL_IOMMU_SVM: "y",
  CONFIG_INTEL_IOMMU_DEFAULT_ON: "y",
  CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON: "y",
  CONFIG_AMD_IOMMU: "y",
  CONFIG_IRQ_REMAP: "y",
  CONFIG_PCI_PASID: "y",
  CONFIG_PCI_ATS: "y",
  CONFIG_KVM: "m",
  CONFIG_KVM_INTEL: "m",
  CONFIG_KVM_AMD: "m",
  CONFIG_HUGETLBFS: "y",
};

/** MGAW 57 bits, tables of 48 and 57, first stage of 1-GiB pages and five levels; NEST, PASIDs of 20 bits, both stages, dirty bits, coherent walks. */
const SERVER_CAP = "19ed008c40780c66";
const SERVER_ECAP = "3ef9e86f050df";
/** A socket's last unit has no device-TLB and no PASIDs: the platform's own functions are behind it. */
const PLATFORM_CAP = "8d2078c106f0466";
const PLATFORM_ECAP = "f020df";

/** Two sockets: GPUs behind a switch without ACS, accelerators of the denylist, NICs with virtual functions, a management controller with an RMRR. */
export function xeon(): Snapshot {
  const host = new HostMaker("x86_64", "7.3.4", X86_MSI, "DMA");
  const units = [0, 1, 2, 3, 4, 5].map((n) => host.dmar(n, [0xc2ff_c000, 0xd57f_c000, 0xfbff_c000, 0x9c7f_c000, 0xaf3f_c000, 0xe7ff_c000][n], n % 3 === 2 ? PLATFORM_CAP : SERVER_CAP, n % 3 === 2 ? PLATFORM_ECAP : SERVER_ECAP));
  const all = { config: 4096 } as const;
  for (const socket of [0, 1] as const) {
    const [gpus, nics, platform] = units.slice(socket * 3, socket * 3 + 3);
    const bus = (n: number): string => (n + socket * 0x80).toString(16).padStart(2, "0");
    const group = 30 * socket;
    const [g, n, p] = [bus(0x15), bus(0x37), bus(0x00)];
    const root = `pci0000:${g}/0000:${g}:01.0`;
    const up = `${root}/0000:${bus(0x16)}:00.0`;
    host.fn(root, port(INTEL, 0x352a, { iommu: gpus, group, node: socket })).fn(up, port(0x1000, 0xc030, { iommu: gpus, group, node: socket, acs: undefined }));
    for (const slot of [0, 1]) {
      const down = `${up}/0000:${bus(0x17)}:0${slot}.0`;
      host
        .fn(down, port(0x1000, 0xc030, { iommu: gpus, group, node: socket, acs: 0 }))
        .fn(`${down}/0000:${bus(0x18 + slot)}:00.0`, { vendor: NVIDIA, device: 0x2330, class: 0x030200, driver: slot === 0 ? "vfio-pci" : "nvidia", cdev: slot === 0 ? `vfio${socket * 3}` : undefined, iommu: gpus, group, node: socket, bars: [{ index: 0, size: 16 * MEBI }, { index: 2, size: 128 * GIBI, prefetchable: true }, { index: 4, size: 32 * MEBI, prefetchable: true }], msix: 6, ats: true, pasid: 20, reset: "flr bus", ...all });
    }
    const nicRoot = `pci0000:${n}/0000:${n}:01.0`;
    const pf = `0000:${bus(0x38)}:00.0`;
    host
      .fn(nicRoot, port(INTEL, 0x352b, { iommu: nics, group: group + 1, node: socket }))
      .fn(`${nicRoot}/${pf}`, { vendor: 0x15b3, device: 0x1021, class: 0x020000, driver: "mlx5_core", iommu: nics, group: group + 2, node: socket, bars: [{ index: 0, size: 32 * MEBI, prefetchable: true }], msix: 64, ats: true, pasid: 20, reset: "flr bus", ...all });
    for (const vf of [1, 2]) {
      host.fn(`${nicRoot}/0000:${bus(0x38)}:00.${vf}`, { vendor: 0x15b3, device: 0x101e, class: 0x020000, driver: "vfio-pci", cdev: `vfio${socket * 3 + vf}`, physfn: pf, iommu: nics, group: group + 2 + vf, node: socket, bars: [{ index: 0, size: MEBI, prefetchable: true }], msix: 12, ats: true, reset: "flr", ...all });
    }
    host
      .fn(`pci0000:${bus(0x70)}/0000:${bus(0x70)}:01.0`, { vendor: INTEL, device: 0x0b25, class: 0x088000, driver: "idxd", iommu: nics, group: group + 6, node: socket, bars: [{ index: 0, size: 65536 }, { index: 2, size: 131072 }], msix: 9, ats: true, pri: true, pasid: 20, reset: "flr", ...all })
      .fn(`pci0000:${p}/0000:${p}:00.0`, { vendor: INTEL, device: 0x09a2, class: 0x088000, iommu: platform, group: group + 7, node: socket, ...all });
    if (socket === 0) {
      const bmc = "pci0000:00/0000:00:1c.0/0000:02:00.0";
      host
        .fn("pci0000:00/0000:00:1c.0", port(INTEL, 0x1bb8, { iommu: platform, group: 8, node: 0 }))
        .fn(bmc, port(0x1a03, 0x1150, { iommu: platform, group: 9, node: 0, acs: undefined, driver: undefined }))
        .fn(`${bmc}/0000:03:00.0`, { vendor: 0x1a03, device: 0x2000, class: 0x030000, driver: "ast", iommu: platform, group: 9, node: 0, bars: [{ index: 0, size: 64 * MEBI, is64: false }, { index: 1, size: 262144, is64: false }, { index: 2, size: 128, io: true }], reset: "bus", ...all })
        .fn("pci0000:00/0000:00:14.0", { vendor: INTEL, device: 0x1bcd, class: 0x0c0330, driver: "xhci_hcd", iommu: platform, group: 10, node: 0, bars: [{ index: 0, size: 65536 }], msi: 8, reset: "pm", ...all }, `0x0000000078640000 0x0000000078663fff direct-relaxable\n${X86_MSI}`)
        .fn("pci0000:00/0000:00:17.0", { vendor: INTEL, device: 0x1ba2, class: 0x010601, driver: "ahci", iommu: platform, group: 11, node: 0, bars: [{ index: 0, size: 8192, is64: false }, { index: 5, size: 524288, is64: false }], msi: 1, reset: "", ...all }, `0x000000007863c000 0x000000007863ffff direct\n${X86_MSI}`);
    }
  }
  return host
    .numa([{ id: 0, cpus: "0-55,112-167", gib: 256, from: 4, distance: "10 21" }, { id: 1, cpus: "56-111,168-223", gib: 256, from: 260, distance: "21 10" }], 2048)
    .hugepages(0, 1048576, 64, 64)
    .hugepages(1, 1048576, 64, 32)
    .hugepages(0, 2048, 0, 0)
    .kernel(FULL_X86, "intel_iommu=on,sm_on iommu=pt")
    .proc("cpuinfo", "vendor_id\t: GenuineIntel\naddress sizes\t: 52 bits physical, 57 bits virtual\n")
    .memlock("unlimited", "000001ffffffffff")
    .node("dev/iommu", "usable")
    .node("dev/kvm", "usable")
    .made();
}

/** An Epyc of one socket: an IOMMU for each of four host bridges. */
export function epyc(): Snapshot {
  const host = new HostMaker("x86_64", "6.17.4-2-pve", `${X86_MSI}0x000000fd00000000 0x000000ffffffffff reserved\n`);
  const buses = ["00", "40", "80", "c0"];
  buses.forEach((bus, n) => {
    const unit = `pci0000:${bus}/0000:${bus}:00.2`;
    const ivhd = host.ivhd(n, unit);
    const all = { config: 4096, iommu: ivhd, node: 0 } as const;
    const root = `pci0000:${bus}/0000:${bus}:01.1`;
    const next = (parseInt(bus, 16) + 1).toString(16).padStart(2, "0");
    host
      .fn(`pci0000:${bus}/0000:${bus}:00.0`, { vendor: AMD, device: 0x14a4, class: 0x060000, config: 4096, node: 0 })
      .fn(unit, { vendor: AMD, device: 0x149e, class: 0x080600, config: 4096, node: 0 })
      .fn(root, port(AMD, 0x14ab, { iommu: ivhd, group: 10 * n, node: 0 }))
      .fn(`${root}/0000:${next}:00.0`, { vendor: n < 2 ? NVIDIA : 0x144d, device: n < 2 ? 0x26b9 : 0xa80a, class: n < 2 ? 0x030200 : 0x010802, driver: n === 0 ? "vfio-pci" : n === 1 ? "nvidia" : "nvme", cdev: n === 0 ? "vfio0" : undefined, group: 10 * n + 1, bars: n < 2 ? [{ index: 0, size: 16 * MEBI, is64: false }, { index: 1, size: 64 * GIBI, prefetchable: true }, { index: 3, size: 32 * MEBI, prefetchable: true }] : [{ index: 0, size: 16384 }], msix: n < 2 ? 6 : 130, ats: n < 2, reset: "flr bus", ...all });
  });
  return host
    .numa([{ id: 0, cpus: "0-63", gib: 384, from: 4, distance: "10" }], 2048)
    .kernel({ ...FULL_X86, CONFIG_INTEL_IOMMU_DEFAULT_ON: "n" }, "amd_iommu=on iommu=pt")
    .proc("cpuinfo", "vendor_id\t: AuthenticAMD\naddress sizes\t: 52 bits physical, 57 bits virtual\n")
    .memlock("unlimited", "000001ffffffffff")
    .node("dev/iommu", "usable")
    .node("dev/kvm", "usable")
    .made();
}

/** A desktop: legacy mode, a graphics card of four functions in one group with its port's, the chipset's functions in another; Debian's kernel, a user of it. */
export function desktop(): Snapshot {
  const host = new HostMaker("x86_64", "6.12.48+deb13-amd64", X86_MSI);
  const igpu = host.dmar(0, 0xfed9_0000, "1c0000c40660462", "29a00f0505e");
  const rest = host.dmar(1, 0xfed9_1000, "d2008c40660462", "f050da");
  const card = (n: number): string => `pci0000:00/0000:00:01.0/0000:01:00.${n}`;
  const shared = { iommu: rest, group: 2, reset: "bus" } as const;
  const chipset = { iommu: rest, group: 8, reset: "pm" } as const;
  return host
    .fn("pci0000:00/0000:00:00.0", { vendor: INTEL, device: 0xa700, class: 0x060000, iommu: rest, group: 1 })
    .fn("pci0000:00/0000:00:01.0", port(INTEL, 0xa70d, { iommu: rest, group: 2, config: 64 }))
    .fn(card(0), { vendor: NVIDIA, device: 0x1e04, class: 0x030000, driver: "vfio-pci", bars: [{ index: 0, size: 16 * MEBI, is64: false }, { index: 1, size: 256 * MEBI, prefetchable: true }, { index: 3, size: 32 * MEBI, prefetchable: true }, { index: 5, size: 128, io: true }], ...shared })
    .fn(card(1), { vendor: NVIDIA, device: 0x10f7, class: 0x040300, driver: "snd_hda_intel", bars: [{ index: 0, size: 16384, is64: false }], ...shared })
    .fn(card(2), { vendor: NVIDIA, device: 0x1ad6, class: 0x0c0330, driver: "xhci_hcd", bars: [{ index: 0, size: 262144, prefetchable: true }], ...shared })
    .fn(card(3), { vendor: NVIDIA, device: 0x1ad7, class: 0x0c8000, driver: "nvidia-gpu", bars: [{ index: 0, size: 4096, is64: false }], ...shared })
    .fn("pci0000:00/0000:00:02.0", { vendor: INTEL, device: 0xa780, class: 0x030000, driver: "i915", iommu: igpu, group: 0, reset: "flr pm", bars: [{ index: 0, size: 16 * MEBI }, { index: 2, size: 256 * MEBI, prefetchable: true }, { index: 4, size: 64, io: true }] }, `0x000000009c800000 0x00000000a0ffffff direct-relaxable\n${X86_MSI}`)
    .fn("pci0000:00/0000:00:1f.0", { vendor: INTEL, device: 0x7a84, class: 0x060100, ...chipset })
    .fn("pci0000:00/0000:00:1f.3", { vendor: INTEL, device: 0x7ad0, class: 0x040300, driver: "snd_hda_intel", bars: [{ index: 0, size: 16384 }, { index: 4, size: MEBI }], ...chipset })
    .fn("pci0000:00/0000:00:1f.4", { vendor: INTEL, device: 0x7aa3, class: 0x0c0500, driver: "i801_smbus", bars: [{ index: 0, size: 256 }, { index: 4, size: 32, io: true }], ...chipset })
    .fn("pci0000:00/0000:00:1d.0", port(INTEL, 0x7ab0, { iommu: rest, group: 5, config: 64 }))
    .fn("pci0000:00/0000:00:1d.0/0000:02:00.0", { vendor: 0x144d, device: 0xa80a, class: 0x010802, driver: "nvme", iommu: rest, group: 6, bars: [{ index: 0, size: 16384 }], reset: "flr bus" })
    .numa([{ id: 0, cpus: "0-23", gib: 32, from: 4, distance: "10" }], 128)
    .hugepages(0, 2048, 0, 0)
    .kernel({ ...FULL_X86, CONFIG_IOMMUFD: "n", CONFIG_IOMMUFD_DRIVER: "n", CONFIG_VFIO_DEVICE_CDEV: "n", CONFIG_INTEL_IOMMU_DEFAULT_ON: "n" }, "intel_iommu=on")
    .proc("cpuinfo", "vendor_id\t: GenuineIntel\naddress sizes\t: 46 bits physical, 48 bits virtual\n")
    .memlock(4_087_758_848)
    .node("dev/iommu", "absent")
    .node("dev/kvm", "usable")
    .made();
}
