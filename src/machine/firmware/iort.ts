/**
 * IO Remapping Table (Arm DEN 0049E.d, IORT revision 5): one ITS group, the SMMUs, one root complex for
 * all host bridges, and a reserved memory range for each accelerated SMMU. The order, the node revisions
 * and the identifiers are those of QEMU's virt board, so that tables can be compared byte for byte. A kernel
 * that numbers buses after it has read the table gets the ranges of all numbers that a root bus may give.
 */
import { acpiTable, ByteWriter, HEADER_BYTES, type Oem } from "./acpi-table.js";
import { type FirmwareDescription, REQUESTER_IDS, type RequesterRange, requesterRange, type SmmuDescription } from "./description.js";

const NODE_ITS_GROUP = 0;
const NODE_ROOT_COMPLEX = 2;
const NODE_SMMUV3 = 4;
const NODE_RMR = 6;
const NODES_OFFSET = HEADER_BYTES + 12;
const ITS_GROUP_BYTES = 24;
const SMMUV3_BYTES = 68;
const ROOT_COMPLEX_BYTES = 36;
const RMR_BYTES = 28;
const MAPPING_BYTES = 20;
/** Linux lets no program of user space have a function (VFIO) whose range may not be remapped. */
const RMR_REMAPPING_PERMITTED = 1 << 0;
const SPI_TO_GSIV = 32;

interface Mapping {
  readonly range: RequesterRange;
  /** Byte offset of the node that takes the ids, from the start of the table. */
  readonly target: number;
  readonly single?: boolean;
}

interface PlacedSmmu {
  readonly smmu: SmmuDescription;
  readonly identifier: number;
  /** Ranges of the root buses that it serves, ascending. */
  readonly ranges: readonly RequesterRange[];
}

export function buildIort(description: FirmwareDescription, oem?: Oem): Uint8Array {
  const hasIts = description.interrupts.its !== null;
  const firstIdentifier = hasIts ? 1 : 0;
  const whole = description.boot !== null;
  const smmus = placeSmmus(description, firstIdentifier);
  const nodes = new ByteWriter();
  let count = 0;

  if (hasIts) {
    header(nodes, NODE_ITS_GROUP, ITS_GROUP_BYTES, 1, 0, 0, 0).int(1, 4).int(0, 4);
    count++;
  }

  const offsets = new Map<PlacedSmmu, number>();
  for (const placed of smmus) {
    const { smmu } = placed;
    const maps: Mapping[] = hasIts ? [{ range: { first: 0, count: REQUESTER_IDS }, target: NODES_OFFSET }] : [];
    offsets.set(placed, NODES_OFFSET + nodes.length);
    header(nodes, NODE_SMMUV3, SMMUV3_BYTES + maps.length * MAPPING_BYTES, 4, placed.identifier, maps.length, hasIts ? SMMUV3_BYTES : 0)
      .int(smmu.base, 8)
      .int(1, 4) // COHACC override
      .int(0, 4)
      .int(0, 8) // no VATOS page
      .int(0, 4) // generic SMMUv3
      .int(smmu.spi + SPI_TO_GSIV, 4)
      .int(smmu.spi + SPI_TO_GSIV + 1, 4)
      .int(smmu.spi + SPI_TO_GSIV + 3, 4) // the table has global errors before CMD_SYNC
      .int(smmu.spi + SPI_TO_GSIV + 2, 4)
      .int(0, 4)
      .int(0, 4);
    mappings(nodes, maps);
    count++;
  }

  const toSmmus: Mapping[] = smmus.flatMap((placed) => placed.ranges.map((range) => ({ range, target: offsets.get(placed)! })));
  toSmmus.sort((a, b) => a.range.first - b.range.first);
  const toIts: Mapping[] = hasIts ? complement(toSmmus.map((map) => map.range)).map((range) => ({ range, target: NODES_OFFSET })) : [];
  const rootMaps = [...toSmmus, ...toIts];
  let identifier = firstIdentifier + smmus.length;
  header(nodes, NODE_ROOT_COMPLEX, ROOT_COMPLEX_BYTES + rootMaps.length * MAPPING_BYTES, 3, identifier++, rootMaps.length, ROOT_COMPLEX_BYTES)
    .int(1, 4) // fully coherent
    .int(0, 1)
    .int(0, 2)
    .int(3, 1) // coherent paths, device attributes
    .int(description.smmus.some((smmu) => smmu.ats) ? 1 : 0, 4)
    .int(0, 4) // segment
    .int(64, 1)
    .int(0, 3);
  mappings(nodes, rootMaps);
  count++;

  for (const placed of smmus) {
    if (!placed.smmu.accelerated) {
      continue;
    }
    const window = description.reservedWindow;
    // A range of ids serves functions that come later, whatever numbers their buses get.
    const maps = (whole ? placed.ranges : placed.ranges.slice(0, 1)).map((range) => ({ range, target: offsets.get(placed)!, single: !whole }));
    header(nodes, NODE_RMR, RMR_BYTES + maps.length * MAPPING_BYTES + 20, 3, identifier++, maps.length, RMR_BYTES)
      .int(whole ? RMR_REMAPPING_PERMITTED : 0, 4) // unprivileged, Device-nGnRnE
      .int(1, 4)
      .int(RMR_BYTES + maps.length * MAPPING_BYTES, 4);
    mappings(nodes, maps);
    nodes.int(window.base, 8).int(window.size, 8).int(0, 4);
    count++;
  }

  const body = new ByteWriter().int(count, 4).int(NODES_OFFSET, 4).int(0, 4).raw(nodes.toBytes()).toBytes();
  return acpiTable("IORT", 5, body, oem);
}

