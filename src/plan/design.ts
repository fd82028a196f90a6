/** The design of a machine for functions of a host: each behind the IOMMU that it is behind there, with the reasons. */
import { byteText, plural, Refusal } from "../support/index.js";
import { allotBuses, type BusRange } from "./bus-numbers.js";
import type { FunctionFacts, HostFacts, SmmuFacts } from "./host-facts.js";
import { IOMMUFD } from "./machine-plan.js";
import { barNeeds, checkLowWindow, planWindow, portReserve } from "./memory-window.js";
import { type Cells, planCells, planDistances } from "./numa-cells.js";
import type { MachinePlan, PlannedExpander, PlannedFunction, PlannedPort, PlannedSmmu } from "./report/index.js";
import { chooseFunctions } from "./selection.js";
import { planVtd } from "./vtd-properties.js";

export type QemuVersion = "10.2" | "11.0" | "11.1";
export const QEMU_VERSIONS: readonly QemuVersion[] = ["10.2", "11.0", "11.1"];

/** A version of QEMU's that plans are made for. @throws Refusal that says why there are none for others */
export function qemuVersion(text: string): QemuVersion {
  const known = QEMU_VERSIONS.find((one) => one === text.replace(/^(\d+\.\d+)\.\d+$/, "$1"));
  if (known !== undefined) {
    return known;
  }
  const [, major, minor = "0"] = /^(\d{1,3})(?:\.(\d{1,3}))?(?:\.\d{1,3})?$/.exec(text) ?? [];
  const found = major === undefined ? `--qemu ${text}, which is no version` : Number(major) > 11 || (Number(major) === 11 && Number(minor) > 1) ? `QEMU ${text}: what it has beyond 11.1 is not known here, and what 11.1 takes it should take: its machine types stay` : `QEMU ${text}: arm-smmuv3 is a device of the line from 10.2 on (accel=on from 11.0), and intel-iommu nests from 11.0 on`;
  throw new Refusal(`no plan for QEMU ${text}`, { found, wouldWork: QEMU_VERSIONS.map((one) => `--qemu ${one}`).join(", ") });
}

export interface PlanRequest {
  readonly facts: HostFacts;
  /** Addresses of functions of the host; their order has no effect. */
  readonly devices: readonly string[];
  /** Bytes of the guest's memory. */
  readonly memory: number;
  readonly cpus: number;
  /** Empty ports for hot-plug on each expander bus. */
  readonly spare?: number;
  /** Companions in a function's IOMMU group that were not asked for are kept from everybody. */
  readonly withGroup?: boolean;
  /** Functions that can be behind no virtual IOMMU are passed through without one. */
  readonly withoutIommu?: boolean;
  /** The QEMU that the machine is for. */
  readonly qemu?: QemuVersion;
}

/** A platform bus of virt has 64 interrupts, four for each SMMU. */
const MOST_SMMUS = 16;
/** Slots of pcie.0 that are free on a machine without devices of its own. */
const FREE_SLOTS = { virt: 31, q35: 30 } as const;
const SLOTS = 32;
const FUNCTIONS = 8;
const MOST_CPUS = { virt: 512, q35: 4096 } as const;

interface Place {
  readonly iommu: NonNullable<FunctionFacts["iommu"]>;
  readonly node: number | null;
  /** Its functions have no virtual IOMMU: why; null: they have. */
  readonly unprotected: string | null;
  /** Functions by the slot of the guest that they are in. */
  readonly slots: ReadonlyArray<readonly FunctionFacts[]>;
}

