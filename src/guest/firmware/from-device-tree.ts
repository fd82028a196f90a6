/**
 * The machine's description from a device tree: the bindings arm,smmu-v3, pci-host-ecam-generic (with
 * iommu-map and msi-map), arm,gic-v3-its, arm,gic-v2m-frame and reserved-memory (with iommu-addresses) of the
 * devicetree schemas.
 */
import { GuestFailure } from "../failure.js";
import type {
  FirmwareDescription,
  HostBridgeDescription,
  IdMap,
  MsiController,
  PciWindow,
  ReservedWindow,
  SmmuDescription,
  SmmuInterrupts,
} from "./description.js";
import type { AddressRange } from "./dmar.js";
import { joinCells, type DeviceTreeNode } from "./device-tree.js";

const phandleOf = (node: DeviceTreeNode): number => node.cell("phandle", node.cell("linux,phandle", 0));

/** Builds the description; `occupied` is the RAM of the tree itself. Throws GuestFailure for what cannot be used. */
export function describeFromDeviceTree(root: DeviceTreeNode, occupied: readonly AddressRange[]): FirmwareDescription {
  const nodes = [...root.walk()].filter((node) => !["disabled", "fail"].includes(node.strings("status")[0] ?? "okay"));
  const byPhandle = new Map(nodes.filter((node) => phandleOf(node) !== 0).map((node) => [phandleOf(node), node]));
  const smmuNodes = nodes.filter((node) => node.isCompatible("arm,smmu-v3"));
  const bridgeNodes = nodes.filter((node) => node.isCompatible("pci-host-ecam-generic"));
  const hostBridges = bridgeNodes.map((node) => describeBridge(node, byPhandle, smmuNodes));
  return {
    source: "dt",
    ram: nodes.filter((node) => node.strings("device_type")[0] === "memory").flatMap((node) => node.reg()),
    occupied: [...occupied, ...memoryReservations(root)],
    smmus: smmuNodes.map((node) => describeSmmu(node)),
    dmar: null,
    hostBridges,
    msi: findMsiController(nodes),
    reservedWindows: reservedWindows(nodes, byPhandle, smmuNodes, bridgeNodes, hostBridges),
  };
}

function describeSmmu(node: DeviceTreeNode): SmmuDescription {
  if (node.cell("#iommu-cells", 0) !== 1) {
    throw new GuestFailure(`${node.path}: #iommu-cells is ${node.cell("#iommu-cells", 0)}, an SMMUv3 has 1`);
  }
  const [reg] = node.reg();
  if (reg === undefined) {
    throw new GuestFailure(`${node.path}: no reg`);
  }
  return { name: node.name, base: reg.base, coherent: node.has("dma-coherent"), interrupts: namedInterrupts(node) };
}

/** GIC interrupt specifiers: type (0 SPI, 1 PPI), number, flags. */
function namedInterrupts(node: DeviceTreeNode): SmmuInterrupts {
  const cells = node.cells("interrupts");
  const byName = new Map(
    node.strings("interrupt-names").map((name, i) => [name, (cells[i * 3] === 0 ? 32 : 16) + (cells[i * 3 + 1] ?? 0)] as const),
  );
  return {
    eventq: byName.get("eventq"),
    priq: byName.get("priq"),
    cmdqSync: byName.get("cmdq-sync"),
    gerror: byName.get("gerror"),
    combined: byName.get("combined"),
  };
}

function describeBridge(
  node: DeviceTreeNode,
  byPhandle: ReadonlyMap<number, DeviceTreeNode>,
  smmuNodes: readonly DeviceTreeNode[],
): HostBridgeDescription {
  const [reg] = node.reg();
  if (reg === undefined) {
    throw new GuestFailure(`${node.path}: no reg`);
  }
  const busRange = node.cells("bus-range");
  return {
    name: node.name,
    segment: node.cell("linux,pci-domain", 0),
    ecamBase: reg.base,
    busStart: busRange[0] ?? 0,
    busEnd: busRange[1] ?? 0xff,
    windows: windows(node),
    streamMaps: idMaps(node, "iommu", byPhandle).flatMap(({ map, target }) => {
      const smmu = smmuNodes.indexOf(target);
      return smmu < 0 ? [] : [{ ...map, smmu }];
    }),
    msiMaps: idMaps(node, "msi", byPhandle).map(({ map }) => map),
    // Linux takes a device tree's root complex to do ATS only where it says so (of_pci_iommu_init).
    ats: node.has("ats-supported"),
  };
}

