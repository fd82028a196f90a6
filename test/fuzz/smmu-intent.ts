/** The guest's registers and stream table (Arm IHI 0070, 5.2, 6.3), and the stream tables of the host's SMMUs. */
import type { SimulatedHost } from "../../src/host/simulated/index.js";
import { isSmmu, type Machine } from "../../src/machine/index.js";
import type { MachineSmmu } from "../../src/machine/virt/smmu-set.js";
import type { PciFunction } from "../../src/pci/index.js";
import { type Architecture, type HostTable, passedThrough, ramWord, type Table } from "./intent.js";

const POINTER = 0x000f_ffff_ffff_ffc0n;
const IDR1 = 0x04;
const CR0 = 0x20;
const GBPA = 0x44;
const STRTAB_BASE = 0x80;
const STRTAB_BASE_CFG = 0x88;

/** The guest-physical address of the STE of a StreamID; null: none. */
export function entryAddress(machine: Machine, smmu: MachineSmmu, sid: number): bigint | null {
  const { memory } = machine.board;
  const base = memory.readWord(smmu.base + STRTAB_BASE, 8) & 0x000f_ffff_ffff_ffc0n;
  const config = Number(memory.readWord(smmu.base + STRTAB_BASE_CFG, 4));
  const log2Size = config & 0x3f;
  const format = (config >> 16) & 3;
  const streamIdBits = Number(memory.readWord(smmu.base + IDR1, 4)) & 0x3f;
  if (sid >= 2 ** Math.min(log2Size, streamIdBits)) {
    return null;
  }
  const aligned = (address: bigint, bits: number): bigint => (address >> BigInt(bits)) << BigInt(bits);
  if (format !== 1) {
    return aligned(base, log2Size + 6) + BigInt(sid) * 64n;
  }
  const asked = (config >> 6) & 0x1f;
  const split = asked === 8 || asked === 10 ? asked : 6;
  const descriptor = ramWord(machine, aligned(base, Math.max(6, log2Size - split + 3)) + BigInt(sid >> split) * 8n);
  if (descriptor === null) {
    return null;
  }
  const span = Number(descriptor & 0x1fn);
  const index = sid & (2 ** split - 1);
  if (span === 0 || span > split + 1 || index >= 2 ** (span - 1)) {
    return null;
  }
  return aligned(descriptor & 0x000f_ffff_ffff_ffc0n, 5 + span) + BigInt(index) * 64n;
}

/** The first four double words of the STE that the guest's table has for a function; null: none, or not to be read. */
function guestEntry(machine: Machine, smmu: MachineSmmu, fn: PciFunction): BigUint64Array | null {
  const address = entryAddress(machine, smmu, fn.requesterId);
  const words = address === null ? [null] : [0n, 8n, 16n, 24n].map((offset) => ramWord(machine, address + offset));
  return words.includes(null) ? null : new BigUint64Array(words as bigint[]);
}

/** The most that the guest has asked for now: a table that a function may be on, abort aside. */
function wantedTable(machine: Machine, smmu: MachineSmmu, fn: PciFunction): Table {
  const { memory } = machine.board;
  if ((memory.readWord(smmu.base + CR0, 4) & 1n) === 0n) {
    return (memory.readWord(smmu.base + GBPA, 4) & (1n << 20n)) === 0n ? "bypass" : "abort";
  }
  if (!fn.iommuPath.bus.isRoot && fn.iommuPath.bus.number === 0) {
    return "abort";
  }
  const entry = guestEntry(machine, smmu, fn);
  if (entry === null || (entry[0] & 1n) === 0n) {
    return "abort";
  }
  const what = Number((entry[0] >> 1n) & 7n);
  return what === 4 ? "bypass" : what === 5 ? "nested" : "abort";
}

/** The entry of the host's stream table for a function. */
function hostEntry(host: SimulatedHost, address: string): HostTable {
  const device = host.hardware.functions.get(address)!;
  const words = device.smmu!.readSte(device.sourceId);
  // STE.Config; 0 where the entry is not valid.
  const config = (words[0] & 1) === 0 ? 0 : (words[0] >>> 1) & 7;
  const pointer = (BigInt(words[0] >>> 0) | (BigInt(words[1] >>> 0) << 32n)) & POINTER;
  // 5 is a table of the kernel's own by stage 1, of functions that no IOMMU of the machine covers.
  const table = config === 0 ? "abort" : config === 5 ? "shadow" : config === 6 ? "bypass" : "nested";
  return { table, confined: config === 0 || config >= 5, pointer, words: `STE.Config ${config}` };
}

