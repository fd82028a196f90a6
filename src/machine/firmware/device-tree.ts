/**
 * The device tree of a machine: the nodes that QEMU's virt board gives for what is modelled here, and two
 * things that it does not give: SMMUs of expander buses (one iommu-map entry for each), and the reserved
 * window of accelerated SMMUs (reserved-memory with iommu-addresses), so that acceleration needs no ACPI.
 */
import type { FirmwareDescription, RequesterRange } from "./description.js";
import { REQUESTER_IDS } from "./description.js";
import { cells64, type DeviceTreeNode, flatten, type PropertyValue } from "./device-tree-blob.js";

type Properties = Array<readonly [string, PropertyValue]>;
type Children = Array<readonly [string, DeviceTreeNode]>;

/** GIC interrupt specifier, first and third cell (Linux arm,gic-v3.yaml). */
const SPI = 0;
const EDGE_RISING = 1;
const LEVEL_HIGH = 4;

const FIRST_PHANDLE = 0x8000;

const unit = (address: number): string => address.toString(16);
const reg = (...regions: ReadonlyArray<{ base: number; size: number }>): number[] =>
  regions.flatMap(({ base, size }) => [...cells64(base), ...cells64(size)]);

export function buildDeviceTree(description: FirmwareDescription): Uint8Array {
  const { interrupts, smmus } = description;
  const phandles = { gic: FIRST_PHANDLE, msi: FIRST_PHANDLE + 1, pcie: FIRST_PHANDLE + 2, window: FIRST_PHANDLE + 3 };
  const smmuPhandle = (index: number): number => FIRST_PHANDLE + 0x10 + index;
  const accelerated = smmus.some((smmu) => smmu.accelerated);

  const children: Children = [];
  for (const { base, size, numaNode } of description.ram) {
    const properties: Properties = [
      ["device_type", "memory"],
      ["reg", reg({ base, size })],
    ];
    if (numaNode !== null) {
      properties.push(["numa-node-id", [numaNode]]);
    }
    children.push([`memory@${unit(base)}`, { properties }]);
  }
  if (accelerated) {
    children.push(["reserved-memory", reservedMemory(description, phandles)]);
  }
  children.push(["cpus", cpuNodes(description.cpus)]);
  children.push([`intc@${unit(interrupts.distributor.base)}`, interruptController(description, phandles)]);
  smmus.forEach((smmu, index) => {
    children.push([
      `smmuv3@${unit(smmu.base)}`,
      {
        properties: [
          ["compatible", "arm,smmu-v3"],
          ["reg", reg(smmu)],
          ["interrupts", [0, 1, 2, 3].flatMap((line) => [SPI, smmu.spi + line, EDGE_RISING])],
          ["interrupt-names", ["eventq", "priq", "cmdq-sync", "gerror"]],
          ["dma-coherent", true],
          ["#iommu-cells", [1]],
          ["phandle", [smmuPhandle(index)]],
        ],
      },
    ]);
  });
  children.push([`pcie@${unit(description.pci.mmio32.base)}`, pcieNode(description, phandles, smmuPhandle, accelerated)]);
  children.push(["chosen", { properties: [] }]);

  return flatten({
    properties: [
      ["interrupt-parent", [phandles.gic]],
      ["dma-coherent", true],
      ["model", "linux,dummy-virt"],
      ["#size-cells", [2]],
      ["#address-cells", [2]],
      ["compatible", "linux,dummy-virt"],
    ],
    children,
  });
}

interface Phandles {
  readonly gic: number;
  readonly msi: number;
  readonly pcie: number;
  readonly window: number;
}

/** Linux reserved-memory.yaml: equal `reg` and `iommu-addresses` ask for an identity mapping for the named device. */
function reservedMemory(description: FirmwareDescription, phandles: Phandles): DeviceTreeNode {
  const { base, size } = description.reservedWindow;
  return {
    properties: [
      ["#address-cells", [2]],
      ["#size-cells", [2]],
      ["ranges", true],
    ],
    children: [
      [
        `msi-window@${unit(base)}`,
        {
          properties: [
            ["reg", reg({ base, size })],
            ["no-map", true],
            ["iommu-addresses", [phandles.pcie, ...reg({ base, size })]],
            ["phandle", [phandles.window]],
          ],
        },
      ],
    ],
  };
}

function cpuNodes(count: number): DeviceTreeNode {
  return {
    properties: [
      ["#address-cells", [1]],
      ["#size-cells", [0]],
    ],
    children: Array.from({ length: count }, (_unused, cpu) => {
      // Affinity: 16 CPUs in a cluster, as the GICv3's redistributors count.
      const affinity = ((cpu >> 4) << 8) | (cpu & 15);
      const properties: Properties = [
        ["device_type", "cpu"],
        ["compatible", "arm,armv8"],
        ["reg", [affinity]],
      ];
      if (count > 1) {
        properties.push(["enable-method", "psci"]);
      }
      return [`cpu@${unit(affinity)}`, { properties }] as const;
    }),
  };
}

