/**
 * pc-dimm: memory that is plugged into the machine above its RAM and taken out again, by QEMU's rules for addresses
 * and slots (hw/mem/memory-device.c, hw/mem/pc-dimm.c; words of QEMU 11.1).
 */
import { type Host, HostError } from "../iommufd/index.js";
import { MemoryRegion, type RamBlock, type RamWordMemory } from "../memory/index.js";
import { hex, Refusal } from "../support/index.js";
import { type DeviceArgument, type MemoryArguments, numberProperty, textProperty } from "./arguments/index.js";
import type { MachineObjects } from "./machine-objects.js";
import { allocateBlock, type Range } from "./ram-layout.js";

/** Bytes that addresses and sizes are multiples of: what QEMU aligns a host's memory to on Linux (QEMU_VMALLOC_ALIGN). */
const ALIGNMENT = 0x20_0000;

export interface Dimm {
  /** Empty: none was given. */
  readonly id: string;
  readonly argument: DeviceArgument;
  /** Id of its memory backend. */
  readonly memdev: string;
  readonly block: RamBlock;
  readonly region: MemoryRegion;
  /** Guest-physical address. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
  readonly slot: number;
  readonly node: number;
  readonly hotplugged: boolean;
}

export interface MemoryDevicesOptions {
  readonly host: Host;
  /** System memory. */
  readonly root: MemoryRegion;
  readonly words: RamWordMemory;
  readonly objects: MachineObjects;
  readonly memory: MemoryArguments;
  /** Bytes of the machine's RAM. */
  readonly ramSize: number;
  /** Where they go; null: -m has no maxmem above its size. */
  readonly place: Range | null;
  /** NUMA nodes of the machine. */
  readonly numaNodes: number;
}

export class MemoryDevices {
  /** In the order in which they were plugged. */
  readonly list: Dimm[] = [];
  private readonly container: MemoryRegion | null = null;

  constructor(private readonly options: MemoryDevicesOptions) {
    const { place, root } = options;
    if (place !== null) {
      this.container = MemoryRegion.container("device-memory", place.size);
      root.add(place.base, this.container);
    }
  }

  /** Bytes of all that are plugged. */
  get size(): number {
    return this.list.reduce((sum, dimm) => sum + dimm.size, 0);
  }

  /** The lowest address first. */
  inOrder(): Dimm[] {
    return [...this.list].sort((a, b) => a.address - b.address);
  }

  /** Makes a pc-dimm and maps it: for the CPU and for DMA of passed-through functions. @throws Refusal or HostError, with nothing left of it */
  plug(argument: DeviceArgument, hotplugged: boolean): Dimm {
    const { host, objects, words, numaNodes } = this.options;
    const memdev = textProperty(argument, "memdev");
    const size = memdev === "" ? 0 : objects.unusedBackend(memdev).size;
    const slot = this.chooseSlot(numberProperty(argument, "slot"));
    if (memdev === "") {
      throw new Refusal("'memdev' property must be set", { wouldWork: "-object memory-backend-ram,id=m1,size=1G -device pc-dimm,memdev=m1" });
    }
    const { container, place, address } = this.chooseAddress(numberProperty(argument, "addr"), size);
    const node = numberProperty(argument, "node");
    if (node >= Math.max(1, numaNodes)) {
      throw new Refusal(`'DIMM property node has value ${node}' which exceeds the number of numa nodes: ${Math.max(1, numaNodes)}`, { wouldWork: "node=0, or -numa node for more" });
    }
    const block = allocateBlock(host, memdev, size);
    const region = MemoryRegion.ram(memdev, block);
    try {
      container.addWhole(address - place.base, region);
    } catch (error) {
      host.freeMemory(block);
      if (error instanceof HostError) {
        throw new Refusal(`vfio: ${error.message}`, { found: `pc-dimm of ${size} bytes at ${hex(address)}`, wouldWork: "a host that maps it" });
      }
      throw error;
    }
    words.place(address, block, 0, size, true, true);
    objects.use(memdev, true);
    const dimm: Dimm = { id: argument.id, argument, memdev, block, region, address, size, slot, node, hotplugged };
    this.list.push(dimm);
    return dimm;
  }

