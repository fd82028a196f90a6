/**
 * virtio-net-pci, virtio-blk-pci and e1000e as plain functions that do DMA: ids, classes, BARs, MSI-X and
 * capabilities are QEMU 11.1's; the registers of the model itself read as zero, and no capability names them,
 * so that a driver of that model sees at once that it is not its device. A DMA engine in a
 * BAR that the model leaves free does the work.
 */
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import {
  addAts,
  addErrorReporting,
  addExpressCapability,
  addPowerManagement,
  addSerialNumber,
  ExpressType,
  FunctionLevelReset,
  type ExpressOptions,
  MsiCapability,
  MsixCapability,
  type MsixOptions,
  type PciIdentity,
  removeCapability,
  CAP_EXPRESS,
} from "../pci/index.js";
import { ENGINE_BYTES } from "../dma-engine/index.js";
import { EndpointDmaEngine } from "./dma-engine.js";
import { EmulatedEndpoint, type EndpointOptions } from "./endpoint.js";

interface ModelBar {
  readonly index: number;
  readonly size: number;
  readonly is64?: boolean;
  readonly prefetchable?: boolean;
}

export interface ModelFacts {
  readonly identity: PciIdentity;
  readonly bars: readonly ModelBar[];
  readonly msix: MsixOptions;
  readonly express: Omit<ExpressOptions, "type">;
  /** Capabilities from the end of the list to its head. */
  readonly capabilities: ReadonlyArray<"engine" | "express" | "msix" | ((fn: EngineEndpoint) => void)>;
  /** Offset of the vendor capability, and the free BAR. */
  readonly engineCapability: number;
  readonly engineBar: number;
}

/** An endpoint with the DMA engine; made by the models below. */
export abstract class EngineEndpoint extends EmulatedEndpoint {
  readonly engine = new EndpointDmaEngine(this);
  declare protected msix: MsixCapability;
  private expressOffset = 0;

  constructor(model: string, options: EndpointOptions, facts: ModelFacts) {
    super(model, options, facts.identity, 4096);
    this.config.bytes[0x3d] = 1;
    for (const part of facts.capabilities) {
      if (part === "engine") {
        this.addEngineCapability(facts.engineCapability, facts.engineBar, 0);
      } else if (part === "express") {
        this.expressOffset = addExpressCapability(this.config, { ...facts.express, type: ExpressType.Endpoint });
        if (facts.express.functionLevelReset === true) {
          new FunctionLevelReset(this, this.expressOffset);
        }
      } else if (part === "msix") {
        this.msix = new MsixCapability(this, facts.msix);
      } else {
        part(this);
      }
    }
    for (const { index, size, is64 = false, prefetchable = false } of facts.bars) {
      const region = MemoryRegion.mmio(`${model}.bar${index}`, size, this.barHandler(index, facts.msix));
      this.addBar({ index, size, is64, prefetchable, region });
    }
    const region = MemoryRegion.mmio(`${model}.engine`, ENGINE_BYTES, this.engine);
    this.addBar({ index: facts.engineBar, size: ENGINE_BYTES, is64: false, prefetchable: false, region });
  }

  /** A capability with one 64-bit message. */
  addMsi(offset: number): void {
    this.msi = new MsiCapability(this, { offset, vectors: 1 });
  }

  override realize(): void {
    // On the root complex's own bus it is an integrated endpoint (PCIe 7.5.3.2); on conventional PCI it has no such capability.
    if (!this.bus!.isExpress) {
      removeCapability(this.config, CAP_EXPRESS);
    } else if (this.bus!.isRoot) {
      const flags = this.config.get16(this.expressOffset + 2);
      this.config.set16(this.expressOffset + 2, (flags & ~0xf0) | (ExpressType.IntegratedEndpoint << 4));
    }
  }

  override reset(): void {
    super.reset();
    this.engine.reset();
  }

  /** The registers of the model in a BAR; null: they read as zero. */
  protected registersOf(_bar: number): MmioHandler | null {
    return null;
  }

