/** Who is behind what: the machine's functions, their tables and why, the host's objects, the host's own tree. */
import { type Host, isIommufdDevice, type ObjectAccount, type TableAccount } from "../../iommufd/index.js";
import { isSmmu, type Machine, machineReport } from "../../machine/index.js";
import { className, EXT_CAP_ATS, EXT_CAP_PASID, findExtendedCapability, formatBdf, type PciFunction } from "../../pci/index.js";
import type { AttachmentReport, MachineFunctionReport, MapReport, TableReport } from "../report/index.js";
import { hostReport } from "./host-map.js";

export function mapOf(machine: Machine): MapReport {
  const { board, host } = machine;
  const names = functionNames(machine);
  return {
    machine: machineReport(machine.describe()),
    functions: board.functions.map(({ fn }) => describeFunction(machine, fn, names.get(fn)!)),
    attachments: attachments(machine, names),
    tables: tables(machine),
    host: hostReport(host, board.functions.map(({ fn }) => fn)),
  };
}

/** A host without a machine. */
export function mapOfHost(host: Host): MapReport {
  return { machine: null, functions: [], attachments: [], tables: [], host: hostReport(host, []) };
}

/** A function's name in every report: its id; without one its place, which others have too while their buses have no numbers. */
export function functionNames({ board }: Machine): ReadonlyMap<PciFunction, string> {
  const taken = new Set(board.functions.map(({ fn }) => fn.id));
  return new Map(
    board.functions.map(({ fn }) => {
      const place = formatBdf(fn.bdf);
      let name = fn.id === "" ? place : fn.id;
      for (let n = 2; fn.id === "" && taken.has(name); n++) {
        name = `${place}#${n}`;
      }
      taken.add(name);
      return [fn, name];
    }),
  );
}

function describeFunction(machine: Machine, fn: PciFunction, name: string): MachineFunctionReport {
  const { board, host } = machine;
  const passed = isIommufdDevice(fn) && fn.passthrough?.iommufd !== null ? fn : null;
  const iommu = board.iommuOf(fn);
  const { bus } = fn.iommuPath;
  const classCode = fn.config.get32(8) >>> 8;
  const label = passed === null ? "" : (host.facts?.functionFacts(passed.hostAddress)?.label ?? "");
  const vdevice = passed !== null && iommu !== null && isSmmu(iommu) ? iommu.acceleration?.describeFunctions().find((one) => one.name === passed.name)?.vdeviceId : null;
  return {
    function: name,
    bdf: formatBdf(fn.bdf),
    host: fn.passthrough?.hostAddress ?? null,
    iommu: iommu?.id ?? null,
    streamId: iommu === null || !(bus.isRoot || bus.number !== 0) ? null : fn.requesterId,
    vendorId: fn.config.get16(0),
    deviceId: fn.config.get16(2),
    classCode,
    label: label === "" ? className(classCode) : label,
    ats: findExtendedCapability(fn.config, EXT_CAP_ATS) !== 0,
    pasid: findExtendedCapability(fn.config, EXT_CAP_PASID) !== 0,
    iommufd: fn.passthrough?.iommufd ?? null,
    ioas: passed?.ioasId ?? null,
    parentHwpt: passed?.parentHwptId ?? null,
    vdevice: vdevice ?? null,
  };
}

function attachments(machine: Machine, names: ReadonlyMap<PciFunction, string>): AttachmentReport[] {
  const { board } = machine;
  const accounts = board.iommus.flatMap((iommu) => iommu.tables());
  return board.functions.flatMap(({ fn }): AttachmentReport[] => {
    const name = names.get(fn)!;
    if (fn.isBridge) {
      return [];
    }
    const iommu = board.iommuOf(fn);
    if (isIommufdDevice(fn)) {
      const own = accounts.filter(({ hostAddress }) => hostAddress === fn.hostAddress);
      return (own.length > 0 ? own : [uncovered(fn.hostAddress, fn.attachedTo)]).map(({ pasid, table, hwptId, why }) => ({ function: name, pasid, table, hwpt: hwptId, reason: why }));
    }
    const reason = iommu === null ? "an emulated function that no IOMMU of the machine covers: its addresses are guest-physical" : `an emulated function: the model of ${iommu.id} translates its requests`;
    return [{ function: name, pasid: null, table: "software", hwpt: null, reason }];
  });
}

function uncovered(hostAddress: string, hwptId: number | null): TableAccount {
  return { hostAddress, pasid: null, table: "parent", hwptId, why: "no IOMMU of the machine covers it: its addresses are guest-physical" };
}

/** Objects of all iommufds, by their numbers. */
function tables(machine: Machine): TableReport[] {
  const { board } = machine;
  const functions = board.functions.flatMap(({ fn }) => (isIommufdDevice(fn) ? [fn] : []));
  const shared = [...board.objects.iommufds.values()].flatMap((context) => context.hostObjects());
  /** The IOMMU whose functions alone use it. */
  const userOf = ({ iommufd, id }: ObjectAccount): string | null => {
    const users = functions.filter((fn) => fn.iommufdName === iommufd && (fn.ioasId === id || fn.parentHwptId === id));
    const ids = new Set(users.map((fn) => board.iommuOf(fn)?.id ?? null));
    return ids.size === 1 ? [...ids][0] : null;
  };
  return [
    ...shared.map((object) => ({ ...object, iommu: userOf(object) })),
    ...board.iommus.flatMap((iommu) => iommu.hostObjects().map((object) => ({ ...object, iommu: iommu.id }))),
  ].sort((a, b) => (a.iommufd === b.iommufd ? a.id - b.id : a.iommufd < b.iommufd ? -1 : 1));
}
