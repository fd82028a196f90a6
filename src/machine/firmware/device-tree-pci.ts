/**
 * PCI in a machine's device tree: host bridges, which SMMU serves which requester ids, and the window that functions
 * behind accelerated SMMUs reserve.
 *
 * A guest that numbers buses before it reads the tree has one host bridge with all root buses, as QEMU tells it. Linux
 * scans the first bus of a host bridge and what is behind that one's bridges, takes one bridge for a PCI domain, and
 * reads reserved windows at the node of a function: a kernel that is started from here gets a host bridge with a domain
 * of its own for each root bus, and nodes for functions, those that may come into empty slots too.
 */
import { type FirmwareDescription, type PlacedFunction, REQUESTER_IDS, type RequesterRange, type RootBusDescription } from "./description.js";
import { cells64, type DeviceTreeNode, type PropertyValue } from "./device-tree-blob.js";

export type Properties = Array<readonly [string, PropertyValue]>;
export type Children = Array<readonly [string, DeviceTreeNode]>;

/** GIC interrupt specifier, first and third cell (Linux arm,gic-v3.yaml). */
export const SPI = 0;
export const EDGE_RISING = 1;
export const LEVEL_HIGH = 4;

/** Above what bus addresses and sizes in the same property may be taken for. */
const FIRST_PHANDLE = 0x8000;
export const PHANDLE = { gic: FIRST_PHANDLE, msi: FIRST_PHANDLE + 1, pcie: FIRST_PHANDLE + 2, window: FIRST_PHANDLE + 3, clock: FIRST_PHANDLE + 4, gpio: FIRST_PHANDLE + 5 } as const;
export const smmuPhandle = (index: number): number => FIRST_PHANDLE + 0x10 + index;
const FIRST_FUNCTION_PHANDLE = FIRST_PHANDLE + 0x1000;

export const unit = (address: number): string => address.toString(16);
export const reg = (...regions: ReadonlyArray<{ base: number; size: number }>): number[] => regions.flatMap(({ base, size }) => [...cells64(base), ...cells64(size)]);

/** Space codes of a PCI address (IEEE 1275 PCI binding, 2.2.1.1). */
const IO_SPACE = 0x0100_0000;
const MEMORY32 = 0x0200_0000;
const MEMORY64 = 0x0300_0000;

/** Whom the reserved window is for: phandles, and how an address is told on their parents' bus. */
export interface WindowOwners {
  readonly phandles: readonly number[];
  readonly pciAddresses: boolean;
}

/** Nodes of the host bridges, and whom the reserved window is for; null: nobody needs it. */
export function hostBridges(description: FirmwareDescription): { readonly nodes: Children; readonly window: WindowOwners | null } {
  const { pci, smmus, boot } = description;
  if (boot === null) {
    const accelerated = smmus.some((smmu) => smmu.accelerated);
    const windows = [pci.mmio32, ...(pci.mmio64 === null ? [] : [pci.mmio64])];
    const properties = bridgeProperties(description, {
      domain: 0,
      buses: [0, pci.ecamSize / BUS_BYTES - 1],
      windows,
      ports: true,
      maps: iommuMap(description),
      ats: smmus.some((smmu) => smmu.ats),
    });
    properties.push(["phandle", [PHANDLE.pcie]]);
    if (accelerated) {
      properties.push(["memory-region", [PHANDLE.window]]);
    }
    return { nodes: [[`pcie@${unit(pci.mmio32.base)}`, { properties }]], window: accelerated ? { phandles: [PHANDLE.pcie], pciAddresses: false } : null };
  }
  const phandles: number[] = [];
  const nodes = [...description.rootBuses].sort((a, b) => a.number - b.number).map((bus, domain) => rootBridge(description, bus, domain, phandles));
  return { nodes, window: phandles.length === 0 ? null : { phandles, pciAddresses: true } };
}

/** Bytes of configuration space of a bus. */
const BUS_BYTES = 0x10_0000;

interface Bridge {
  readonly domain: number;
  readonly buses: readonly [first: number, last: number];
  readonly windows: ReadonlyArray<{ readonly base: number; readonly size: number }>;
  /** It hands I/O ports down. */
  readonly ports: boolean;
  readonly maps: ReadonlyArray<{ readonly range: RequesterRange; readonly smmu: number }>;
  readonly ats: boolean;
}

