/** PCI functions from their arguments: which class a model is, and how its properties are named there. */
import { E1000e, Edu, type GuestNews, InertFunction, IommuTestdev, PvpanicPci, VirtioBlkPci, VirtioNetPci } from "../devices/index.js";
import type { Host } from "../iommufd/index.js";
import type { DmaSpace } from "../memory/index.js";
import type { MsiRouter } from "../msi/index.js";
import { ConventionalPciBridge, I82801b11Bridge, Ioh3420, type PciBus, PciePciBridge, PcieRootPort, type PciFunction, PxbPcie, X3130Upstream, Xio3130Downstream } from "../pci/index.js";
import { type Log, Refusal } from "../support/index.js";
import { type IommufdContext, VfioPci, type VectorRouting } from "../vfio/index.js";
import type { HostFiles } from "./host-files.js";
import { nameHostFunction, uuidBytes } from "./host-function-name.js";
import type { MsiAccount } from "./accounts.js";
import type { BoardOutputs } from "./board.js";
import type { BoardMap } from "./board-map.js";
import { type BoardKind, booleanProperty, type DeviceArgument, deviceLabel, type FunctionModel, type FunctionPlace, numberProperty, type RecordedDevice, textProperty } from "./arguments/index.js";
import type { MachineDrives } from "./drives.js";
import { spaceOf } from "./inert-space.js";
import { makeNvme } from "./nvme-maker.js";
import type { VirtualClock } from "./virtual-clock.js";

/** What functions are made with. */
export interface FunctionParts {
  readonly host: Host;
  readonly iommufds: ReadonlyMap<string, IommufdContext>;
  readonly drives: MachineDrives;
  readonly outputs: Pick<BoardOutputs, "functionFailed" | "functionWanted">;
  readonly hostFiles: HostFiles;
  readonly router: MsiRouter;
  readonly msiAccount: MsiAccount;
  readonly log: Log;
  /** A kernel runs on vCPUs: nobody compares its functions with QEMU's. */
  readonly kernel: boolean;
  /** A guest tells what has become of it. */
  readonly tell: (news: GuestNews) => void;
  readonly systemMemory: DmaSpace;
  /** Functions that the machine has now. */
  plugged(): Iterable<PciFunction>;
  /** Null: devices work at once. */
  readonly clock: VirtualClock | null;
  readonly board: BoardKind;
  /** NUMA nodes of the machine. */
  readonly numaNodes: number;
  readonly map: Pick<BoardMap, "busCount" | "moreBuses">;
}

type Maker = (device: DeviceArgument, parts: FunctionParts) => PciFunction;

const slotOptions = (device: DeviceArgument) => ({
  id: device.id,
  port: numberProperty(device, "port"),
  chassis: numberProperty(device, "chassis"),
  slot: numberProperty(device, "slot"),
  hotplug: booleanProperty(device, "hotplug"),
  powerController: booleanProperty(device, "power_controller_present"),
});

/** What a port is asked to reserve; null: not said, or all ones, which says the same. */
function reserved(device: DeviceArgument, name: string, none = 2n ** 64n): bigint | null {
  const value = device.properties.get(name);
  return value === undefined || BigInt(value as number) >= none ? null : BigInt(value as number);
}

const makers: Readonly<Record<FunctionModel, Maker>> = {
  "pxb-pcie": makeExpander,
  "pcie-root-port": (device, parts) =>
    new PcieRootPort({
      ...slotOptions(device),
      powerManagement: textProperty(device, "x-pm") === "auto" ? parts.kernel : textProperty(device, "x-pm") === "on",
      speed: Number(textProperty(device, "x-speed").replace("_", ".")),
      width: Number(textProperty(device, "x-width")),
      reserve: {
        buses: reserved(device, "bus-reserve", 0xffff_ffffn) === null ? null : numberProperty(device, "bus-reserve"),
        io: reserved(device, "io-reserve"),
        memory: reserved(device, "mem-reserve"),
        prefetch32: reserved(device, "pref32-reserve"),
        prefetch64: reserved(device, "pref64-reserve"),
      },
    }),
  "x3130-upstream": (device) => new X3130Upstream({ id: device.id, port: numberProperty(device, "port") }),
  "xio3130-downstream": (device) => new Xio3130Downstream(slotOptions(device)),
  "pcie-pci-bridge": (device) => new PciePciBridge({ id: device.id, msi: textProperty(device, "msi") !== "off" }),
  "pci-bridge": makeConventionalBridge,
  "pci-bridge-seat": makeConventionalBridge,
  "i82801b11-bridge": (device) => new I82801b11Bridge({ id: device.id }),
  ioh3420: (device) => new Ioh3420(slotOptions(device)),
  "vfio-pci": makeVfio,
  "virtio-net-pci": (device) => new VirtioNetPci({ id: device.id, ats: booleanProperty(device, "ats") }),
  "virtio-blk-pci": (device) => new VirtioBlkPci({ id: device.id, ats: booleanProperty(device, "ats") }),
  nvme: (device, parts) => makeNvme(device, parts.drives),
  e1000e: (device) => new E1000e({ id: device.id, subsystemVendorId: numberProperty(device, "subsys_ven"), subsystemId: numberProperty(device, "subsys") }),
  edu: (device, parts) => new Edu({ id: device.id, dmaMask: BigInt(device.properties.get("dma_mask") as bigint | undefined ?? 0x0fff_ffff), log: parts.log, clock: parts.clock }),
  "pvpanic-pci": (device, parts) => new PvpanicPci({ id: device.id, events: numberProperty(device, "events"), tell: parts.tell, log: parts.log }),
  "iommu-testdev": (device, parts) => new IommuTestdev({ id: device.id, systemMemory: parts.systemMemory }),
};

