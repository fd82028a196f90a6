/** How a function is reset: by itself, with its bus or slot, or by its power states; in QEMU's order (vfio_pci_reset). */
import { HostError, type HotResetDevice, refusalOf, type VfioDevice } from "../iommufd/index.js";
import { CAP_EXPRESS, CAP_POWER_MANAGEMENT, type ConfigSpace, findCapability } from "../pci/index.js";
import type { Log } from "../support/index.js";

const CAP_ADVANCED_FEATURES = 0x13;
/** Device Capabilities: function level reset (PCIe 7.5.3.3). */
const DEVICE_CAPABILITIES = 4;
const FUNCTION_LEVEL_RESET = 1 << 28;
/** The same in the advanced features' capabilities byte (PCI 3.0 AF ECN). */
const FEATURES = 3;
const FEATURES_RESET = 2;
/** PMCSR.No_Soft_Reset (PCIe 7.5.2.2). */
const POWER_CONTROL = 4;
const NO_SOFT_RESET = 0x08;

/** What a function can, by its capabilities. */
export interface ResetFacts {
  readonly hasFlr: boolean;
  readonly hasPowerReset: boolean;
}

export function resetFacts(config: ConfigSpace): ResetFacts {
  const express = findCapability(config, CAP_EXPRESS);
  const features = findCapability(config, CAP_ADVANCED_FEATURES);
  const power = findCapability(config, CAP_POWER_MANAGEMENT);
  return {
    hasFlr: (express !== 0 && (config.get32(express + DEVICE_CAPABILITIES) & FUNCTION_LEVEL_RESET) !== 0) || (features !== 0 && (config.bytes[features + FEATURES] & FEATURES_RESET) !== 0),
    hasPowerReset: power !== 0 && (config.bytes[power + POWER_CONTROL] & NO_SOFT_RESET) === 0,
  };
}

/** Functions of this process that one iommufd knows, by its ids. */
export type Siblings = Map<number, FunctionReset>;

export class FunctionReset {
  /** It is quiet and waits for others of its bus, with which it is reset. */
  private waits = false;

  constructor(
    private readonly device: VfioDevice,
    private readonly devId: number,
    private readonly facts: ResetFacts,
    private readonly siblings: Siblings,
    /** For messages. */
    private readonly name: string,
    private readonly log: Log,
  ) {
    siblings.set(devId, this);
  }

  close(): void {
    this.siblings.delete(this.devId);
  }

  /** The function is quiet: nothing of it is mapped, its interrupts are off, it sends nothing. */
  run(): void {
    const { hasFlr, hasPowerReset } = this.facts;
    const canReset = this.canReset();
    // A reset by power states leaves more as it was than one of the bus.
    if ((canReset && (hasFlr || !hasPowerReset) && this.byItself()) || this.byBus() || (canReset && hasPowerReset && this.byItself())) {
      return;
    }
    if (!this.waits) {
      this.log.warnOnce(`${this.name}: it cannot be reset; the device keeps its state`);
    }
  }

  /** The guest uses the function: it has not been reset where others of its bus had to be quiet first. */
  used(): void {
    if (this.waits) {
      this.waits = false;
      this.log.warn(`${this.name}: it was not reset, for its bus is shared with functions that were in use; the device has kept its state`);
    }
  }

  /** A device that does not tell is asked for it. */
  private canReset(): boolean {
    let can = true;
    const refusal = refusalOf(() => ({ canReset: can } = this.device.info()));
    if (refusal !== null) {
      this.log.warn(`${this.name}: ${refusal.message}; it is asked for a reset all the same`);
    }
    return can;
  }

  private byItself(): boolean {
    const refusal = refusalOf(() => this.device.reset());
    if (refusal !== null) {
      this.log.warn(`${this.name}: ${refusal.message}`);
    }
    return refusal === null;
  }

  /** A reset of the bus or slot, where all that it reaches is ours and quiet: the last of them does it for all. */
  private byBus(): boolean {
    let reached: HotResetDevice[];
    try {
      reached = this.device.hotResetInfo();
    } catch (error) {
      if (error instanceof HostError) {
        return false;
      }
      throw error;
    }
    const foreign = reached.find(({ devId }) => devId < 0);
    if (foreign !== undefined) {
      this.log.warn(`${this.name}: Cannot reset device ${this.device.address}, depends on device ${foreign.address} which is not owned.`);
      return false;
    }
    const others = reached.filter(({ devId }) => devId > 0 && devId !== this.devId).map(({ devId }) => this.siblings.get(devId));
    this.waits = others.some((other) => other?.waits !== true);
    if (this.waits) {
      return false;
    }
    const refusal = refusalOf(() => this.device.hotReset());
    if (refusal !== null) {
      this.log.warn(`${this.name}: ${refusal.message}`);
      return false;
    }
    others.forEach((other) => (other!.waits = false));
    return true;
  }
}
