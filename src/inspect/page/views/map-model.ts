/** The map as three trees and what joins them, made of the report alone. */
import type { AttachmentReport, HostFunctionReport, HostIommuReport, MachineFunctionReport, MapReport, TableReport } from "../../report/index.js";

type Machine = NonNullable<MapReport["machine"]>;
export type BusReport = Machine["buses"][number];
export type IommuReport = Machine["iommus"][number];
/** As the account has it: model, bus, secondary buses. */
export type PlacedFunction = Machine["functions"][number];

export type Thing =
  | { readonly kind: "bus"; readonly bus: BusReport; readonly iommu: IommuReport | null }
  | { readonly kind: "iommu"; readonly iommu: IommuReport }
  | { readonly kind: "function"; readonly fn: MachineFunctionReport; readonly placed: PlacedFunction; readonly buses: readonly BusReport[] }
  | { readonly kind: "other"; readonly id: string; readonly model: string }
  | { readonly kind: "iommufd"; readonly id: string }
  | { readonly kind: "table"; readonly table: TableReport }
  | { readonly kind: "host-iommu"; readonly iommu: HostIommuReport }
  | { readonly kind: "host-port"; readonly address: string; readonly fn: HostFunctionReport | null }
  | { readonly kind: "host-function"; readonly fn: HostFunctionReport }
  | { readonly kind: "host-rest" };

export interface MapNode {
  /** One for each node of the map: `function:gpu0`. */
  readonly key: string;
  readonly thing: Thing;
  /** What a person calls it, and by which it is found in an address of the page. */
  readonly name: string;
  readonly children: readonly MapNode[];
}

export interface MapLink {
  readonly from: string;
  readonly to: string;
  /** As the attachment's: nested, parent, bypass, ...; `serves`: an IOMMU of the machine to its object, and on to the host's. */
  readonly what: string;
  /** Keys of the machine's functions and IOMMUs whose way it is on. */
  readonly of: readonly string[];
}

export interface MapModel {
  readonly machine: readonly MapNode[];
  readonly objects: readonly MapNode[];
  readonly host: readonly MapNode[];
  readonly links: readonly MapLink[];
  readonly byKey: ReadonlyMap<string, MapNode>;
  attachmentsOf(name: string): readonly AttachmentReport[];
  /** The machine's function that a host's function is; null: none. */
  inMachine(address: string): MachineFunctionReport | null;
}

export function modelOf(map: MapReport): MapModel {
  const machine = map.machine === null ? [] : machineTree(map, map.machine);
  const objects = objectTree(map.tables);
  const host = hostTree(map);
  const byKey = new Map<string, MapNode>();
  const add = (node: MapNode): void => {
    byKey.set(node.key, node);
    node.children.forEach(add);
  };
  [...machine, ...objects, ...host].forEach(add);
  const attachments = new Map<string, AttachmentReport[]>();
  for (const one of map.attachments) {
    attachments.set(one.function, [...(attachments.get(one.function) ?? []), one]);
  }
  const passed = new Map(map.functions.flatMap((fn) => (fn.host === null ? [] : [[fn.host, fn] as const])));
  const attachmentsOf = (name: string): readonly AttachmentReport[] => attachments.get(name) ?? [];
  return { machine, objects, host, links: linksOf(map, byKey, attachmentsOf), byKey, attachmentsOf, inMachine: (address) => passed.get(address) ?? null };
}

/** What an address of the page calls a node: its name where no other has it, else its key. */
export function addressOf(model: MapModel, node: MapNode): string {
  return found(model, node.name) === node ? node.name : node.key;
}

/** The node of such a name; functions and IOMMUs of the machine come before what is named as they. */
export function found(model: MapModel, name: string | undefined): MapNode | null {
  if (name === undefined || name === "") {
    return null;
  }
  const order: Record<Thing["kind"], number> = { function: 0, iommu: 1, bus: 2, "host-iommu": 3, "host-function": 4, table: 5, iommufd: 6, "host-port": 7, other: 8, "host-rest": 9 };
  const named = [...model.byKey.values()].filter((node) => node.name === name).sort((a, b) => order[a.thing.kind] - order[b.thing.kind]);
  return model.byKey.get(name) ?? named[0] ?? null;
}

