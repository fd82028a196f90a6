import type { MakeMemory } from "../../../memory/index.js";
import { HardwareFunction, type HostBus } from "./function.js";
import { iommuOf, sourceIdOf } from "../names/index.js";
import type { HostDescription } from "../file/index.js";
import { type KnownFunction, knownFunction, knownSmmus } from "./known.js";
import { BarWindows } from "./bar-windows.js";
import type { HardwareIommu } from "./iommu.js";
import { PhysicalMemory } from "./physical-memory.js";
import { HardwareSmmu } from "./smmu/smmu.js";
import { HardwareVtd } from "./vtd/vtd.js";
import { extract, IDR5, OAS_BITS } from "../../../smmuv3/spec/index.js";
import { INTERRUPT_RANGE_FIRST, INTERRUPT_RANGE_LAST } from "../../../vtd/spec/index.js";

/** The page of registers that the interrupt controller shows to devices (GITS_TRANSLATER lies in it). */
const DOORBELL_PAGE = 0x1000;

/** Bits of host-physical addresses where SMMUs do not tell them. */
const PHYSICAL_BITS = 46;

/** Writes of functions to functions' registers that one of them may cause: more of them in a row are dropped. */
const MOST_POSTED = 256;

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
  /** Messages are writes to the interrupt range. */
  readonly isX86: boolean;
  private readonly bars: BarWindows;
  /** Writes to functions' registers that wait for the one that is being made: they are posted (PCIe 2.4.1). */
  private readonly posted: Array<() => void> = [];
  private posting = false;
  private readonly msiListeners: Array<(fn: HardwareFunction, address: number, data: number) => void> = [];

  private constructor(
    readonly description: HostDescription,
    makeMemory?: MakeMemory,
  ) {
    const smmus = knownSmmus(description);
    this.memory = new PhysicalMemory(description.memory, makeMemory);
    this.isX86 = description.msiDoorbell === INTERRUPT_RANGE_FIRST;
    for (const smmu of smmus) {
      const functions = description.functions.filter((fn) => fn.smmu === smmu.name);
      this.smmus.set(smmu.name, new HardwareSmmu(smmu, this.memory, functions.map((fn) => sourceIdOf(fn))));
    }
    for (const vtd of description.vtds) {
      this.vtds.set(vtd.name, new HardwareVtd(vtd, this.memory));
    }
    const bits = smmus.length === 0 ? PHYSICAL_BITS : Math.min(48, ...smmus.map(({ idr5 }) => OAS_BITS[extract(idr5, IDR5.OAS)]));
    this.bars = new BarWindows(description.functions, description.memory, 2 ** bits);
    for (const fn of description.functions) {
      const name = iommuOf(fn);
      const iommu = name === null ? null : (this.smmus.get(name) ?? this.vtds.get(name) ?? null);
      const made = this.make(knownFunction(fn), iommu);
      iommu?.connect(made.sourceId, made);
      this.functions.set(fn.address, made);
    }
  }

  /** Throws Refusal, with nothing left of the hardware made before it. */
  private make(fn: KnownFunction, iommu: HardwareIommu | null): HardwareFunction {
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
    const bar = this.bars.find(hpa, out.length);
    if (bar === null) {
      return this.memory.read(hpa, out);
    }
    const target = this.functions.get(bar.fn)!;
    target.regionRead(bar.bar, bar.offset, out);
    return target.decodesMemory;
  }

  /** Host-physical address of a function's BAR; null: the host has put it nowhere. */
  barAddress(fn: string, bar: number): number | null {
    return this.bars.addressOf(fn, bar);
  }

  /** A write to a function's registers. What it makes the function write to others' comes after it, in order. */
  private writeRegisters(target: HardwareFunction, bar: number, offset: number, data: Uint8Array): boolean {
    if (!target.decodesMemory) {
      return false;
    }
    if (this.posting) {
      const copy = data.slice();
      return this.posted.length < MOST_POSTED && this.posted.push(() => target.regionWrite(bar, offset, copy)) > 0;
    }
    this.posting = true;
    try {
      target.regionWrite(bar, offset, data);
      for (let done = 0; done < MOST_POSTED && this.posted.length > 0; done++) {
        this.posted.shift()!();
      }
    } finally {
      this.posted.length = 0;
      this.posting = false;
    }
    return true;
  }

  /**
   * A function's write beyond the IOMMU. In the doorbell's page only GITS_TRANSLATER does something, with 16 or
   * 32 bits (GICv3, 8.19.13); in the interrupt range every aligned write of 32 bits is a message.
   */
  write(source: HardwareFunction, hpa: number, data: Uint8Array): boolean {
    if (!this.inDoorbellPage(hpa)) {
      const bar = this.bars.find(hpa, data.length);
      return bar === null ? this.memory.write(hpa, data) : this.writeRegisters(this.functions.get(bar.fn)!, bar.bar, bar.offset, data);
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
    return this.isX86 ? hpa % 4 === 0 && length === 4 : hpa === this.msiDoorbell && (length === 4 || length === 2);
  }

  private inDoorbellPage(hpa: number): boolean {
    if (this.isX86) {
      return hpa >= INTERRUPT_RANGE_FIRST && hpa <= INTERRUPT_RANGE_LAST;
    }
    return Math.floor(hpa / DOORBELL_PAGE) === Math.floor(this.msiDoorbell / DOORBELL_PAGE);
  }
}
