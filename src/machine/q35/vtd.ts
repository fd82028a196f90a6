/** The intel-iommu of a machine: its device, the buses that it covers, and what the account tells of it. */
import type { BatchAccount, ObjectAccount, TableAccount } from "../../iommufd/index.js";
import { MemoryRegion, type AddressSpace, type RamWordMemory } from "../../memory/index.js";
import { type PciBus, setupIommu } from "../../pci/index.js";
import type { Log } from "../../support/index.js";
import { VtdAcceleration, VtdDevice, VtdIommuOps } from "../../vtd/index.js";
import type { DeviceArgument, VtdRequest } from "../arguments/index.js";
import type { ApicInterrupts } from "./apic-interrupts.js";
import type { MachineIommu } from "../board.js";
import type { IommuDescription, InvalidationAccount } from "../iommu-account.js";
import { Q35 } from "./map.js";
/** PASID of requests without one (ECAP.RPS is clear). */
const RID_PASID = 0;

export interface MachineVtdParts {
  readonly request: VtdRequest;
  readonly argument: DeviceArgument;
  readonly memory: AddressSpace;
  readonly words: RamWordMemory;
  /** Where the registers are mapped. */
  readonly root: MemoryRegion;
  readonly interrupts: ApicInterrupts;
  readonly log: Log;
}

export class MachineVtd implements MachineIommu {
  readonly kind = "vtd";
  readonly device: VtdDevice;
  readonly acceleration: VtdAcceleration;
  /** For every root bus of the machine. */
  readonly ops: VtdIommuOps;
  readonly id: string;
  readonly argument: DeviceArgument;
  readonly request: VtdRequest;
  readonly base = Q35.remapping.base;
  readonly size = VtdDevice.regionBytes;
  private readonly buses: PciBus[] = [];

  constructor({ request, argument, memory, words, root, interrupts, log }: MachineVtdParts) {
    this.request = request;
    this.argument = argument;
    this.id = argument.id === "" ? "intel-iommu" : argument.id;
    this.device = new VtdDevice({
      id: this.id,
      properties: request.properties,
      memory,
      words,
      sendMessage: (address, data) => interrupts.message({ address, data }),
      log,
    });
    this.acceleration = this.device.backend = new VtdAcceleration(this.device, log);
    this.ops = new VtdIommuOps(this.device, this.acceleration);
    root.add(this.base, MemoryRegion.mmio("intel_iommu", this.size, this.device));
  }

  get accelerated(): boolean {
    return this.acceleration.functionCount > 0;
  }

  /** A root bus has come to be. One that bypasses is covered all the same: its functions' way does not lead here. */
  cover(bus: PciBus): void {
    setupIommu(bus, this.ops);
    this.buses.push(bus);
  }

  start(): void {}

  reset(): void {
    this.device.reset();
  }

  dispose(): void {
    this.buses.forEach((bus) => (bus.iommu = null));
    this.device.dispose();
  }

  describe(): IommuDescription {
    const { properties } = this.device;
    const functions = this.acceleration.describeFunctions();
    const hosts = [...new Set(functions.map((fn) => fn.hostIommu).filter((name) => name !== null))];
    return {
      id: this.id,
      bus: this.buses[0].id,
      accel: this.accelerated,
      hostIommu: hosts.length === 0 ? null : hosts.sort().join(", "),
      legacy: false,
      base: this.base,
      interrupts: [],
      features: {
        scalableMode: properties.scalableMode,
        fsts: properties.fsts,
        fs1gp: properties.fs1gp,
        pasidBits: properties.pasidBits,
        awBits: properties.awBits,
        cachingMode: properties.cachingMode,
        deviceIotlb: properties.deviceIotlb,
        dmaTranslation: properties.dmaTranslation,
        intremap: properties.intremap,
        eim: properties.eim,
      },
      bindings: functions.flatMap((fn) => {
        const ofFunction = { function: fn.name, hostIommu: fn.hostIommu };
        const own = fn.pasids.find(({ pasid }) => pasid === RID_PASID);
        return [
          { ...ofFunction, pasid: null, table: fn.table, reason: fn.reason, hwpt: fn.hwptId, domain: own?.domain ?? null },
          ...fn.pasids.filter(({ pasid }) => pasid !== RID_PASID).map(({ pasid, table, hwptId, domain }) => ({ ...ofFunction, pasid, table, reason: null, hwpt: hwptId, domain })),
          ...fn.blockedPasids.map(({ pasid, reason }) => ({ ...ofFunction, pasid, table: "blocked", reason, hwpt: null, domain: null })),
        ];
      }),
    };
  }

  tables(): TableAccount[] {
    return this.acceleration.tables();
  }

  hostObjects(): ObjectAccount[] {
    return this.acceleration.hostObjects();
  }

  lastBatch(): BatchAccount | null {
    return this.device.queue.lastBatch(this.acceleration.batchError);
  }

  invalidation(): InvalidationAccount {
    const { descriptorsByType, forwarded } = this.device.counters();
    // Wait descriptors order, they invalidate nothing.
    const guestCommands = Object.entries(descriptorsByType)
      .filter(([name]) => !/wait/i.test(name))
      .reduce((sum, [, count]) => sum + count, 0);
    return { iommu: this.id, commands: { ...descriptorsByType }, guestCommands, forwarded, hostCalls: this.acceleration.invalidateCalls };
  }
}

export function isVtd(iommu: MachineIommu): iommu is MachineVtd {
  return iommu.kind === "vtd";
}
