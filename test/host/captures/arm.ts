/** Arm servers: two Graces with GPUs, an AmpereOne whose SMMUs nest, an Altra whose SMMUs do not. */
import type { Snapshot } from "../../../src/host/sysfs/index.js";
import { GIBI, HostMaker, MEBI, port } from "./maker.js";

/** The window for messages of an SMMUv3's driver (MSI_IOVA_BASE, MSI_IOVA_LENGTH). */
const MSI = "0x0000000008000000 0x00000000080fffff msi\n";
const NVIDIA = 0x10de;
const AMPERE = 0x1def;

/** ID registers 0 to 5 of an SMMUv3 with both stages, ATS, ranges, SubstreamIDs of 20 bits and addresses of 48. */
const GRACE_IDR = [0x0d4c_749b, 0x0273_0518, 0, 0x1514, 0, 0x75] as const;

/** Options of a kernel that has all of it. */
export const FULL_ARM = {
  CONFIG_IOMMU_SUPPORT: "y",
  CONFIG_IOMMUFD: "m",
  CONFIG_IOMMUFD_DRIVER: "y",
  CONFIG_VFIO: "m",
  CONFIG_VFIO_PCI: "m",
  CONFIG_VFIO_DEVICE_CDEV: "y",
  CONFIG_VFIO_GROUP: "y",
  CONFIG_NVGRACE_GPU_VFIO_PCI: "m",
  CONFIG_ARM_SMMU_V3: "y",
  CONFIG_ARM_SMMU_V3_SVA: "y",
  CONFIG_ARM_SMMU_V3_IOMMUFD: "y",
  CONFIG_TEGRA241_CMDQV: "y",
  CONFIG_PCI_PASID: "y",
  CONFIG_PCI_ATS: "y",
  CONFIG_KVM: "y",
  CONFIG_ARM64_64K_PAGES: "y",
  CONFIG_HUGETLBFS: "y",
};

/** Two sockets of 240 GiB, a GPU, a NIC and an NVMe each; the GPUs are a guest's already. Nodes 2 to 17 are for the GPUs' memory. */
export function grace(): Snapshot {
  const host = new HostMaker("aarch64", "7.3.4-64k", MSI);
  const node = { 0: 0, 1: 1 } as const;
  for (const socket of [0, 1] as const) {
    const base = socket * 0x1000_0000_0000;
    const [gpu, nic, disk] = [0x1160_0000, 0x1200_0000, 0x0500_0000].map((at, i) => host.smmu(base + at, socket * 3 + i, node[socket]));
    const domain = (n: number): string => (socket * 0x10 + n).toString(16).padStart(4, "0");
    const path = (d: string, ...functions: string[]): string => [`pci${d}:00`, `${d}:00:00.0`, ...functions].join("/");
    const [g, n, d] = [domain(9), domain(2), domain(0)];
    const group = 10 * socket;
    const common = { config: 4096, node: node[socket] } as const;
    host
      .fn(path(g), port(NVIDIA, 0x22b1, { iommu: gpu, group, node: socket }))
      .fn(path(g, `${g}:01:00.0`), { vendor: NVIDIA, device: 0x2342, class: 0x030200, driver: "nvgrace-gpu-vfio-pci", cdev: `vfio${socket}`, iommu: gpu, group: group + 1, bars: [{ index: 0, size: 16 * MEBI }, { index: 2, size: 128 * GIBI, prefetchable: true }, { index: 4, size: 32 * MEBI, prefetchable: true }], msix: 9, msi: 1, ats: true, pasid: 20, reset: "bus", ...common })
      .fn(path(n), port(NVIDIA, 0x22b2, { iommu: nic, group: group + 2, node: socket }))
      .fn(path(n, `${n}:01:00.0`), { vendor: 0x15b3, device: 0x1021, class: 0x020000, driver: "mlx5_core", iommu: nic, group: group + 3, bars: [{ index: 0, size: 32 * MEBI, prefetchable: true }], msix: 64, ats: true, reset: "flr bus", ...common })
      .fn(path(d), port(NVIDIA, 0x22b8, { iommu: disk, group: group + 4, node: socket }))
      .fn(path(d, `${d}:01:00.0`), { vendor: 0x144d, device: 0xa824, class: 0x010802, driver: "nvme", iommu: disk, group: group + 5, bars: [{ index: 0, size: 32768 }], msix: 64, reset: "flr bus", ...common })
      .registers(`${g}:01:00.0`, GRACE_IDR, { iidr: 0x4871_143b, aidr: 2, pasid: 20 });
  }
  const nodes = Array.from({ length: 18 }, (_node, id) => ({
    id,
    cpus: id === 0 ? "0-71" : id === 1 ? "72-143" : "",
    gib: id < 2 ? 240 : 0,
    from: id === 0 ? 2 : 16 * 1024 + 2,
    distance: Array.from({ length: 18 }, (_other, other) => (other === id ? 10 : id < 2 && other < 2 ? 40 : 80)).join(" "),
  }));
  return host
    .numa(nodes, 512)
    .hugepages(0, 524288, 128, 128)
    .hugepages(1, 524288, 128, 0)
    .kernel(FULL_ARM, "iommu.passthrough=0 hugepagesz=512M hugepages=256")
    .memlock("unlimited")
    .node("dev/iommu", "usable")
    .node("dev/kvm", "usable")
    .made();
}