  /** The model's registers, if it has any, with the MSI-X table and pending bits. */
  private barHandler(index: number, options: MsixOptions): MmioHandler {
    const part = (offset: number): { handler: MmioHandler; at: number } | null => {
      if (index === options.tableBar && offset >= options.tableOffset && offset < options.tableOffset + this.msix.tableBytes) {
        return { handler: this.msix.table, at: offset - options.tableOffset };
      }
      if (index === options.pbaBar && offset >= options.pbaOffset && offset < options.pbaOffset + this.msix.pbaBytes) {
        return { handler: this.msix.pba, at: offset - options.pbaOffset };
      }
      return null;
    };
    return {
      read: (offset, size, attributes) => {
        const found = part(offset);
        return found === null ? (this.registersOf(index)?.read(offset, size, attributes) ?? 0n) : found.handler.read(found.at, size);
      },
      write: (offset, size, value, attributes) => {
        const found = part(offset);
        if (found === null) {
          this.registersOf(index)?.write(offset, size, value, attributes);
        } else {
          found.handler.write(found.at, size, value);
        }
      },
    };
  }
}

export interface VirtioOptions extends EndpointOptions {
  /** The function has an ATS capability. */
  readonly ats?: boolean;
  /** MSI-X vectors; default the model's. */
  readonly vectors?: number;
}

/** The modern device: QEMU makes it so below a port; on a root bus and on conventional PCI it makes a transitional one with I/O ports. */
abstract class VirtioPci extends EngineEndpoint {
  constructor(model: string, options: VirtioOptions, identity: PciIdentity, vectors: number) {
    super(model, options, {
      identity: { ...identity, revision: 1, subsystemVendorId: 0x1af4, subsystemId: 0x1100 },
      bars: [
        { index: 1, size: 0x1000 },
        { index: 4, size: 0x4000, is64: true, prefetchable: true },
      ],
      msix: { offset: 0xdc, vectors: options.vectors ?? vectors, tableBar: 1, tableOffset: 0, pbaBar: 1, pbaOffset: 0x800 },
      express: { offset: 0x40, functionLevelReset: true, reportsErrors: false, linkControl: true },
      capabilities: ["engine", "express", (fn) => addPowerManagement(fn.config, 0x7c, 0x0003), "msix"],
      engineCapability: 0xc0,
      engineBar: 2,
    });
    if (options.ats === true) {
      addAts(this.config, 0x100);
    }
  }
}

export class VirtioNetPci extends VirtioPci {
  constructor(options: VirtioOptions = {}) {
    super("virtio-net-pci", options, { vendorId: 0x1af4, deviceId: 0x1041, classCode: 0x020000 }, 4);
  }
}

export class VirtioBlkPci extends VirtioPci {
  constructor(options: VirtioOptions = {}) {
    super("virtio-blk-pci", options, { vendorId: 0x1af4, deviceId: 0x1042, classCode: 0x010000 }, 2);
  }
}

export interface E1000eOptions extends EndpointOptions {
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
}

export class E1000e extends EngineEndpoint {
  constructor(options: E1000eOptions = {}) {
    super("e1000e", options, {
      identity: {
        vendorId: 0x8086,
        deviceId: 0x10d3,
        classCode: 0x020000,
        subsystemVendorId: options.subsystemVendorId ?? 0x8086,
        subsystemId: options.subsystemId ?? 0,
      },
      bars: [
        { index: 0, size: 0x2_0000 },
        { index: 1, size: 0x2_0000 },
        { index: 3, size: 0x4000 },
      ],
      msix: { offset: 0xa0, vectors: 5, tableBar: 3, tableOffset: 0, pbaBar: 3, pbaOffset: 0x2000 },
      express: { offset: 0xe0, version: 1, reportsErrors: false },
      capabilities: [
        "engine",
        "msix",
        "express",
        (fn) => fn.addMsi(0xd0),
        (fn) => {
          const power = addPowerManagement(fn.config, 0xc8, 0x0022);
          fn.config.allow(power + 4, 2, 0x1f00);
        },
      ],
      engineCapability: 0xb0,
      engineBar: 4,
    });
    this.addIoBarRegister(2, 32);
    addErrorReporting(this.config, 0x100, "endpoint");
    addSerialNumber(this.config, 0x140, 0xff12_3456, 0x5254_00ff);
  }
}