/** The function that an argument asks for, to be plugged into `bus`. @throws Refusal */
export function makeFunction(device: DeviceArgument, parts: FunctionParts, bus: PciBus): PciFunction {
  const { recorded, name } = device.model;
  const fn = recorded === undefined ? makers[name as FunctionModel](device, parts) : makeInert(device, recorded, parts.board, bus);
  fn.multifunction = booleanProperty(device, "multifunction");
  return fn;
}

function makeConventionalBridge(device: DeviceArgument, { board }: FunctionParts): PciFunction {
  const chassis = numberProperty(device, "chassis_nr");
  if (chassis === 0) {
    throw new Refusal("Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0.", { found: deviceLabel(device), wouldWork: "chassis_nr=1 to 255" });
  }
  return new ConventionalPciBridge({
    id: device.id,
    chassis,
    msi: textProperty(device, "msi") !== "off",
    seat: device.model.name === "pci-bridge-seat",
    // Its hot-plug controller takes none in slot 0; on q35 ACPI's is in its place.
    firstSlot: board === "virt" && booleanProperty(device, "shpc") ? 1 : 0,
  });
}

/** A function that is placed and not modelled, as it is in such a place. */
function makeInert(device: DeviceArgument, recorded: RecordedDevice, board: BoardKind, bus: PciBus): PciFunction {
  const place: FunctionPlace = !bus.isExpress ? "conventional" : bus.isRoot ? "root" : "port";
  const space = recorded.space(board, place);
  if (space === null || typeof space === "string") {
    throw new Refusal(space ?? `Device '${recorded.name}' cannot be placed`, {
      found: `${deviceLabel(device)} on bus '${bus.id}'${space === null ? ": nothing is known of its configuration space" : ""}`,
      wouldWork: place === "port" ? "bus=pcie.0" : "the bus of a pcie-root-port",
    });
  }
  return new InertFunction(recorded.name, { id: device.id, space: spaceOf(device, space) });
}

function makeExpander(device: DeviceArgument, parts: FunctionParts): PciFunction {
  const busNr = numberProperty(device, "bus_nr");
  const { busCount, moreBuses } = parts.map;
  if (busNr >= busCount) {
    throw new Refusal(`Bus ${busNr} is beyond the machine's configuration space`, {
      rule: "bus-number-collision",
      found: `${deviceLabel(device)} with bus_nr=${busNr}; configuration space has room for ${busCount} buses`,
      wouldWork: `bus_nr=1 to ${busCount - 1}${moreBuses === null ? "" : `, or ${moreBuses}`}`,
    });
  }
  return new PxbPcie({
    id: device.id,
    busNr,
    numaNode: numberProperty(device, "numa_node"),
    bypassIommu: booleanProperty(device, "bypass_iommu"),
    numaNodes: parts.numaNodes,
  });
}

function makeVfio(device: DeviceArgument, parts: FunctionParts): PciFunction {
  const iommufd = device.properties.has("iommufd") ? findIommufd(textProperty(device, "iommufd"), parts) : null;
  const { hostAddress, given } = nameHostFunction(device, parts.host, iommufd !== null);
  for (const other of parts.plugged()) {
    if (other.passthrough?.hostAddress === hostAddress) {
      throw new Refusal(`vfio ${hostAddress}: device is already attached`, {
        rule: "function-taken-twice",
        found: `${other.label} and ${deviceLabel(device)} with host=${hostAddress}`,
        wouldWork: "each function of the host once",
      });
    }
  }
  const ats = textProperty(device, "ats");
  const token = textProperty(device, "vf-token");
  return new VfioPci({
    id: device.id,
    hostAddress,
    given,
    token: token === "" ? undefined : uuidBytes(device, token),
    iommufd,
    ats: ats === "auto" ? "auto" : ats === "on",
    files: parts.host.hasDescriptors === true ? parts.hostFiles : undefined,
    onError: (fn) => parts.outputs.functionFailed(fn),
    onRequest: booleanProperty(device, "x-req") ? (fn) => parts.outputs.functionWanted(fn) : undefined,
    rom: numberProperty(device, "rombar") > 0,
    direct: !booleanProperty(device, "x-no-mmap"),
    pasidCapabilityOffset: numberProperty(device, "x-vpasid-cap-offset"),
    host: parts.host,
    routing: routing(parts.router, parts.msiAccount),
    log: parts.log,
  });
}

function findIommufd(id: string, parts: FunctionParts): IommufdContext {
  const context = parts.iommufds.get(id);
  if (context === undefined) {
    throw new Refusal(`Device '${id}' not found`, {
      rule: "no-such-iommufd",
      found: parts.iommufds.size === 0 ? `iommufd=${id}, and no -object iommufd` : `iommufd=${id}; there are ${[...parts.iommufds.keys()].join(", ")}`,
      wouldWork: parts.iommufds.size === 0 ? `-object iommufd,id=${id}` : `iommufd=${[...parts.iommufds.keys()][0]}`,
    });
  }
  return context;
}

/** A vector of a passed-through function is a route that its eventfd is bound to. */
function routing(router: MsiRouter, account: MsiAccount): VectorRouting {
  return {
    route: (fn, vector, iova, data, event) => account.note(fn, router.update(fn, vector, iova, data, event)),
    remove: (fn, vector) => router.remove(fn, vector),
    batch: (change) => router.batch(change),
    addLevel: (source) => router.addLevel(source),
    removeLevel: (fn) => router.removeLevel(fn),
  };
}