function bridgeProperties({ pci, interrupts }: FirmwareDescription, { domain, buses, windows, ports, maps, ats }: Bridge): Properties {
  const [first, last] = buses;
  const ranges = ports ? [IO_SPACE, 0, 0, ...cells64(pci.pio.base), ...cells64(pci.pio.size)] : [];
  for (const { base, size } of windows) {
    ranges.push(base + size <= 2 ** 32 ? MEMORY32 : MEMORY64, ...cells64(base), ...cells64(base), ...cells64(size));
  }
  const properties: Properties = [
    ["compatible", "pci-host-ecam-generic"],
    ["device_type", "pci"],
    ["#address-cells", [3]],
    ["#size-cells", [2]],
    ["linux,pci-domain", [domain]],
    ["bus-range", [first, last]],
    ["dma-coherent", true],
    ["reg", reg({ base: pci.ecamBase + first * BUS_BYTES, size: (last - first + 1) * BUS_BYTES })],
    ["ranges", ranges],
    ["#interrupt-cells", [1]],
    ["interrupt-map", interruptMap(pci.intxSpi, PHANDLE.gic)],
    ["interrupt-map-mask", [0x1800, 0, 0, 7]],
  ];
  if (interrupts.its !== null || interrupts.v2m !== null) {
    const [base, count] = first === 0 && last === pci.ecamSize / BUS_BYTES - 1 ? [0, REQUESTER_IDS] : [first << 8, (last - first + 1) << 8];
    properties.push(["msi-map", [base, PHANDLE.msi, base, count]]);
  }
  const map = maps.flatMap(({ range, smmu }) => [range.first, smmuPhandle(smmu), range.first, range.count]);
  if (map.length > 0) {
    properties.push(["iommu-map", map]);
  }
  if (ats) {
    // Linux allows ATS below a root complex only where this says so (of_pci_iommu_init).
    properties.push(["ats-supported", true]);
  }
  return properties;
}

/** A root bus as a host bridge of its own. @param phandles takes those of the functions that need the reserved window */
function rootBridge(description: FirmwareDescription, bus: RootBusDescription, domain: number, phandles: number[]): readonly [string, DeviceTreeNode] {
  const { pci, smmus } = description;
  const { number, last, windows, smmu, numaNode } = bus;
  const properties = bridgeProperties(description, {
    domain,
    buses: [number, last],
    windows,
    ports: domain === 0,
    maps: smmu === null ? [] : [{ range: { first: number << 8, count: (last - number + 1) << 8 }, smmu }],
    ats: smmu !== null && smmus[smmu].ats,
  });
  if (numaNode !== null) {
    properties.push(["numa-node-id", [numaNode]]);
  }
  const address = domain === 0 ? pci.mmio32.base : pci.ecamBase + number * BUS_BYTES;
  const children = smmu !== null && smmus[smmu].accelerated ? functionNodes(bus.functions, number, phandles) : [];
  return [`pcie@${unit(address)}`, { properties, children }];
}

/** Linux looks a function up by its device and function number (of_pci_find_child_device): its bus, 0 in `reg` while nobody has numbered it, is not looked at. */
function functionNodes(functions: readonly PlacedFunction[], bus: number, phandles: number[]): Children {
  return functions.map(({ devfn, behind }) => {
    const address: Properties = [["reg", [(bus << 16) | (devfn << 8), 0, 0, 0, 0]]];
    const place = `${unit(devfn >> 3)},${devfn & 7}`;
    if (behind !== null) {
      return [`pcie@${place}`, { properties: [["#address-cells", [3]], ["#size-cells", [2]], ...address], children: functionNodes(behind, 0, phandles) }] as const;
    }
    const phandle = FIRST_FUNCTION_PHANDLE + phandles.length;
    phandles.push(phandle);
    return [`dev@${place}`, { properties: [...address, ["memory-region", [PHANDLE.window]], ["phandle", [phandle]]] }] as const;
  });
}

/** Linux reserved-memory.yaml: equal `reg` and `iommu-addresses` ask for an identity mapping for the named devices. */
export function reservedMemory(description: FirmwareDescription, { phandles, pciAddresses }: WindowOwners): DeviceTreeNode {
  const { base, size } = description.reservedWindow;
  // An address of PCI has three cells, the first with its space.
  const entry = pciAddresses ? [MEMORY32, ...reg({ base, size })] : reg({ base, size });
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
            ["iommu-addresses", phandles.flatMap((phandle) => [phandle, ...entry])],
            ["phandle", [PHANDLE.window]],
          ],
        },
      ],
    ],
  };
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