/** An AmpereOne: MMU-700 r1p1, one socket, a kernel of a distribution that lacks the SMMUv3's part of iommufd; a user who is nobody special. */
export function ampere(): Snapshot {
  const host = new HostMaker("aarch64", "6.17.0-1009-generic", MSI);
  for (const n of [0, 1, 2, 3]) {
    const smmu = host.smmu(0x2690_0000 + n * 0x100_0000, n, 0);
    const d = `000${n}`;
    const at = `pci${d}:00/${d}:00:01.0`;
    host.fn(at, port(AMPERE, 0xe208, { iommu: smmu, group: 2 * n, config: 64, node: 0 }));
    if (n < 2) {
      host.fn(`${at}/${d}:01:00.0`, { vendor: 0x15b3, device: 0x101d, class: 0x020000, driver: n === 0 ? "vfio-pci" : "mlx5_core", cdev: n === 0 ? "vfio0" : undefined, iommu: smmu, group: 2 * n + 1, node: 0, bars: [{ index: 0, size: 32 * MEBI, prefetchable: true }, { index: 2, size: 2 * MEBI }], reset: "flr bus" });
      host.fn(`${at}/${d}:01:00.1`, { vendor: 0x15b3, device: 0x101d, class: 0x020000, driver: "mlx5_core", iommu: smmu, group: 2 * n + 1, node: 0, bars: [{ index: 0, size: 32 * MEBI, prefetchable: true }], reset: "flr bus" });
    }
  }
  return host
    .registers("0000:01:00.0", GRACE_IDR, { iidr: 0x4871_143b, aidr: 2 })
    .numa([{ id: 0, cpus: "0-191", gib: 256, from: 2, distance: "10" }], 128)
    .hugepages(0, 2048, 0, 0)
    .kernel({ ...FULL_ARM, CONFIG_ARM64_64K_PAGES: "n", CONFIG_ARM_SMMU_V3_IOMMUFD: "n", CONFIG_TEGRA241_CMDQV: "n" }, "iommu.strict=1")
    .memlock(8_388_608)
    .node("dev/iommu", "forbidden")
    .node("dev/kvm", "forbidden")
    .made();
}

/** An Altra: MMU-600 before r2, whose nesting an erratum forbids. */
export function altra(): Snapshot {
  const host = new HostMaker("aarch64", "7.0.0-12-generic", MSI);
  const smmus = [0x33ff_fe00_0000, 0x37ff_fe00_0000].map((at, n) => host.smmu(at, n, 0));
  smmus.forEach((smmu, n) => {
    const d = n === 0 ? "000d" : "0004";
    const at = `pci${d}:00/${d}:00:01.0`;
    host
      .fn(at, port(AMPERE, 0xe101, { iommu: smmu, group: 10 + 4 * n, acs: undefined, node: 0 }))
      .fn(`${at}/${d}:01:00.0`, { vendor: 0x8086, device: 0x1572, class: 0x020000, driver: n === 0 ? "vfio-pci" : "i40e", cdev: n === 0 ? "vfio0" : undefined, config: 4096, msix: 129, iommu: smmu, group: 11 + 4 * n, node: 0, bars: [{ index: 0, size: 8 * MEBI, prefetchable: true }, { index: 3, size: 32768, prefetchable: true }], reset: "flr bus" })
      .fn(`${at}/${d}:01:00.1`, { vendor: 0x8086, device: 0x1572, class: 0x020000, driver: "i40e", config: 4096, msix: 129, iommu: smmu, group: 12 + 4 * n, node: 0, bars: [{ index: 0, size: 8 * MEBI, prefetchable: true }, { index: 3, size: 32768, prefetchable: true }], reset: "flr bus" });
  });
  return host
    .numa([{ id: 0, cpus: "0-79", gib: 128, from: 2, distance: "10" }], 128)
    .registers("000d:01:00.0", [GRACE_IDR[0] & ~(1 << 10), (GRACE_IDR[1] & ~0x7c0) >>> 0, 0, 0, 0, 0x74], { iidr: 0x4831_043b, aidr: 1, capabilities: 8 })
    .kernel({ ...FULL_ARM, CONFIG_ARM64_64K_PAGES: "n", CONFIG_ARM64_4K_PAGES: "y" }, "")
    .memlock(4_086_693_888)
    .node("dev/iommu", "usable")
    .node("dev/kvm", "usable")
    .made();
}
