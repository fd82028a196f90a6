/** Physical IOMMUs out of a snapshot of sysfs (Documentation/ABI/testing/sysfs-class-iommu*). */
import { type AmdDescription, type SmmuDescription, unitOfRegisters, type VtdDescription } from "../simulated/file/index.js";
import { HwInfoType } from "../../iommufd/index.js";
import type { Iort } from "./iort.js";
import type { Notes, Snapshot } from "../sysfs/index.js";

/** IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI. */
const REPEAT_COMMANDS = 1;

export interface ReadIommus {
  readonly smmus: SmmuDescription[];
  readonly vtds: VtdDescription[];
  readonly amds: AmdDescription[];
  /** IOMMUs of other kinds. */
  readonly others: string[];
}

/** What is in front of which functions. */
export interface Behind {
  readonly address: string;
  readonly iommu: string | null;
}

export function readIommus(snapshot: Snapshot, notes: Notes, functions: readonly Behind[], iort: Iort | null): ReadIommus {
  const read: ReadIommus = { smmus: [], vtds: [], amds: [], others: [] };
  const named = new Set([...snapshot.names("sys/class/iommu"), ...functions.flatMap(({ iommu }) => iommu ?? [])]);
  for (const name of [...named].sort(byNumber)) {
    const folder = `sys/class/iommu/${name}`;
    const behind = functions.filter(({ iommu }) => iommu === name);
    const numaNode = nodeOf(snapshot, folder);
    const smmu = /^smmu3\.0x([0-9a-f]{1,16})$/i.exec(name);
    if (smmu !== null) {
      read.smmus.push(smmuOf(name, Number(`0x${smmu[1]}`), numaNode, hwInfoOf(notes, behind), iort?.isCoherent(BigInt(`0x${smmu[1]}`)) ?? true));
    } else if (/^dmar\d+$/.test(name)) {
      read.vtds.push(vtdOf(snapshot, folder, name, numaNode, segmentOf(behind), read.vtds.length));
    } else if (/^ivhd\d+$/.test(name)) {
      const text = (file: string): string | null => snapshot.text(`${folder}/amd-iommu/${file}`);
      read.amds.push({ name, base: null, segment: segmentOf(behind), numaNode, cap: text("cap"), features: text("features") });
    } else {
      read.others.push(name);
    }
  }
  return read;
}

/** dmar2 before dmar10. */
function byNumber(a: string, b: string): number {
  const [x, y] = [a, b].map((name) => Number(/\d+$/.exec(name)?.[0] ?? 0));
  const same = a.replace(/\d+$/, "") === b.replace(/\d+$/, "");
  return same ? x - y : a < b ? -1 : 1;
}

function segmentOf(behind: readonly Behind[]): number {
  return behind.length === 0 ? 0 : parseInt(behind[0].address.slice(0, 4), 16);
}

/** The node of the device that the IOMMU is: its folder is two above, where it is one of a bus. */
function nodeOf(snapshot: Snapshot, folder: string): number {
  const real = snapshot.real(folder) ?? "";
  const text = snapshot.text(`${real.replace(/\/iommu\/[^/]*$/, "")}/numa_node`);
  const node = text === null ? -1 : Number(text);
  return Number.isInteger(node) && node >= 0 && node < 4096 ? node : -1;
}

/** The words of struct iommu_hw_info_arm_smmuv3, as a function behind the SMMU has told them. */
function hwInfoOf(notes: Notes, behind: readonly Behind[]): DataView | null {
  for (const { address } of behind) {
    const info = notes.hwInfo[address] as Notes["hwInfo"][string] | undefined;
    if (info?.type === HwInfoType.ARM_SMMUV3 && info.data.length >= 80) {
      const bytes = Buffer.from(info.data, "hex");
      return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
  }
  return null;
}

function smmuOf(name: string, base: number, numaNode: number, info: DataView | null, coherent: boolean): SmmuDescription {
  const at = (index: number): number => info!.getUint32(4 * index, true);
  const known = info === null ? null : { flags: at(0), idr: [0, 1, 2, 3, 4, 5].map((n) => at(2 + n)), iidr: at(8), aidr: at(9) };
  return {
    name,
    base,
    numaNode,
    idr0: known?.idr[0] ?? null,
    idr1: known?.idr[1] ?? null,
    idr2: known?.idr[2] ?? 0,
    idr3: known?.idr[3] ?? 0,
    idr4: known?.idr[4] ?? 0,
    idr5: known?.idr[5] ?? null,
    iidr: known?.iidr ?? 0,
    aidr: known?.aidr ?? 0,
    coherent,
    errata: ((known?.flags ?? 0) & REPEAT_COMMANDS) !== 0 ? ["nvidia-t264-smmu-3"] : [],
  };
}

function vtdOf(snapshot: Snapshot, folder: string, name: string, numaNode: number, segment: number, index: number): VtdDescription {
  const digits = (file: string): string | null => {
    const text = snapshot.text(`${folder}/intel-iommu/${file}`);
    return text !== null && /^[0-9a-f]{1,16}$/i.test(text) ? `0x${text.toLowerCase()}` : null;
  };
  // Units whose registers' place nobody tells are told apart all the same.
  const base = Number(digits("address") ?? 0xfed9_0000 + index * 0x1000);
  return { ...unitOfRegisters(digits("cap"), digits("ecap")), name, base, segment, numaNode };
}