/** @throws Refusal that names the function or the option, with the host's fact and what would work */
export function planMachine(request: PlanRequest): MachinePlan {
  const { facts, memory, cpus } = request;
  const spare = request.spare ?? 0;
  const { functions, sharing, preparations, notes } = chooseFunctions(facts, request.devices, request.withGroup === true, request.withoutIommu === true);
  const { board } = facts;
  if (board === null) {
    throw new Refusal("no machine for a host without IOMMUs", { found: `${facts.host.name}, whose IOMMUs and architecture are not known`, wouldWork: "a host file with smmus or vtds" });
  }
  if (cpus < 1 || cpus > MOST_CPUS[board]) {
    throw new Refusal(`Invalid SMP CPUs ${cpus}. The max CPUs supported by machine '${board}' is ${MOST_CPUS[board]}`, { found: `--cpus ${cpus}`, wouldWork: `--cpus 1 to ${MOST_CPUS[board]}` });
  }
  const cells = planCells(facts, functions, memory, cpus);
  const why = (fn: FunctionFacts): string | null =>
    sharing.has(fn) ? `IOMMU group ${fn.group} has one table for its ${fn.companions.length + 1} functions` : board === "virt" ? whyNotNested(fn.iommu!, request.qemu ?? "11.1") : null;
  const places = placesOf(facts, functions, why);
  if (request.withoutIommu !== true) {
    checkNesting(request, places);
  }
  const translated = functions.filter((fn) => why(fn) === null);
  checkRoom(board, places, spare);
  const ranges = allotBuses(places.map(({ slots }) => slots.length + spare));
  const ids = new FunctionIds(functions);
  let chassis = 0;
  const expanders = places.map((place, n): PlannedExpander => {
    const id = `pcie.${n + 1}`;
    const ports = [...place.slots, ...Array.from({ length: spare }, (): readonly FunctionFacts[] => [])].map((slot, index): PlannedPort => {
      chassis++;
      const reserve = slot.length === 0 ? portReserve(place.slots) : null;
      return {
        id: `rp${n + 1}.${index}`,
        chassis,
        ...portPlace(index, place.slots.length + spare),
        reserve,
        functions: slot.map((fn, number) => planFunction(fn, number, ids, cells)),
        because: portReasons(slot, reserve),
      };
    });
    return {
      id,
      busNumber: ranges[n].first,
      lastBus: ranges[n].last,
      hostIommu: place.iommu.name,
      hostNode: place.node,
      cell: place.node === null ? null : (cells.ofHostNode.get(place.node) ?? null),
      bypass: board === "q35" && place.unprotected !== null && translated.length > 0,
      smmu: place.iommu.kind === "smmuv3" && place.unprotected === null ? planSmmu(`smmu${n + 1}`, place.iommu, request.qemu ?? "11.1") : null,
      ports,
      because: expanderReasons(place, ranges[n], ports.length),
    };
  });
  const needs = places.map(({ slots }) => barNeeds(slots, spare));
  checkLowWindow(board, needs);
  return {
    host: facts.host.name,
    board,
    memory,
    cpus,
    cells: cells.cells,
    distances: planDistances(facts.host, cells.cells),
    window: planWindow(board, needs, facts.host, memory),
    vtd: board === "q35" && translated.length > 0 ? planVtd(facts, translated, functions, cpus, request.qemu ?? "11.1") : null,
    expanders,
    preparations: [...preparations, ...missingOptions(facts, translated.length > 0), ...lockedMemory(facts, memory)],
    notes,
  };
}

/** Options that the host's kernel was built without. */
function missingOptions({ board, host: { kernelConfig } }: HostFacts, nests: boolean): string[] {
  const needed = ["CONFIG_IOMMUFD", "CONFIG_VFIO_DEVICE_CDEV", ...(board === "virt" && nests ? ["CONFIG_ARM_SMMU_V3_IOMMUFD"] : [])];
  const missing = needed.filter((option) => kernelConfig?.[option] === "n");
  return missing.length === 0 ? [] : [`a kernel with ${missing.join(", ")}: the host's was built without`];
}

function lockedMemory({ host: { limits } }: HostFacts, memory: number): string[] {
  const limit = limits?.memlock ?? null;
  return limit === "unlimited"
    ? []
    : [`locked memory for the process: ${byteText(memory)} and the functions' registers, once, for all functions share ${IOMMUFD}${limit === null || limit > memory ? "" : `; ${byteText(limit)} is its limit`} (ulimit -l, or systemd's LimitMEMLOCK)`];
}