  /** Takes a DIMM out: from the stage-2 tables first. Its backend is free again. */
  unplug(dimm: Dimm): void {
    const { host, objects, words } = this.options;
    this.container!.remove(dimm.region);
    words.remove(dimm.address);
    this.list.splice(this.list.indexOf(dimm), 1);
    objects.use(dimm.memdev, false);
    host.freeMemory(dimm.block);
  }

  /** Gives the memory of all back, when the machine's address spaces are closed. */
  dispose(): void {
    [...this.list].reverse().forEach((dimm) => this.unplug(dimm));
  }

  private chooseSlot(wanted: number): number {
    const { slots } = this.options.memory;
    const taken = new Set(this.list.map(({ slot }) => slot));
    if (slots === 0) {
      throw new Refusal("no slots where allocated, please specify the 'slots' option", { found: "-m without slots", wouldWork: "-m SIZE,slots=N,maxmem=SIZE" });
    }
    if (wanted < -1 || wanted >= slots) {
      throw new Refusal(`invalid slot number ${wanted}, valid range is [0-${slots - 1}]`, { wouldWork: "slot=-1: the first free one" });
    }
    if (wanted >= 0) {
      if (taken.has(wanted)) {
        throw new Refusal(`slot ${wanted} is busy`, { wouldWork: "slot=-1: the first free one" });
      }
      return wanted;
    }
    for (let slot = 0; slot < slots; slot++) {
      if (!taken.has(slot)) {
        return slot;
      }
    }
    throw new Refusal("no free slots available", { found: `-m with slots=${slots}`, wouldWork: "more slots" });
  }

  /** @param wanted 0: the first free place */
  private chooseAddress(wanted: number, size: number): { container: MemoryRegion; place: Range; address: number } {
    const { place, memory, ramSize } = this.options;
    const { container } = this;
    if (place === null || container === null) {
      throw new Refusal("the configuration is not prepared for memory devices (e.g., for memory hotplug), consider specifying the maxmem option", { wouldWork: "-m SIZE,slots=N,maxmem=SIZE" });
    }
    const total = memory.maxSize - ramSize;
    if (this.size + size > total) {
      throw new Refusal(`not enough space, currently ${hexOf(this.size)} in use of total space for memory devices ${hexOf(total)}`, { found: `a backend of ${size} bytes`, wouldWork: "a larger maxmem" });
    }
    if (wanted % ALIGNMENT !== 0) {
      throw new Refusal(`address must be aligned to ${hexOf(ALIGNMENT)} bytes`, { found: `addr=${hex(wanted)}`, wouldWork: "addr=0: the first free place" });
    }
    if (size % ALIGNMENT !== 0) {
      throw new Refusal(`backend memory size must be multiple of ${hexOf(ALIGNMENT)}`, { found: `${size} bytes` });
    }
    const end = place.base + place.size;
    if (wanted !== 0 && (wanted < place.base || wanted + size > end)) {
      throw new Refusal(`can't add memory device [${hexOf(wanted)}:${hexOf(size)}], usable range for memory devices [${hexOf(place.base)}:${hexOf(place.size)}]`, { wouldWork: "addr=0: the first free place" });
    }
    let address = wanted === 0 ? place.base : wanted;
    for (const dimm of this.inOrder()) {
      if (dimm.address < address + size && address < dimm.address + dimm.size) {
        if (wanted !== 0) {
          throw new Refusal(`address range conflicts with memory device id='${dimm.id === "" ? "(unnamed)" : dimm.id}'`, { found: `${hex(dimm.address)}, ${dimm.size} bytes`, wouldWork: "addr=0: the first free place" });
        }
        address = dimm.address + dimm.size;
      }
    }
    if (address + size > end) {
      throw new Refusal("could not find position in guest address space for memory device - memory fragmented due to alignments", { found: `${size} bytes in ${hexOf(place.size)}`, wouldWork: "unplugging what is in between" });
    }
    return { container, place, address };
  }
}

function hexOf(value: number): string {
  return `0x${value.toString(16)}`;
}
