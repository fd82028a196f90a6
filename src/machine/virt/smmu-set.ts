/** The SMMUs of a machine: their places, interrupts, buses, and the acceleration of those that have one. */
import { type AddressSpace, MemoryRegion, type WordMemory } from "../../memory/index.js";
import { type IommuOps, type PciBus, setupIommu } from "../../pci/index.js";
import {
  AcceleratedIommuOps,
  DEFAULT_PROPERTIES,
  SmmuAcceleration,
  type SmmuInterruptLines,
  type SmmuProperties,
  SmmuV3,
  SoftwareIommuOps,
} from "../../smmuv3/index.js";
import { type Log, Refusal } from "../../support/index.js";
import { checkSmmuProperties, type DeviceArgument, deviceLabel, type GlobalProperty, type CommonOptions, type SmmuRequest } from "../arguments/index.js";
import type { MachineIommu } from "../board.js";
import type { GicInterrupts } from "./gic-interrupts.js";
import { describeSmmu, smmuInvalidation, type SmmuMember } from "./smmu-account.js";
import { FIRST_SPI, userSmmuPlace, VIRT, VIRT_SPI } from "./map.js";

export interface MachineSmmu extends MachineIommu, SmmuMember {
  readonly kind: "smmuv3";
  readonly device: SmmuV3;
  /** Bytes of its registers. */
  readonly size: number;
  /** As SmmuRequest has it. */
  readonly registerPages: SmmuRequest["registerPages"];
}

export function isSmmu(iommu: MachineIommu): iommu is MachineSmmu {
  return iommu.kind === "smmuv3";
}

export interface SmmuSetParts {
  readonly memory: AddressSpace;
  readonly words: WordMemory;
  /** Where the registers are mapped. */
  readonly root: MemoryRegion;
  readonly interrupts: GicInterrupts;
  readonly msiDoorbell: number | null;
  readonly machine: CommonOptions;
  /** The machine starts a kernel, whose tables are made for it. */
  readonly kernel: boolean;
  readonly log: Log;
}

export class SmmuSet {
  private readonly members: MachineSmmu[] = [];

  constructor(private readonly parts: SmmuSetParts) {}

  /** By their place among the -device arm-smmuv3; the legacy one alone. */
  get all(): readonly MachineSmmu[] {
    return [...this.members].sort((a, b) => a.base - b.base);
  }

  find(argument: DeviceArgument): MachineSmmu | null {
    return this.members.find((smmu) => smmu.argument === argument) ?? null;
  }

  has(argument: DeviceArgument): boolean {
    return this.find(argument) !== null;
  }

  /**
   * -machine iommu=smmuv3: one SMMU for pcie.0 and all expander buses that do not bypass it. QEMU gives it
   * both stages from virt-9.2 on, and then ignores -global, which is heeded here.
   */
  addLegacy(bus: PciBus, version: readonly [number, number], globals: readonly GlobalProperty[]): void {
    const [major, minor] = version;
    const usual = major > 9 || (major === 9 && minor >= 2) ? "nested" : DEFAULT_PROPERTIES.stage;
    const stage = globals.filter((global) => global.driver === "arm-smmuv3" && global.name === "stage").at(-1)?.value ?? usual;
    if (stage !== "1" && stage !== "2" && stage !== "nested") {
      throw new Refusal(`Parameter 'stage' does not accept value '${stage}'`, { found: `-global arm-smmuv3.stage=${stage}`, wouldWork: "1, 2, nested" });
    }
    const place = { ...VIRT.smmu, spi: VIRT_SPI.smmu };
    const request: SmmuRequest = { properties: { ...DEFAULT_PROPERTIES, stage, msi: this.parts.kernel } satisfies SmmuProperties, acceleration: null, registerPages: "auto" };
    this.make("smmuv3", bus, place, request, null);
  }

