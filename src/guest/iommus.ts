/** The machine's IOMMUs: their drivers, and which of them a function is behind (IORT or iommu-map; DMAR's device scopes). */
import type { MachinePort } from "../port/index.js";
import type { Tolerance } from "./choices/index.js";
import type { Device, HostBridge } from "./device.js";
import { streamOf, type FirmwareDescription, type ReservedWindow } from "./firmware/description.js";
import { SCOPE, type Dmar, type DeviceScope } from "./firmware/dmar.js";
import { DomainIds } from "./iommu/domain-ids.js";
import type { Domain } from "./iommu/domain.js";
import type { IommuDriver } from "./iommu/driver.js";
import type { InterruptController, InterruptHandler } from "./interrupts.js";
import type { GuestMemory } from "./memory.js";
import type { InterruptRemapper, TakenMessages } from "./messages.js";
import { PORT_ROOT, type PciFunction } from "./pci/function.js";
import type { SyncMode } from "./smmu/command-queue.js";
import { SmmuDriver } from "./smmu/driver.js";
import { VtdDriver } from "./vtd/driver.js";
import type { VtdChoice } from "./vtd/features.js";

export interface Source {
  readonly driver: IommuDriver;
  /** StreamID or source-id. */
  readonly sourceId: number;
  /** The function may use ATS where it is. */
  readonly ats: boolean;
}

/** Writes there are interrupts on x86, whatever a domain maps (Intel VT-d 5.x, 3.14). */
const X86_MESSAGES = { base: 0xfee0_0000, size: 0x10_0000 };

/** What the drivers need of the kernel. */
export interface IommuSetParts {
  readonly port: MachinePort;
  readonly options: { readonly sync?: SyncMode; readonly vtd?: VtdChoice; readonly tolerate?: readonly Tolerance[] };
  readonly interrupts: InterruptController;
  /** Known once the firmware has been read, as is what it describes. */
  memory(): GuestMemory;
  firmware(): FirmwareDescription;
  /** Attaches a device to its own domain. */
  useOwnDomain(device: Device): Promise<Domain>;
  /** A vector for an IOMMU's own events; null where no message is seen. */
  ownMessage(handler: InterruptHandler): Promise<TakenMessages | null>;
}

export class IommuSet {
  readonly smmus: SmmuDriver[] = [];
  /** In the order of DMAR's units. */
  readonly units: VtdDriver[] = [];
  private readonly asids = new DomainIds("ASIDs");

  constructor(private readonly parts: IommuSetParts) {}

  get drivers(): readonly IommuDriver[] {
    return this.smmus.length > 0 ? this.smmus : this.units;
  }

  private get dmar(): Dmar | null {
    return this.parts.firmware().dmar;
  }

  /** Probes and enables every one. Interrupts are remapped everywhere before anything is translated, as Linux has it. */
  async probe(): Promise<void> {
    const { parts, dmar } = this;
    const { port, options, interrupts } = parts;
    const [firmware, memory] = [parts.firmware(), parts.memory()];
    for (const [index, description] of firmware.smmus.entries()) {
      const driver = new SmmuDriver(port, memory, interrupts, description, { sync: options.sync, ids: this.asids });
      // Only IORT's RMRs name streams whose traffic must go on from the start.
      const rmr = firmware.source === "acpi" ? firmware.reservedWindows.filter((window) => window.iommu === index && window.identity) : [];
      await driver.probe(rmr);
      this.smmus.push(driver);
    }
    for (const unit of dmar?.units ?? []) {
      const driver = new VtdDriver(port, memory, interrupts, unit, {
        choice: options.vtd,
        addressWidth: dmar!.addressWidth,
        ram: firmware.ram,
        interruptRemapping: dmar!.interruptRemapping,
        x2apic: !dmar!.x2apicOptOut,
        tolerate: options.tolerate,
        ownMessage: (handler) => parts.ownMessage(handler),
      });
      await driver.prepare();
      this.units.push(driver);
    }
    for (const driver of this.units) {
      await driver.probe();
    }
  }