/** SMMUs in order of the requester ids that they take; identifiers in order of creation. */
function placeSmmus(description: FirmwareDescription, firstIdentifier: number): PlacedSmmu[] {
  const placed = description.smmus.map((smmu, index) => ({
    smmu,
    // The machine property's SMMU has the identifier 0, as the ITS group has.
    identifier: smmu.legacy ? 0 : firstIdentifier + index,
    ranges: description.rootBuses
      .filter((bus) => bus.smmu === index)
      .map((bus) => (description.boot === null ? requesterRange(bus.lowest, bus.highest) : requesterRange(bus.number, bus.last)))
      .sort((a, b) => a.first - b.first || b.count - a.count),
  }));
  return placed.filter((smmu) => smmu.ranges.length > 0).sort((a, b) => a.ranges[0].first - b.ranges[0].first);
}

/**
 * What ascending ranges leave of the 65,536 requester ids. Ranges overlap only before bridges are numbered; the
 * rest then begins behind the last one, as in QEMU.
 */
function complement(ranges: readonly RequesterRange[]): RequesterRange[] {
  const rest: RequesterRange[] = [];
  let next = 0;
  for (const range of ranges) {
    if (range.first > next) {
      rest.push({ first: next, count: range.first - next });
    }
    next = range.first + range.count;
  }
  if (next < REQUESTER_IDS) {
    rest.push({ first: next, count: REQUESTER_IDS - next });
  }
  return rest;
}

/** Node header (DEN 0049E, table 3). */
function header(out: ByteWriter, type: number, length: number, revision: number, identifier: number, maps: number, mapsOffset: number): ByteWriter {
  return out.int(type, 1).int(length, 2).int(revision, 1).int(identifier, 4).int(maps, 4).int(mapsOffset, 4);
}

/** ID mappings (DEN 0049E, table 4): counts are stored less one, requester ids pass unchanged. */
function mappings(out: ByteWriter, maps: readonly Mapping[]): void {
  for (const { range, target, single } of maps) {
    out.int(range.first, 4).int(range.count - 1, 4).int(range.first, 4).int(target, 4).int(single === true ? 1 : 0, 4);
  }
}