  /**
   * Makes the SMMU of `-device arm-smmuv3` on `bus`.
   * @param index its place among them, from 0
   * @throws Refusal in QEMU's words, with nothing left of it
   */
  add(argument: DeviceArgument, bus: PciBus, index: number): void {
    const label = deviceLabel(argument);
    if (this.members.some((smmu) => smmu.legacy)) {
      throw new Refusal("virt machine already has iommu=smmuv3 set. Doesn't support incompatible iommus", {
        rule: "iommu-twice",
        found: `-machine iommu=smmuv3 and ${label}`,
        wouldWork: "one of them: -device arm-smmuv3,primary-bus=pcie.0 covers what iommu=smmuv3 does",
      });
    }
    const request = checkSmmuProperties(argument, this.parts.machine, this.parts.kernel);
    if (!bus.isRoot) {
      throw new Refusal("SMMU should be attached to a default PCIe root complex(pcie.0) or a pxb-pcie based root complex", {
        rule: "smmu-bus",
        found: `${label} with primary-bus=${bus.id}, the bus of ${bus.bridge?.label ?? "a bridge"}`,
        wouldWork: `primary-bus=${bus.rootBus.id}`,
      });
    }
    if (bus.bypassIommu) {
      throw new Refusal("Bypass option cannot be set for SMMUv3 associated PCIe RC", {
        rule: "smmu-bus-bypassed",
        found: `${label} on bus '${bus.id}', which has ${bus.bridge === null ? "default-bus-bypass-iommu=on" : "bypass_iommu=on"}`,
        wouldWork: bus.bridge === null ? "default-bus-bypass-iommu=off" : `bypass_iommu=off for ${bus.bridge.label}`,
      });
    }
    if (bus.iommu !== null) {
      const other = this.members.find((smmu) => smmu.bus === bus);
      throw new Refusal("An iommu is already attached to this bus", {
        rule: "iommu-twice",
        found: `${label} and ${other?.argument === null || other === undefined ? "another" : deviceLabel(other.argument)} on bus '${bus.id}'`,
        wouldWork: "a pxb-pcie for each SMMU",
      });
    }
    if (request.acceleration !== null && !this.parts.machine.acpi && !this.parts.kernel) {
      // Linux takes the device tree's reserved window for a device that has a node of its own (of_iommu_get_resv_regions); a kernel that is started from here gets such nodes.
      this.parts.log.warnOnce(
        "SMMUv3 with accel=on not supported for DT: with acpi=off a Linux guest does not map the window of messages to itself, and finds no function behind a pxb-pcie (acpi=on would work)",
      );
    }
    this.make(argument.id === "" ? `smmuv3.${index}` : argument.id, bus, userSmmuPlace(index), request, argument);
  }

  private make(id: string, bus: PciBus, place: { base: number; size: number; spi: number }, request: SmmuRequest, argument: DeviceArgument | null): void {
    const { parts } = this;
    const device = new SmmuV3({
      id,
      properties: request.properties,
      memory: parts.memory,
      words: parts.words,
      lines: this.lines(place.spi),
      writeMsi: messageWriter(parts.memory, parts.msiDoorbell),
      log: parts.log,
    });
    const acceleration = request.acceleration === null ? null : new SmmuAcceleration(device, request.acceleration, parts.log);
    let ops: IommuOps;
    if (acceleration === null) {
      ops = new SoftwareIommuOps(device);
    } else {
      device.backend = acceleration;
      ops = new AcceleratedIommuOps(
        argument === null || argument.id === "" ? `arm-smmuv3 (${id})` : deviceLabel(argument),
        acceleration,
        parts.memory,
        (bus, devfn) => device.softwareSpace(bus, devfn),
        parts.msiDoorbell,
      );
    }
    setupIommu(bus, ops);
    parts.root.add(place.base, MemoryRegion.mmio(id, place.size, device));
    const member = { kind: "smmuv3" as const, device, id, bus, acceleration, accelerated: acceleration !== null, ops, legacy: argument === null, registerPages: request.registerPages, ...place, argument };
    this.members.push({
      ...member,
      start: (elsewhere) => {
        acceleration?.freeze(elsewhere);
        device.freeze();
      },
      reset: () => device.reset(),
      describe: () => describeSmmu(member),
      invalidation: () => smmuInvalidation(member),
      tables: () => acceleration?.tables() ?? [],
      hostObjects: () => acceleration?.hostObjects() ?? [],
      lastBatch: () => (acceleration === null ? null : device.commands.lastBatch(acceleration.batchError)),
    });
  }

  private lines(spi: number): SmmuInterruptLines {
    const { interrupts } = this.parts;
    const line = (index: number) => ({ pulse: () => interrupts.spi(FIRST_SPI + spi + index) });
    return { eventq: line(0), priq: line(1), cmdqSync: line(2), gerror: line(3) };
  }

  /** An expander's root bus has come to be: the legacy SMMU covers it, unless it bypasses. */
  coverExpander(bus: PciBus): void {
    const legacy = this.members.find((smmu) => smmu.legacy);
    if (legacy !== undefined && bus.iommu === null) {
      setupIommu(bus, legacy.ops);
    }
  }

  dispose(): void {
    for (const smmu of this.members) {
      smmu.bus.iommu = null;
      smmu.device.dispose();
    }
  }
}

/**
 * Sends an SMMU's own messages: 32-bit writes of the Non-secure physical address space (Arm IHI 0070, 3.18.2). They
 * reach RAM and the controller of messages; a write to another device's registers aborts, the SMMU's own among them.
 */
function messageWriter(memory: AddressSpace, doorbell: number | null): (address: number, data: number) => boolean {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  return (address, data) => {
    if (memory.find(address)?.region.kind !== "ram" && address !== doorbell) {
      return false;
    }
    view.setUint32(0, data, true);
    return memory.writeBytes(address, bytes) === 0;
  };
}