  /** VT-d translates from here on. Linux attaches every function before: what is there then needs no invalidation. */
  async start(devices: readonly Device[]): Promise<void> {
    for (const device of devices) {
      if (device.iommu instanceof VtdDriver && device.master?.domain === null) {
        await this.parts.useOwnDomain(device);
      }
    }
    for (const driver of this.drivers) {
      await driver.start();
    }
  }

  /** Where a function's requests come to; null: no IOMMU translates them. */
  sourceOf(bridge: HostBridge, fn: PciFunction): Source | null {
    const stream = streamOf(bridge.description, fn.requesterId);
    if (stream !== null && this.smmus[stream.smmu] !== undefined) {
      return { driver: this.smmus[stream.smmu], sourceId: stream.streamId, ats: bridge.description.ats };
    }
    const driver = this.unitOf(bridge, fn);
    return driver === null ? null : { driver, sourceId: fn.requesterId, ats: this.atsAllowed(bridge.description.segment, fn) };
  }

  /** What remaps a function's messages; null: nothing does. */
  remapperOf(bridge: HostBridge, fn: PciFunction): InterruptRemapper | null {
    return this.unitOf(bridge, fn)?.remapper ?? null;
  }

  /** The unit whose scope names the function or a bridge above it, else the one for all others of the segment. */
  private unitOf(bridge: HostBridge, fn: PciFunction): VtdDriver | null {
    const { segment } = bridge.description;
    const units = this.units.filter((unit) => unit.description.segment === segment);
    return units.find((unit) => inScope(unit.description.scopes, fn)) ?? units.find((unit) => unit.description.includeAll) ?? null;
  }

  /** Linux's dmar_ats_supported: integrated functions may, others below a root port that an ATSR names. */
  private atsAllowed(segment: number, fn: PciFunction): boolean {
    const listed = this.dmar?.ats.filter((entry) => entry.segment === segment) ?? [];
    if (fn.parent === null) {
      return true;
    }
    let at: PciFunction | null = fn.parent;
    for (; at !== null && at.portType !== PORT_ROOT; at = at.parent) {
      if (at.portType === null) {
        return false;
      }
    }
    return at !== null && listed.some((entry) => entry.kind === "root-ports" && (entry.flag || inScope(entry.scopes, fn)));
  }

  /** Windows that domains of these ids have to take account of. */
  windowsFor(driver: IommuDriver, sourceIds: readonly number[], fn: PciFunction): ReservedWindow[] {
    const index = this.drivers.indexOf(driver);
    const fixed = this.parts.firmware().reservedWindows.filter(
      (window) => (window.iommu === null || window.iommu === index) && sourceIds.some((id) => id >= window.streams[0] && id <= window.streams[1]),
    );
    if (!(driver instanceof VtdDriver)) {
      return fixed;
    }
    const streams = [0, 0xffff] as const;
    const reserved = (this.dmar?.reserved ?? []).filter((entry) => entry.segment === driver.description.segment && inScope(entry.scopes, fn));
    return [
      ...fixed,
      { ...X86_MESSAGES, identity: false, device: true, iommu: index, streams },
      ...reserved.map(({ base, size }) => ({ base, size, identity: true, device: false, iommu: index, streams })),
    ];
  }
}

/** A scope's path leads to the function, or to a bridge above it (8.3.1). */
function inScope(scopes: readonly DeviceScope[], fn: PciFunction): boolean {
  const chain: PciFunction[] = [];
  for (let at: PciFunction | null = fn; at !== null; at = at.parent) {
    chain.unshift(at);
  }
  return scopes.some(({ type, bus, path }) => {
    if (type !== SCOPE.ENDPOINT && type !== SCOPE.BRIDGE) {
      return false;
    }
    const from = chain.findIndex((one) => one.bus === bus);
    const part = chain.slice(from, from + path.length);
    return from >= 0 && part.length === path.length && part.every((one, i) => one.devfn === ((path[i].device << 3) | path[i].fn));
  });
}