/** An expander for each of the host's IOMMUs and NUMA nodes that has functions, in the host's order of IOMMUs. */
function placesOf(facts: HostFacts, functions: readonly FunctionFacts[], why: (fn: FunctionFacts) => string | null): Place[] {
  return [...facts.iommus.values()].flatMap((iommu) => {
    const behind = functions.filter((fn) => fn.iommu === iommu);
    const nodes = [...new Set(behind.map(({ numaNode }) => numaNode))].sort((a, b) => (a ?? -1) - (b ?? -1));
    return nodes.flatMap((node) => {
      const there = behind.filter(({ numaNode }) => numaNode === node);
      const open = there.filter((fn) => why(fn) !== null);
      return [there.filter((fn) => why(fn) === null), open].flatMap((some) => (some.length === 0 ? [] : [{ iommu, node, unprotected: some === open ? [...new Set(open.map(why))].join("; ") : null, slots: slotsOf(some) }]));
    });
  });
}

/** Why an SMMU of the host's is behind none of the guest's; null: it may be. */
function whyNotNested({ name, obstacle }: NonNullable<FunctionFacts["iommu"]>, qemu: QemuVersion): string | null {
  return obstacle !== null ? `${name} ${obstacle}` : qemu === "10.2" ? "QEMU 10.2's arm-smmuv3 takes no function of the host" : null;
}

/** Functions of one device that are one IOMMU group are in one slot, as they are on the host; others each in their own. */
function slotsOf(functions: readonly FunctionFacts[]): FunctionFacts[][] {
  const slots = new Map<string, FunctionFacts[]>();
  for (const fn of functions) {
    const { address } = fn.description;
    const key = fn.group !== null && fn.companions.length > 0 ? `${fn.group} ${address.slice(0, -2)}` : address;
    slots.set(key, [...(slots.get(key) ?? []), fn]);
  }
  return [...slots.values()];
}

/** @throws Refusal where functions would have no virtual IOMMU */
function checkNesting({ qemu }: PlanRequest, places: readonly Place[]): void {
  const old = qemu === "10.2";
  const not = places.filter(({ unprotected }) => unprotected !== null);
  if (not.length > 0) {
    const unread = not.every(({ iommu }) => iommu.kind === "smmuv3" && iommu.description.idr0 === null);
    const cure = old ? "--qemu 11.1" : unread ? "a host file with idr0, idr1 and idr5, which IOMMU_GET_HW_INFO tells of a function that vfio-pci has" : "functions behind an IOMMU that nests";
    throw new Refusal(old ? "Property 'arm-smmuv3.accel' not found" : "the host's IOMMU does not nest a guest's tables", {
      found: not.map(({ slots, unprotected }) => `${slots.flat().map(({ description }) => description.address).join(", ")}: ${unprotected!}`).join("; ") + (old ? "; 11.0 brought accel=on" : ""),
      wouldWork: `${cure}, or --without-iommu: passed through without a virtual IOMMU`,
    });
  }
}

function checkRoom(board: MachinePlan["board"], places: readonly Place[], spare: number): void {
  if (board === "virt" && places.length > MOST_SMMUS) {
    throw new Refusal("Platform Bus: Can not fit IRQ line", {
      found: `functions behind ${places.length} IOMMUs and NUMA nodes of the host, an arm-smmuv3 for each`,
      wouldWork: `functions behind ${MOST_SMMUS} at the most`,
    });
  }
  if (places.length > FREE_SLOTS[board]) {
    throw new Refusal("PCI: no slot/function available for pxb-pcie, all in use or reserved", {
      found: `functions behind ${places.length} IOMMUs and NUMA nodes of the host, an expander bus for each`,
      wouldWork: `functions behind ${FREE_SLOTS[board]} at the most`,
    });
  }
  const full = places.find(({ slots }) => slots.length + spare > SLOTS * FUNCTIONS);
  if (full !== undefined) {
    throw new Refusal("PCI: no slot/function available for pcie-root-port, all in use or reserved", {
      found: `${full.slots.length} functions behind ${full.iommu.name} and ${plural(spare, "spare port")}`,
      wouldWork: `${SLOTS * FUNCTIONS} ports at the most`,
    });
  }
}

