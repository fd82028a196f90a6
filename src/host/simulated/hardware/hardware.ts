import { HardwareFunction, type HostBus } from "./function.js";
import { type HostDescription, sourceIdOf } from "./host-description.js";
import { PhysicalMemory } from "./physical-memory.js";
import { HardwareSmmu } from "./smmu/smmu.js";

/** The page of registers that the interrupt controller shows to devices (GITS_TRANSLATER lies in it). */
const DOORBELL_PAGE = 0x1000;

/**
 * A host's hardware: memory, SMMUs, PCI functions, and the interrupt controller's doorbell behind them.
 */
export class SimulatedHardware implements HostBus {
  readonly memory: PhysicalMemory;
  /** By name. */
  readonly smmus = new Map<string, HardwareSmmu>();
  /** By PCI address. */
  readonly functions = new Map<string, HardwareFunction>();
  private readonly msiListeners: Array<(fn: HardwareFunction, address: number, data: number) => void> = [];

  private constructor(readonly description: HostDescription) {
    this.memory = new PhysicalMemory(description.memory);
    for (const smmu of description.smmus) {
      const functions = description.functions.filter((fn) => fn.smmu === smmu.name);
      this.smmus.set(smmu.name, new HardwareSmmu(smmu, this.memory, functions.map((fn) => sourceIdOf(fn))));
    }
    for (const fn of description.functions) {
      const smmu = fn.smmu === null ? null : this.smmus.get(fn.smmu)!;
      const made = new HardwareFunction(fn, smmu, this);
      smmu?.connect(made.sourceId, made);
      this.functions.set(fn.address, made);
    }
  }

  /** Builds the hardware of a description that `describeHost` or `loadHostDescription` has checked. */
  static fromDescription(description: HostDescription): SimulatedHardware {
    return new SimulatedHardware(description);
  }

  /** Host-physical address of the doorbell: GITS_TRANSLATER. */
  get msiDoorbell(): number {
    return this.description.msiDoorbell;
  }

  /** Called when a function's write has reached the doorbell: the function, the host-physical address, the 32 bits written. */
  onMsi(listener: (fn: HardwareFunction, address: number, data: number) => void): void {
    this.msiListeners.push(listener);
  }

  /** A function's read beyond the SMMU; the doorbell's page reads as zero. */
  read(hpa: number, out: Uint8Array): boolean {
    if (this.inDoorbellPage(hpa)) {
      out.fill(0);
      return true;
    }
    return this.memory.read(hpa, out);
  }

  /** A function's write beyond the SMMU. In the doorbell's page only GITS_TRANSLATER does something, with 16 or 32 bits (GICv3, 8.19.13). */
  write(source: HardwareFunction, hpa: number, data: Uint8Array): boolean {
    if (!this.inDoorbellPage(hpa)) {
      return this.memory.write(hpa, data);
    }
    if (hpa === this.msiDoorbell && (data.length === 4 || data.length === 2)) {
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

  /** Gives back what the hardware's own tables take of the memory. */
  close(): void {
    for (const smmu of this.smmus.values()) {
      smmu.close();
    }
    this.msiListeners.length = 0;
  }

  private inDoorbellPage(hpa: number): boolean {
    return Math.floor(hpa / DOORBELL_PAGE) === Math.floor(this.msiDoorbell / DOORBELL_PAGE);
  }
}