function interruptController(description: FirmwareDescription, phandles: Phandles): DeviceTreeNode {
  const { gicVersion, distributor, second, its, v2m } = description.interrupts;
  const children: Children = [];
  if (its !== null) {
    children.push([
      `its@${unit(its.base)}`,
      {
        properties: [
          ["compatible", "arm,gic-v3-its"],
          ["msi-controller", true],
          ["#msi-cells", [1]],
          ["reg", reg(its)],
          ["phandle", [phandles.msi]],
        ],
      },
    ]);
  }
  if (v2m !== null) {
    children.push([
      `v2m@${unit(v2m.base)}`,
      {
        properties: [
          ["compatible", "arm,gic-v2m-frame"],
          ["msi-controller", true],
          ["reg", reg(v2m)],
          ["phandle", [phandles.msi]],
        ],
      },
    ]);
  }
  const properties: Properties = [
    ["compatible", gicVersion === 3 ? "arm,gic-v3" : "arm,cortex-a15-gic"],
    ["reg", reg(distributor, second)],
    ["interrupt-controller", true],
    ["#interrupt-cells", [3]],
    ["#address-cells", [2]],
    ["#size-cells", [2]],
    ["ranges", true],
    ["phandle", [phandles.gic]],
  ];
  if (gicVersion === 3) {
    properties.push(["#redistributor-regions", [1]]);
  }
  return { properties, children };
}

function pcieNode(description: FirmwareDescription, phandles: Phandles, smmuPhandle: (index: number) => number, accelerated: boolean): DeviceTreeNode {
  const { pci, interrupts } = description;
  const lastBus = pci.ecamSize / 0x10_0000 - 1;
  const ranges = [0x0100_0000, 0, 0, ...cells64(pci.pio.base), ...cells64(pci.pio.size)];
  ranges.push(0x0200_0000, ...cells64(pci.mmio32.base), ...cells64(pci.mmio32.base), ...cells64(pci.mmio32.size));
  if (pci.mmio64 !== null) {
    ranges.push(0x0300_0000, ...cells64(pci.mmio64.base), ...cells64(pci.mmio64.base), ...cells64(pci.mmio64.size));
  }
  const properties: Properties = [
    ["compatible", "pci-host-ecam-generic"],
    ["device_type", "pci"],
    ["#address-cells", [3]],
    ["#size-cells", [2]],
    ["linux,pci-domain", [0]],
    ["bus-range", [0, lastBus]],
    ["dma-coherent", true],
    ["reg", reg({ base: pci.ecamBase, size: pci.ecamSize })],
    ["ranges", ranges],
    ["#interrupt-cells", [1]],
    ["interrupt-map", interruptMap(pci.intxSpi, phandles.gic)],
    ["interrupt-map-mask", [0x1800, 0, 0, 7]],
    ["phandle", [phandles.pcie]],
  ];
  if (interrupts.its !== null || interrupts.v2m !== null) {
    properties.push(["msi-map", [0, phandles.msi, 0, REQUESTER_IDS]]);
  }
  const map = iommuMap(description).flatMap(({ range, smmu }) => [range.first, smmuPhandle(smmu), range.first, range.count]);
  if (map.length > 0) {
    properties.push(["iommu-map", map]);
  }
  if (accelerated) {
    properties.push(["memory-region", [phandles.window]]);
  }
  if (description.smmus.some((smmu) => smmu.ats)) {
    // Linux allows ATS below a root complex only where this says so (of_pci_iommu_init).
    properties.push(["ats-supported", true]);
  }
  return { properties };
}

/** INTA to INTD of four slots, rotated (PCI-to-PCI Bridge 1.2, 9.1), onto four level-triggered SPIs. */
function interruptMap(firstSpi: number, gic: number): number[] {
  const map: number[] = [];
  for (let slot = 0; slot < 4; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      // Two zero cells: the GIC node has #address-cells 2.
      map.push(slot << 11, 0, 0, pin + 1, gic, 0, 0, SPI, firstSpi + ((slot + pin) % 4), LEVEL_HIGH);
    }
  }
  return map;
}

/**
 * Which SMMU serves which requester ids: a root bus's range reaches to the next root bus, so that it holds
 * for whatever numbers the guest gives to the buses below.
 */
function iommuMap(description: FirmwareDescription): Array<{ range: RequesterRange; smmu: number }> {
  const roots = [...description.rootBuses].sort((a, b) => a.number - b.number);
  const entries = roots.map((bus, index) => {
    const end = index + 1 < roots.length ? roots[index + 1].number << 8 : REQUESTER_IDS;
    return { range: { first: bus.number << 8, count: end - (bus.number << 8) }, smmu: bus.smmu };
  });
  const merged: Array<{ range: RequesterRange; smmu: number }> = [];
  for (const { range, smmu } of entries) {
    const last = merged.at(-1);
    if (smmu === null) {
      continue;
    }
    if (last !== undefined && last.smmu === smmu && last.range.first + last.range.count === range.first) {
      merged[merged.length - 1] = { smmu, range: { first: last.range.first, count: last.range.count + range.count } };
    } else {
      merged.push({ range, smmu });
    }
  }
  return merged;
}
