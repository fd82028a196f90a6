import type { MakeMemory } from "../../../memory/index.js";
import { HardwareFunction, type HostBus } from "./function.js";
import { iommuOf, sourceIdOf } from "../names/index.js";
import type { FunctionDescription, HostDescription } from "../file/index.js";
import type { HardwareIommu } from "./iommu.js";
import { PhysicalMemory } from "./physical-memory.js";
import { HardwareSmmu } from "./smmu/smmu.js";
import { HardwareVtd } from "./vtd/vtd.js";
import { INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST } from "../../../vtd/spec/index.js";

/** The page of registers that the interrupt controller shows to devices (GITS_TRANSLATER lies in it). */
const DOORBELL_PAGE = 0x1000;

/**
 * A host's hardware: memory, SMMUs or VT-d units, PCI functions, and behind them the interrupt controller's
 * doorbell, or the range in which memory writes are interrupts (Intel VT-d 3.14).
 */
export class SimulatedHardware implements HostBus {
  readonly memory: PhysicalMemory;
  /** By name. */
  readonly smmus = new Map<string, HardwareSmmu>();
  /** By name. */
  readonly vtds = new Map<string, HardwareVtd>();
  /** By PCI address. */
  readonly functions = new Map<string, HardwareFunction>();
  private readonly msiListeners: Array<(fn: HardwareFunction, address: number, data: number) => void> = [];

  private constructor(
    readonly description: HostDescription,
    makeMemory?: MakeMemory,
  ) {
    this.memory = new PhysicalMemory(description.memory, makeMemory);
    for (const smmu of description.smmus) {
      const functions = description.functions.filter((fn) => fn.smmu === smmu.name);
      this.smmus.set(smmu.name, new HardwareSmmu(smmu, this.memory, functions.map((fn) => sourceIdOf(fn))));
    }
    for (const vtd of description.vtds) {
      this.vtds.set(vtd.name, new HardwareVtd(vtd, this.memory));
    }
    for (const fn of description.functions) {
      const name = iommuOf(fn);
      const iommu = name === null ? null : (this.smmus.get(name) ?? this.vtds.get(name)!);
      const made = this.make(fn, iommu);
      iommu?.connect(made.sourceId, made);
      this.functions.set(fn.address, made);
    }
  }

  /** Throws Refusal, with nothing left of the hardware made before it. */
  private make(fn: FunctionDescription, iommu: HardwareIommu | null): HardwareFunction {
    try {
      return new HardwareFunction(fn, iommu, this);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Builds the hardware of a description that `describeHost` or `loadHostDescription` has checked. */
  static fromDescription(description: HostDescription, makeMemory?: MakeMemory): SimulatedHardware {
    return new SimulatedHardware(description, makeMemory);
  }

  /** Host-physical address of the doorbell: GITS_TRANSLATER, or the interrupt range's first byte. */
  get msiDoorbell(): number {
    return this.description.msiDoorbell;
  }

  /** Called when a function's write has reached the doorbell: the function, the host-physical address, the 32 bits written. */
  onMsi(listener: (fn: HardwareFunction, address: number, data: number) => void): void {
    this.msiListeners.push(listener);
  }

  /** A function's read beyond the IOMMU; the doorbell's page reads as zero. */
  read(hpa: number, out: Uint8Array): boolean {
    if (this.inDoorbellPage(hpa)) {
      out.fill(0);
      return true;
    }
    return this.memory.read(hpa, out);
  }

  /**
   * A function's write beyond the IOMMU. In the doorbell's page only GITS_TRANSLATER does something, with 16 or
   * 32 bits (GICv3, 8.19.13); in the interrupt range every aligned write of 32 bits is a message.
   */
  write(source: HardwareFunction, hpa: number, data: Uint8Array): boolean {
    if (!this.inDoorbellPage(hpa)) {
      return this.memory.write(hpa, data);
    }
    if (this.isMessage(hpa, data.length)) {
      let value = 0;
      for (let i = data.length - 1; i >= 0; i--) {
        value = value * 256 + data[i];
      }
      for (const listener of this.msiListeners) {
        listener(source, hpa, value);
      }
    }
    return true;
  }

  /** Gives back what the hardware's own tables take of the memory, and the functions' disks. */
  close(): void {
    for (const fn of this.functions.values()) {
      fn.close();
    }
    for (const smmu of this.smmus.values()) {
      smmu.close();
    }
    for (const vtd of this.vtds.values()) {
      vtd.close();
    }
    this.msiListeners.length = 0;
  }

  private isMessage(hpa: number, length: number): boolean {
    return this.vtds.size > 0 ? hpa % 4 === 0 && length === 4 : hpa === this.msiDoorbell && (length === 4 || length === 2);
  }

  private inDoorbellPage(hpa: number): boolean {
    if (this.vtds.size > 0) {
      return hpa >= INTERRUPT_RANGE_FIRST && hpa <= INTERRUPT_RANGE_LAST;
    }
    return Math.floor(hpa / DOORBELL_PAGE) === Math.floor(this.msiDoorbell / DOORBELL_PAGE);
  }
}
