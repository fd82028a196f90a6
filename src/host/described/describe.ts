/** A host as a host file describes it, out of a snapshot of its sysfs; and what a file has no place for. */
import { ENGINE_BAR_BYTES, sourceIdOf } from "../simulated/names/index.js";
import { DEFAULT_DOORBELL, type FunctionDescription, type HostDescription } from "../simulated/file/index.js";
import { HwCapabilities } from "../../iommufd/index.js";
import { extract, IDR0, IDR1, IDR3, IDR5, OAS_BITS } from "../../smmuv3/spec/index.js";
import { INTERRUPT_RANGE_FIRST } from "../../vtd/spec/index.js";
import { IORT_FILE, type NodeState, type Notes, notesOf, type Snapshot } from "../sysfs/index.js";
import { readIommus } from "./iommus.js";
import { Iort } from "./iort.js";
import { type FunctionNotes, readPci } from "./pci.js";
import { readAddressBits, readHugepages, readKernelConfig, readLimits, readMemory, readNuma } from "./resources.js";

export interface DescribedHost {
  readonly description: HostDescription;
  /** By function. */
  readonly functions: ReadonlyMap<string, FunctionNotes>;
  /** Devices' nodes, by path without the first slash; one that is not here was not looked for. */
  readonly nodes: Readonly<Record<string, NodeState>>;
  /** The kernel's words that matter to IOMMUs; null: unknown. */
  readonly commandLine: string | null;
  /** Memory may be locked beyond the limit (CAP_IPC_LOCK); null: unknown. */
  readonly locksFreely: boolean | null;
  /** The module iommufd is there, and not loaded. */
  readonly hasIommufdModule: boolean;
  /** What could not be read or told, a sentence each. */
  readonly remarks: readonly string[];
}

/** CAP_IPC_LOCK's bit (capabilities(7)). */
const CAP_IPC_LOCK = 14n;

export function describeSnapshot(snapshot: Snapshot): DescribedHost {
  const notes = notesOf(snapshot);
  const pci = readPci(snapshot);
  const table = snapshot.bytes(IORT_FILE);
  const iort = table === null ? null : Iort.read(table);
  const iommus = readIommus(snapshot, notes, pci.functions.map(({ description, notes: own }) => ({ address: description.address, iommu: own.iommu })), iort);
  const architecture = architectureOf(snapshot, notes, iommus);
  const isX86 = architecture === "x86_64";
  const release = snapshot.text("proc/sys/kernel/osrelease");
  const remarks = new Set<string>();
  if (pci.beyond.length > 0) {
    remarks.add(`${pci.beyond.join(", ")}: behind a VMD controller, in a PCI domain that a host file cannot name`);
  }
  if (iommus.others.length > 0) {
    remarks.add(`${iommus.others.join(", ")}: IOMMUs of a kind that viommu does not know`);
  }
  if (iommus.smmus.some(({ idr0 }) => idr0 === null)) {
    remarks.add("the SMMUs' ID registers are told to who may open a function behind them that vfio-pci has: unknown here");
  }
  const kindOf = (name: string | null): Pick<FunctionDescription, "smmu" | "vtd" | "amd"> => {
    const known = (all: ReadonlyArray<{ readonly name: string }>): boolean => all.some((one) => one.name === name);
    if (iommus.amds.length > 0 && iommus.vtds.length === 0) {
      return { amd: known(iommus.amds) ? name : null };
    }
    return isX86 ? { vtd: known(iommus.vtds) ? name : null } : { smmu: known(iommus.smmus) ? name : null };
  };
  const memory = readMemory(snapshot);
  if (memory.length === 0) {
    remarks.add("the host's memory is not shown: 1 GiB stands for it");
    memory.push({ numaNode: 0, base: 2 ** 32, size: 2 ** 30 });
  }
  const functions = pci.functions.map(({ description, notes: own }) => withinIommu(inTable({ ...answered(description, notes), ...kindOf(own.iommu) }, iommus, iort), iommus, remarks));
  if (iort === null && iommus.smmus.some(({ idr0, idr3 }) => idr0 !== null && extract(idr3, IDR3.FWB) === 0)) {
    remarks.add("the firmware's IORT is root's to read: that accesses are coherent whatever a device asks for (CANWBS) is taken as said there, which nesting needs where an SMMU has no S2FWB");
  }
  if (functions.some(({ ats }) => ats === null)) {
    remarks.add("capabilities beyond the first 64 bytes of configuration space are root's to read: ATS, PRI, PASID, MSI-X and ACS are unknown here");
  }
  const locksFreely = capability(snapshot);
  const kernelVersion = release !== null && /^[0-9]+\.[0-9]+(?![0-9])/.test(release) ? release : null;
  if (kernelVersion === null) {
    remarks.add("the kernel's version is not known: 7.3 stands for it");
  }
  return {
    description: {
      name: `${architecture ?? "unknown"}, Linux ${kernelVersion ?? "of an unknown version"}`,
      memory: withinReach(memory, iommus.smmus, remarks),
      kernel: kernelVersion ?? "7.3",
      kernelConfig: readKernelConfig(snapshot),
      msiDoorbell: isX86 ? INTERRUPT_RANGE_FIRST : DEFAULT_DOORBELL,
      smmus: iommus.smmus,
      vtds: iommus.vtds,
      amds: iommus.vtds.length > 0 ? [] : iommus.amds,
      functions: iort === null ? apart(functions) : functions,
      architecture,
      addressBits: readAddressBits(snapshot),
      kvm: "dev/kvm" in notes.nodes && notes.nodes["dev/kvm"] !== "unknown" ? notes.nodes["dev/kvm"] !== "absent" : null,
      numa: readNuma(snapshot),
      hugepages: readHugepages(snapshot),
      limits: locksFreely === true ? { memlock: "unlimited" } : readLimits(snapshot),
      ports: [...pci.ports],
    },
    functions: new Map(pci.functions.map(({ description, notes: own }) => [description.address, own])),
    nodes: notes.nodes,
    commandLine: snapshot.text("proc/cmdline"),
    locksFreely,
    hasIommufdModule: release !== null && snapshot.has(`lib/modules/${release}/kernel/drivers/iommu/iommufd`),
    remarks: [...remarks],
  };
}