/** A port has a slot of its own as long as there are enough; else eight share one. */
function portPlace(index: number, count: number): { slot: number; number: number } {
  return count <= SLOTS ? { slot: index, number: 0 } : { slot: Math.floor(index / FUNCTIONS), number: index % FUNCTIONS };
}

/** Ids by what functions are: gpu0, nic0, disk0, dev0. */
class FunctionIds {
  private readonly ids = new Map<string, string>();

  constructor(functions: readonly FunctionFacts[]) {
    const counts = new Map<string, number>();
    for (const { description } of functions) {
      const base = description.class >>> 16;
      const word = base === 0x03 ? "gpu" : base === 0x02 ? "nic" : base === 0x01 ? "disk" : base === 0x0c ? "usb" : base === 0x12 || base === 0x0b ? "accel" : "dev";
      const count = counts.get(word) ?? 0;
      counts.set(word, count + 1);
      this.ids.set(description.address, `${word}${count}`);
    }
  }

  of(address: string): string {
    return this.ids.get(address)!;
  }
}

function planFunction(fn: FunctionFacts, number: number, ids: FunctionIds, cells: Cells): PlannedFunction {
  const { address, name, vendor, device, class: code } = fn.description;
  const initiatorOf = cells.initiators.get(address) ?? [];
  return {
    id: ids.of(address),
    host: address,
    name,
    vendor,
    device,
    class: code,
    number,
    initiatorOf,
    because: initiatorOf.length === 0 ? [] : [initiatorOf.length === 1 ? `generic initiator of node ${initiatorOf[0]}: the guest's kernel is told its node by that` : `generic initiator of nodes ${initiatorOf[0]} to ${initiatorOf.at(-1)!}: the guest's kernel is told by that which nodes its memory is`],
  };
}

function portReasons(slot: readonly FunctionFacts[], reserve: number | null): string[] {
  if (slot.length === 0) {
    return [`for hot-plug${reserve === null ? "" : `; it keeps ${byteText(reserve)} free, as the largest function here takes`}`];
  }
  const [{ group, companions }] = slot;
  return slot.length === 1 ? [] : [`IOMMU group ${group}: ${companions.length + 1} functions of one device, one slot`];
}

function expanderReasons({ iommu, node, unprotected }: Place, { first, last }: BusRange, ports: number): string[] {
  return [
    `all below it is behind ${iommu.name} of the host${node === null ? "" : `, on its node ${node}`}`,
    `buses ${busText(first)} to ${busText(last)}: its own and ${plural(ports, "port")}${last - first - ports > 0 ? `, ${last - first - ports} left` : ""}`,
    ...(unprotected === null ? [] : [`no virtual IOMMU: ${unprotected}; the guest's own drivers reach all of its memory`]),
  ];
}

const busText = (number: number): string => `0x${number.toString(16).padStart(2, "0")}`;

function planSmmu(id: string, { offer: { ril, ats, oas, ssidsize: most } }: SmmuFacts, qemu: QemuVersion): PlannedSmmu {
  const ssidsize = qemu === "11.0" && most.value > 0 ? { value: 0, because: "QEMU 11.0, whose vfio-pci shows no PASID capability (11.1's does)" } : most;
  const on = (value: boolean): string => (value ? "on" : "off");
  return {
    id,
    ril: ril.value,
    ats: ats.value,
    oas: oas.value,
    ssidsize: ssidsize.value,
    because: [`ril=${on(ril.value)} for ${ril.because}, ats=${on(ats.value)} for ${ats.because}, oas=${oas.value} for ${oas.because}, ssidsize=${ssidsize.value} for ${ssidsize.because}: said and not auto, so that it starts without a function and stays the same`],
  };
}
