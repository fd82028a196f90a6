/**
 * QEMU's nvme by its ids, BARs and capabilities (11.1), with the controller of the nvme room behind its registers,
 * and the DMA engine of the other endpoints in a BAR that it leaves free.
 */
import type { Disk } from "../block/index.js";
import type { MmioHandler } from "../memory/index.js";
import { Namespace, NvmeController, type NvmeHost, type NvmeOptions } from "../nvme/index.js";
import { addPowerManagement } from "../pci/index.js";
import { toBigInt } from "../support/index.js";
import type { EndpointOptions } from "./endpoint.js";
import { EngineEndpoint } from "./endpoint-models.js";

const VENDOR = 0x1b36;
const SUBSYSTEM_VENDOR = 0x1af4;
const PAGE = 0x1000;

/** A disk that is the device's until it is released. */
export interface NvmeDrive {
  readonly disk: Disk;
  release(): void;
}

export interface NvmeEndpointOptions extends EndpointOptions, Partial<Omit<NvmeOptions, "vendorId" | "subsystemVendorId">> {
  /** MSI-X vectors; default 65. */
  readonly vectors?: number;
  /** Bytes of a logical block; default 512. */
  readonly blockBytes?: number;
  /** Takes the disk of namespace 1, when the device gets its place. Throws Refusal. Not there: no namespace. */
  readonly openDrive?: () => NvmeDrive;
}

/** Where the MSI-X table and pending bits lie in BAR 0: each in pages of its own, behind the doorbells; and the BAR's size. */
function layout(queuePairs: number, vectors: number): { table: number; pba: number; size: number } {
  const page = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;
  const table = page(PAGE + 8 * (queuePairs + 1));
  const pba = table + page(16 * vectors);
  return { table, pba, size: 2 ** Math.ceil(Math.log2(pba + Math.ceil(vectors / 64) * 8)) };
}

export class Nvme extends EngineEndpoint implements NvmeHost {
  private controller: NvmeController | null = null;
  private drive: NvmeDrive | null = null;

  constructor(private readonly given: NvmeEndpointOptions = {}) {
    const vectors = given.vectors ?? 65;
    const { table, pba, size } = layout(given.queuePairs ?? 64, vectors);
    super("nvme", given, {
      identity: { vendorId: VENDOR, deviceId: 0x0010, classCode: 0x010802, revision: 2, subsystemVendorId: SUBSYSTEM_VENDOR, subsystemId: 0x1100 },
      bars: [{ index: 0, size, is64: true }],
      msix: { offset: 0x40, vectors, tableBar: 0, tableOffset: table, pbaBar: 0, pbaOffset: pba },
      express: { offset: 0x80, functionLevelReset: true },
      capabilities: [
        "engine",
        (fn) => {
          const power = addPowerManagement(fn.config, 0x60, 0x0003);
          // No soft reset on leaving D3hot.
          fn.config.set16(power + 4, 0x0008);
        },
        "express",
        "msix",
      ],
      engineCapability: 0x50,
      engineBar: 2,
    });
  }

  override realize(): void {
    super.realize();
    const { given } = this;
    const serial = given.serial ?? "";
    this.drive = given.openDrive?.() ?? null;
    const namespaces = new Map<number, Namespace>();
    if (this.drive !== null) {
      namespaces.set(1, new Namespace({ disk: this.drive.disk, blockBytes: given.blockBytes ?? 512, seed: `${serial} 1` }));
    }
    this.controller = new NvmeController(
      this,
      {
        vendorId: VENDOR,
        subsystemVendorId: SUBSYSTEM_VENDOR,
        serial,
        modelNumber: given.modelNumber ?? "QEMU NVMe Ctrl",
        firmware: given.firmware ?? "11.1.0",
        queuePairs: given.queuePairs ?? 64,
        mdts: given.mdts ?? 7,
        mqes: given.mqes ?? 2047,
        aerl: given.aerl ?? 3,
        writeCache: given.writeCache ?? true,
        criticalWarning: given.criticalWarning,
      },
      namespaces,
    );
  }

  override unrealize(): void {
    this.controller?.reset();
    this.controller = null;
    this.drive?.release();
    this.drive = null;
    super.unrealize();
  }

  override reset(): void {
    super.reset();
    this.controller?.reset();
  }

  override configWrite(offset: number, size: number, value: number): void {
    super.configWrite(offset, size, value);
    if (this.msix.enabled) {
      this.lowerInterrupt();
    } else {
      this.controller?.interruptsChanged();
    }
  }

  /** Requests of the controller go as the guest's memory is now; what a device's DMA writes does nothing, so that a command is not to give commands. */
  private readonly controllerRegisters: MmioHandler = {
    read: (offset, size) => {
      const { controller } = this;
      if (controller === null || offset >= controller.registerBytes) {
        return 0n;
      }
      if (size === 8) {
        return toBigInt(controller.read(offset + 4), controller.read(offset));
      }
      const word = controller.read(offset & ~3) >>> (8 * (offset & 3));
      return BigInt((size === 4 ? word : word & (2 ** (8 * size) - 1)) >>> 0);
    },
    write: (offset, size, value, attributes) => {
      if (attributes !== undefined || size < 4) {
        return;
      }
      for (let at = 0; at < size; at += 4) {
        this.controller?.write(offset + at, Number((value >> BigInt(8 * at)) & 0xffff_ffffn) | 0);
      }
    },
  };

  protected override registersOf(bar: number): MmioHandler | null {
    return bar === 0 ? this.controllerRegisters : null;
  }

  readMemory(high: number, low: number, out: Uint8Array): boolean {
    return this.dmaRead(toBigInt(high, low), out) === 0;
  }

  writeMemory(high: number, low: number, data: Uint8Array): boolean {
    return this.dmaWrite(toBigInt(high, low), data) === 0;
  }

  vectors(): number {
    return this.msix.enabled ? this.msix.vectors : 1;
  }

  unmasked(): boolean {
    return this.msix.enabled;
  }

  raise(vector: number): void {
    this.msix.raise(vector);
  }

  setPin(level: boolean): void {
    this.setIntx(level);
  }
}