function machineTree(map: MapReport, machine: Machine): MapNode[] {
  // Both lists are of all functions, in the same order; a bdf alone tells none apart before buses have numbers.
  const reports = map.functions.map((fn, at) => ({ fn, placed: machine.functions[at] })).filter((one) => one.placed !== undefined);
  const shown = new Set<string>();
  const busNode = (bus: BusReport): MapNode => {
    shown.add(bus.id);
    return { key: `bus:${bus.id}`, name: bus.id, thing: { kind: "bus", bus, iommu: machine.iommus.find(({ id }) => id === bus.iommu) ?? null }, children: below(bus.id) };
  };
  const below = (bus: string): MapNode[] => [
    ...machine.iommus.filter((iommu) => iommu.bus === bus).map((iommu): MapNode => ({ key: `iommu:${iommu.id}`, name: iommu.id, thing: { kind: "iommu", iommu }, children: [] })),
    ...reports.filter(({ placed }) => placed.bus === bus).map(({ fn, placed }): MapNode => {
      const buses = machine.buses.filter(({ id }) => placed.secondaryBuses.includes(id) && !shown.has(id));
      buses.forEach(({ id }) => shown.add(id));
      // One bus behind a bridge is the bridge's own row.
      const children = buses.length === 1 ? below(buses[0].id) : buses.map(busNode);
      return { key: `function:${fn.function}`, name: fn.function, thing: { kind: "function", fn, placed, buses }, children };
    }),
    ...machine.otherDevices.filter((one) => one.bus === bus).map(({ id, model }, at): MapNode => ({ key: `other:${bus}/${at}/${id}`, name: id === "" ? model : id, thing: { kind: "other", id, model }, children: [] })),
  ];
  const roots = machine.buses.filter(({ bridge }) => bridge === null).map(busNode);
  // Buses whose bridge is not told stand by themselves.
  const rest = machine.buses.filter(({ id }) => !shown.has(id)).map(busNode);
  const lone = machine.iommus.filter(({ bus }) => !shown.has(bus)).map((iommu): MapNode => ({ key: `iommu:${iommu.id}`, name: iommu.id, thing: { kind: "iommu", iommu }, children: [] }));
  return [...roots, ...rest, ...lone];
}

function tableKey({ iommufd, id }: Pick<TableReport, "iommufd" | "id">): string {
  return `table:${iommufd}/${id}`;
}

export function tableName({ kind, id }: TableReport): string {
  const names: Readonly<Record<string, string>> = { ioas: "IOAS", "hwpt-paging": "HWPT", "hwpt-nested": "HWPT", viommu: "vIOMMU", vdevice: "vDEVICE", veventq: "vEVENTQ", "fault-queue": "fault queue" };
  return `${names[kind] ?? kind} ${id}`;
}

function objectTree(tables: readonly TableReport[]): MapNode[] {
  return [...new Set(tables.map(({ iommufd }) => iommufd))].map((iommufd) => {
    const own = tables.filter((table) => table.iommufd === iommufd);
    const ids = new Set(own.map(({ id }) => id));
    const below = (on: number | null): MapNode[] =>
      own.filter((table) => (on === null ? table.on === null || !ids.has(table.on) || table.on === table.id : table.on === on && table.id !== on))
        .map((table): MapNode => ({ key: tableKey(table), name: tableName(table), thing: { kind: "table", table }, children: below(table.id) }));
    return { key: `iommufd:${iommufd}`, name: iommufd, thing: { kind: "iommufd", id: iommufd }, children: below(null) };
  });
}