const accelerated = (machine: Machine): MachineSmmu[] => machine.board.iommus.filter(isSmmu).filter((smmu) => smmu.acceleration !== null);

/** SMMUs that a passed-through function of the machine is behind. */
function serving(machine: Machine): MachineSmmu[] {
  return accelerated(machine).filter((smmu) => machine.board.functions.some(({ fn }) => fn.passthrough !== null && fn.bus !== null && machine.board.iommuOf(fn) === smmu));
}

const withSmmu = <T>(machine: Machine, fn: PciFunction, body: (smmu: MachineSmmu) => T, otherwise: T): T => {
  const iommu = machine.board.iommuOf(fn);
  return iommu === null || !isSmmu(iommu) ? otherwise : body(iommu);
};

export const smmuArchitecture: Architecture = {
  firmware: "dt",
  tolerate: [],
  isMessage: ({ hardware }, hpa) => Math.floor(hpa / 4096) === Math.floor(hardware.msiDoorbell / 4096),
  detaches: false,
  wanted: (machine, fn) => withSmmu(machine, fn, (smmu) => wantedTable(machine, smmu, fn), "bypass"),
  wantedPointer: (machine, fn) => {
    const entry = withSmmu(machine, fn, (smmu) => guestEntry(machine, smmu, fn), null);
    return entry === null ? null : entry[0] & POINTER;
  },
  // The guest's context descriptors are walked by the hardware: the host has nothing of PASIDs.
  wantedPasid: () => ({ table: "abort", pointer: 0n }),
  host: hostEntry,
  noteParent: () => {},
  hostPasids: () => new Map(),
  believed: (machine, fn) =>
    withSmmu<Table | undefined>(
      machine,
      fn,
      (smmu) => {
        const table = smmu.acceleration?.describeFunctions().find((one) => one.name.includes(fn.passthrough!.hostAddress))?.table;
        return table === "parent" ? "bypass" : table;
      },
      undefined,
    ),
  withoutTranslation: (machine, fn) =>
    withSmmu<Table | null>(machine, fn, ({ device }) => (device.translationEnabled ? null : device.globalBypassAborts ? "abort" : "bypass"), null),
  tagsInUse: (host) => host.kernel.smmuAccounts().reduce((sum, { vmids, asids }) => sum + vmids + asids, 0),
  fetches: (machine) => machine.board.iommus.filter(isSmmu).reduce((sum, smmu) => sum + smmu.device.commands.fetches, 0),
  // A command: two loads; a configuration command also the STE of each function, twice, with its descriptor.
  bounds: (_machine, fetched, functions) => ({ loads: 20_000 + fetched * (4 + 20 * functions), calls: 64 + (fetched + 1) * 10 * (functions + 1) }),
  expectedObjects: (machines, host) => {
    const spaces = new Set<string>();
    const parents = new Set<string>();
    machines.forEach((machine, n) => {
      for (const { address, guarded, fn } of passedThrough(machine)) {
        spaces.add(`${n} ${guarded}`);
        const owner = serving(machine).findIndex((smmu) => smmu === machine.board.iommuOf(fn));
        parents.add(`${n} ${guarded} ${owner} ${host.hardware.functions.get(address)!.smmu!.name}`);
      }
    });
    const smmus = machines.flatMap(serving);
    const described = smmus.flatMap((smmu) => smmu.acceleration!.describeFunctions());
    return {
      ioas: spaces.size,
      "hwpt-paging": parents.size,
      viommu: smmus.length,
      "hwpt-nested": 2 * smmus.length + described.filter((one) => one.table === "nested").length,
      vdevice: described.filter((one) => one.vdeviceId !== null).length,
      veventq: smmus.filter((smmu) => smmu.device.eventQueueEnabled).length,
    };
  },
  walks: (host, address) => host.hardware.functions.get(address)!.smmu!.counters.walks,
};