/** `ranges` of a PCI host bridge: phys.hi phys.mid phys.lo, parent address, size (IEEE 1275 PCI binding, 2.2.1.1). */
function windows(node: DeviceTreeNode): PciWindow[] {
  const parentCells = node.parent?.cell("#address-cells", 2) ?? 2;
  const cells = node.cells("ranges");
  const out: PciWindow[] = [];
  for (let i = 0; i + 5 + parentCells <= cells.length; i += 5 + parentCells) {
    const space = (cells[i] >>> 24) & 3;
    if (space >= 2) {
      out.push({
        kind: space === 3 ? "mem64" : "mem32",
        prefetchable: (cells[i] & 0x4000_0000) !== 0,
        pciBase: joinCells(cells, i + 1, 2),
        cpuBase: joinCells(cells, i + 3, parentCells),
        size: joinCells(cells, i + 3 + parentCells, 2),
      });
    }
  }
  return out;
}

/** iommu-map and msi-map: rid-base, phandle, output-base (as many cells as the target says), length. */
function idMaps(
  node: DeviceTreeNode,
  kind: "iommu" | "msi",
  byPhandle: ReadonlyMap<number, DeviceTreeNode>,
): Array<{ map: IdMap; target: DeviceTreeNode }> {
  const cells = node.cells(`${kind}-map`);
  const mask = node.cell(`${kind}-map-mask`, 0xffff_ffff);
  const out = [];
  for (let i = 0; i + 3 < cells.length; ) {
    const target = byPhandle.get(cells[i + 1]);
    if (target === undefined) {
      throw new GuestFailure(`${node.path}: ${kind}-map names phandle ${cells[i + 1]}, which no node has`);
    }
    const outputCells = target.cell(`#${kind}-cells`, 1);
    out.push({
      map: {
        ridBase: (cells[i] & mask) >>> 0,
        length: cells[i + 2 + outputCells] ?? 0,
        outputBase: outputCells === 0 ? 0 : cells[i + 2],
        smmu: -1,
      },
      target,
    });
    i += 3 + outputCells;
  }
  return out;
}

/** GITS_TRANSLATER is at 0x40 of the ITS's second 64 KiB frame (GICv3, IHI 0069 12.10); MSI_SETSPI_NS at 0x40 of a v2m frame. */
function findMsiController(nodes: readonly DeviceTreeNode[]): MsiController | null {
  const its = nodes.find((node) => node.isCompatible("arm,gic-v3-its"))?.reg()[0];
  if (its !== undefined) {
    return { kind: "its", doorbell: its.base + 0x1_0040, firstSpi: 0, spiCount: 0 };
  }
  const node = nodes.find((candidate) => candidate.isCompatible("arm,gic-v2m-frame"));
  const frame = node?.reg()[0];
  return node === undefined || frame === undefined
    ? null
    : { kind: "gicv2m", doorbell: frame.base + 0x40, firstSpi: node.cell("arm,msi-base-spi", 0), spiCount: node.cell("arm,msi-num-spis", 0) };
}

/** Static reserved-memory that has no `iommu-addresses`: RAM to keep away from. */
function memoryReservations(root: DeviceTreeNode): AddressRange[] {
  const parent = root.children.find((node) => node.name === "reserved-memory");
  return (parent?.children ?? []).filter((node) => !node.has("iommu-addresses")).flatMap((node) => node.reg());
}

/**
 * `iommu-addresses`: entries of a phandle, an IOVA and a size, with the cells of the bus that the device is
 * on. The window is mapped one to one where `reg` gives the same range, otherwise it is only kept free. A
 * phandle of a host bridge stands for all that is below it, one of an SMMU for all its streams.
 */
function reservedWindows(
  nodes: readonly DeviceTreeNode[],
  byPhandle: ReadonlyMap<number, DeviceTreeNode>,
  smmuNodes: readonly DeviceTreeNode[],
  bridgeNodes: readonly DeviceTreeNode[],
  bridges: readonly HostBridgeDescription[],
): ReservedWindow[] {
  const out: ReservedWindow[] = [];
  for (const node of nodes) {
    const cells = node.cells("iommu-addresses");
    const physical = node.has("reg") ? node.reg() : [];
    for (let i = 0; i < cells.length; ) {
      const device = byPhandle.get(cells[i]);
      if (device === undefined) {
        throw new GuestFailure(`${node.path}: iommu-addresses names phandle ${cells[i]}, which no node has`);
      }
      const addressCells = device.parent?.cell("#address-cells", 2) ?? 2;
      const sizeCells = device.parent?.cell("#size-cells", 1) ?? 1;
      const base = joinCells(cells, i + 1, addressCells);
      const size = joinCells(cells, i + 1 + addressCells, sizeCells);
      i += 1 + addressCells + sizeCells;
      const identity = physical.some((range) => range.base === base && range.size === size);
      const window = { base, size, identity, device: true };
      const smmu = smmuNodes.indexOf(device);
      const bridge = bridgeNodes.indexOf(device);
      if (smmu >= 0) {
        out.push({ ...window, iommu: smmu, streams: [0, 0xffff_ffff] });
      } else if (bridge >= 0) {
        for (const map of bridges[bridge].streamMaps) {
          out.push({ ...window, iommu: map.smmu, streams: [map.outputBase, map.outputBase + map.length - 1] });
        }
      }
    }
  }
  return out;
}