function hostTree({ host }: MapReport): MapNode[] {
  const at = new Map(host.functions.map((fn) => [fn.address, fn]));
  const ports = new Set(host.functions.flatMap(({ upstream }) => upstream));
  const leaf = (fn: HostFunctionReport): MapNode => ({ key: `host:${fn.address}`, name: fn.address, thing: { kind: "host-function", fn }, children: [] });
  /** Functions below a way of ports, and the ports that follow on it. */
  const below = (functions: readonly HostFunctionReport[], depth: number, iommu: string): MapNode[] => {
    const here = functions.filter(({ upstream }) => upstream.length <= depth);
    const further = [...new Set(functions.flatMap(({ upstream }) => upstream.at(depth) ?? []))];
    return [
      ...further.map((address): MapNode => {
        const children = below(functions.filter(({ upstream }) => upstream.at(depth) === address), depth + 1, iommu);
        return { key: `port:${iommu}/${address}`, name: address, thing: { kind: "host-port", address, fn: at.get(address) ?? null }, children };
      }),
      ...here.filter(({ address }) => !ports.has(address)).map(leaf),
    ];
  };
  const iommus = host.iommus.map((iommu): MapNode => ({
    key: `host-iommu:${iommu.id}`,
    name: iommu.id,
    thing: { kind: "host-iommu", iommu },
    children: below(host.functions.filter((fn) => fn.iommu === iommu.id), 0, iommu.id),
  }));
  const rest = below(host.functions.filter((fn) => fn.iommu === null || !host.iommus.some(({ id }) => id === fn.iommu)), 0, "");
  return rest.length === 0 ? iommus : [...iommus, { key: "host-rest", name: "behind no IOMMU", thing: { kind: "host-rest" }, children: rest }];
}

function linksOf(map: MapReport, byKey: ReadonlyMap<string, MapNode>, attachmentsOf: (name: string) => readonly AttachmentReport[]): MapLink[] {
  const links = new Map<string, MapLink>();
  const add = (from: string, to: string, what: string, of: string): void => {
    if (byKey.has(from) && byKey.has(to)) {
      const name = `${from} ${to}`;
      links.set(name, { from, to, what, of: [...(links.get(name)?.of ?? []), of] });
    }
  };
  for (const fn of map.functions.filter(({ host }) => host !== null)) {
    const from = `function:${fn.function}`;
    const to = `host:${fn.host}`;
    const on = attachmentsOf(fn.function).filter(({ hwpt }) => hwpt !== null && byKey.has(tableKey({ iommufd: fn.iommufd ?? "", id: hwpt })));
    for (const { hwpt, table } of on) {
      const key = tableKey({ iommufd: fn.iommufd ?? "", id: hwpt! });
      add(from, key, table, from);
      add(key, to, table, from);
    }
    if (on.length === 0) {
      add(from, to, attachmentsOf(fn.function)[0]?.table ?? "blocked", from);
    }
  }
  for (const table of map.tables.filter(({ kind }) => kind === "viommu")) {
    add(`iommu:${table.iommu}`, tableKey(table), "serves", `iommu:${table.iommu}`);
    const serves = map.machine?.iommus.find(({ id }) => id === table.iommu)?.hostIommu ?? table.what;
    add(tableKey(table), `host-iommu:${serves}`, "serves", `iommu:${table.iommu}`);
  }
  return [...links.values()];
}

/** Links that a node is part of: whole ways, from a function or IOMMU of the machine to the host's. */
export function waysThrough(links: readonly MapLink[], key: string): readonly MapLink[] {
  const of = new Set(links.filter(({ from, to }) => from === key || to === key).flatMap((link) => link.of));
  return links.filter((link) => link.of.some((one) => of.has(one)));
}

export const hexOf = (value: number, digits = 0): string => `0x${value.toString(16).padStart(digits, "0")}`;

/** `10de:2342`, as lspci has it. */
export function deviceId({ vendorId, deviceId: device }: { readonly vendorId: number; readonly deviceId: number }): string {
  return `${vendorId.toString(16).padStart(4, "0")}:${device.toString(16).padStart(4, "0")}`;
}

/** StreamID of an SMMU, source id of VT-d. */
export function streamWord(architecture: string | null): string {
  return architecture === "vtd" ? "source id" : "StreamID";
}

export function architectureOf(iommu: IommuReport): "smmuv3" | "vtd" {
  return "stage" in iommu.features ? "smmuv3" : "vtd";
}