/** What the firmware's table says of a function behind an SMMU: its StreamID, and ranges that are mapped one to one for it. */
function inTable<F extends FunctionDescription>(fn: F, { smmus }: ReturnType<typeof readIommus>, iort: Iort | null): F {
  const smmu = smmus.find(({ name }) => name === fn.smmu);
  const stream = smmu === undefined ? null : (iort?.streamOf(parseInt(fn.address.slice(0, 4), 16), sourceIdOf({ address: fn.address })) ?? null);
  if (smmu === undefined || stream === null || stream.smmu !== BigInt(smmu.base)) {
    return fn;
  }
  const known = fn.reserved ?? [];
  const ranges = iort!.rangesOf(stream).flatMap(({ base, size, relaxable }) => {
    const [at, bytes] = [Number(base), Number(size)];
    const there = known.some((one) => one.base === at && one.size === bytes);
    return there || bytes === 0 || at + bytes > 2 ** 48 ? [] : [{ base: at, size: bytes, type: relaxable ? ("direct-relaxable" as const) : ("direct" as const) }];
  });
  return { ...fn, ...(stream.streamId === sourceIdOf({ address: fn.address }) ? {} : { streamId: stream.streamId }), reserved: ranges.length === 0 ? fn.reserved : [...known, ...ranges] };
}

/** What IOMMU_GET_HW_INFO tells of a function whose configuration space cannot be read so far. */
function answered<F extends { readonly address: string; readonly ats: boolean | null; readonly pasidBits: number | null }>(fn: F, notes: Notes): F {
  const info = notes.hwInfo[fn.address] as Notes["hwInfo"][string] | undefined;
  if (info === undefined) {
    return fn;
  }
  const noAts = (info.capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED) !== 0;
  return { ...fn, ats: fn.ats ?? (noAts ? false : null), pasidBits: fn.pasidBits ?? Math.max(0, Math.min(20, info.maxPasidLog2)) };
}

function architectureOf(snapshot: Snapshot, notes: Notes, iommus: ReturnType<typeof readIommus>): HostDescription["architecture"] {
  const said = snapshot.text("proc/sys/kernel/arch") ?? notes.architecture;
  if (said === "aarch64" || said === "arm64") {
    return "aarch64";
  }
  if (said === "x86_64" || said === "x64") {
    return "x86_64";
  }
  return iommus.vtds.length + iommus.amds.length > 0 ? "x86_64" : iommus.smmus.length > 0 ? "aarch64" : null;
}

function capability(snapshot: Snapshot): boolean | null {
  const effective = /^CapEff:\s*([0-9a-f]{1,16})/m.exec(snapshot.text("proc/self/status") ?? "")?.[1];
  return effective === undefined ? null : ((BigInt(`0x${effective}`) >> CAP_IPC_LOCK) & 1n) !== 0n;
}

/** What a function has, no more than its IOMMU serves: a host file has a function's capabilities as far as they are of use. */
function withinIommu(fn: FunctionDescription, iommus: ReturnType<typeof readIommus>, remarks: Set<string>): FunctionDescription {
  const smmu = iommus.smmus.find(({ name }) => name === fn.smmu);
  const vtd = iommus.vtds.find(({ name }) => name === fn.vtd);
  const most = smmu === undefined ? vtd?.pasidBits : smmu.idr1 === null ? undefined : extract(smmu.idr1, IDR1.SSIDSIZE);
  const ats = smmu === undefined ? vtd?.deviceTlb : smmu.idr0 === null ? undefined : extract(smmu.idr0, IDR0.ATS) !== 0;
  const pri = smmu === undefined ? (vtd === undefined ? undefined : false) : smmu.idr0 === null ? undefined : extract(smmu.idr0, IDR0.PRI) !== 0;
  const kept = {
    ...fn,
    ats: ats === false && fn.ats === true ? false : fn.ats,
    pri: (pri === false || (ats === false && fn.ats === true)) && fn.pri === true ? false : fn.pri,
    pasidBits: fn.pasidBits === null || most === undefined ? fn.pasidBits : Math.min(fn.pasidBits, most),
  };
  if (kept.ats !== fn.ats || kept.pasidBits !== fn.pasidBits || kept.pri !== fn.pri) {
    remarks.add("functions' ATS, PRI and PASIDs are told as far as the IOMMU in front of them serves them");
  }
  return kept.pri === true && kept.ats !== true ? { ...kept, pri: false } : kept;
}

/** Memory beyond an SMMU's addresses is no use to a guest behind it, and a host file has none. */
function withinReach(memory: HostDescription["memory"], smmus: HostDescription["smmus"], remarks: Set<string>): HostDescription["memory"] {
  const reach = Math.min(2 ** 48, ...smmus.map(({ idr5 }) => (idr5 === null ? 2 ** 48 : 2 ** OAS_BITS[extract(idr5, IDR5.OAS)])));
  const kept = memory.filter(({ base, size }) => base + size <= reach);
  if (kept.length < memory.length) {
    remarks.add(`memory beyond ${Math.log2(reach)} bits of address is left out`);
  }
  return kept.length > 0 ? kept : memory.slice(0, 1);
}

/**
 * Functions of several segments behind one SMMU have StreamIDs that the firmware's IORT tells and sysfs does not: those
 * that would be the same are put apart by their segment.
 */
function apart(functions: readonly FunctionDescription[]): FunctionDescription[] {
  const segments = new Map<string, Set<string>>();
  for (const { smmu, address } of functions) {
    if (typeof smmu === "string") {
      segments.set(smmu, (segments.get(smmu) ?? new Set()).add(address.slice(0, 4)));
    }
  }
  return functions.map((fn) => {
    const all = typeof fn.smmu === "string" ? [...segments.get(fn.smmu)!] : [];
    const place = all.sort().indexOf(fn.address.slice(0, 4));
    return place > 0 ? { ...fn, streamId: sourceIdOf(fn) + place * ENGINE_BAR_BYTES } : fn;
  });
}
