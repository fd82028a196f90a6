/** QEMU's q35 board behind a qtest socket, as a guest's machine; this side plays the firmware. */
import type { FirmwareTables, Interrupt, MachinePort, MemoryMapEntry, PciWindow } from "../port/index.js";
import { type QtestClient, QtestPort } from "../qtest/index.js";
import { Refusal } from "../support/index.js";
import { loadAcpiTables } from "./acpi-loader.js";
import { FW_CFG_PC, FwCfg } from "./fw-cfg.js";
import { renameMadtEntries } from "./madt.js";

/** ACPI tables go into the part of RAM that a kernel image would take. */
const ACPI_AT = 0x20_0000;
/** edu's transfers begin 100 ms after their command. */
const STEP_NS = 200_000_000n;
/** PCIEXBAR of the host bridge 00:00.0 (Intel 82Q35 datasheet, 5.1.16), and where SeaBIOS puts ECAM. */
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const PCIEXBAR = 0x8000_0060;
const ECAM_BASE = 0xb000_0000;
const ECAM_BYTES = 0x1000_0000;
const ECAM_ENABLE = 1;
const HOST_BRIDGE = 0x29c0_8086;
/** The window below 4 GiB ends where the IOAPIC begins. */
const WINDOW_END = 0xfec0_0000;
const FOUR_GIB = 0x1_0000_0000;
const HIGH_WINDOW_BYTES = 32 * 2 ** 30;
const E820_ENTRY_BYTES = 20;
/** MADT's structures of local APICs and x2APICs. */
const MADT_APIC = 0;
const MADT_X2APIC = 9;

export interface Q35Options {
  /** The monitor's text about the first CPU's local APIC (`info lapic`); null: no monitor, and messages are not seen. */
  readonly apicState: (() => Promise<string>) | null;
  /** Has the listener called after each reset of the machine. */
  onReset(listener: () => void): void;
}

/**
 * Opens the machine. No CPU takes its interrupts, so vectors stay pending in the local APIC: each is told once
 * after a reset. Without a monitor the APICs are hidden from the guest, which would wait for them in vain.
 * @throws Refusal where no q35 board is there
 */
export async function openQ35(client: QtestClient, options: Q35Options): Promise<QtestPort> {
  const apic = options.apicState === null ? null : new PendingVectors(options.apicState);
  let made: FirmwareTables | null = null;
  options.onReset(() => {
    made = null;
    apic?.reset();
  });
  const port = await QtestPort.open(client, {
    interruptController: null,
    step: STEP_NS,
    vectorsOnce: true,
    moreInterrupts: () => apic?.take() ?? Promise.resolve([]),
    // QEMU makes its tables once after a reset, and this side places them once.
    firmware: async (machine) => (made ??= await playFirmware(machine, apic !== null)),
  });
  await client.writePort(CONFIG_ADDRESS, 4, 0x8000_0000);
  const bridge = await client.readPort(CONFIG_DATA, 4);
  if (bridge !== HOST_BRIDGE) {
    throw new Refusal("no q35 board", { found: `the host bridge 0x${bridge.toString(16)} at 00:00.0`, wouldWork: "QEMU's -machine q35" });
  }
  return port;
}

/** What a firmware does before an operating system starts: ECAM on, the memory map and the ACPI tables. */
async function playFirmware(port: MachinePort, apics: boolean): Promise<FirmwareTables> {
  await port.writePort?.(CONFIG_ADDRESS, 4, PCIEXBAR + 4);
  await port.writePort?.(CONFIG_DATA, 4, 0);
  await port.writePort?.(CONFIG_ADDRESS, 4, PCIEXBAR);
  await port.writePort?.(CONFIG_DATA, 4, ECAM_BASE + ECAM_ENABLE);
  const cfg = new FwCfg(port, FW_CFG_PC, ACPI_AT);
  const file = (await cfg.files()).get("etc/e820");
  if (file === undefined) {
    throw new Refusal("fw_cfg has no file etc/e820, the memory map");
  }
  const memoryMap = parseE820(await cfg.read(file));
  const acpiRoot = await loadAcpiTables(port, cfg, ACPI_AT, (tables) => renameMadtEntries(tables, apics ? [] : [MADT_APIC, MADT_X2APIC]));
  return { deviceTree: null, acpiRoot, memoryMap, pciWindows: windowsBeside(memoryMap) };
}

/** Entries of base, bytes and type; types other than RAM are not the guest's. */
function parseE820(bytes: Buffer): MemoryMapEntry[] {
  return Array.from({ length: Math.floor(bytes.length / E820_ENTRY_BYTES) }, (_, i) => {
    const at = i * E820_ENTRY_BYTES;
    const type = bytes.readUInt32LE(at + 16);
    return { base: Number(bytes.readBigUInt64LE(at)), size: Number(bytes.readBigUInt64LE(at + 8)), type: type === 1 || type === 3 ? type : 2 };
  });
}

/** Behind RAM and ECAM below 4 GiB, and behind all RAM above. */
function windowsBeside(map: readonly MemoryMapEntry[]): PciWindow[] {
  const ends = map.filter((range) => range.type === 1).map((range) => range.base + range.size);
  const low = Math.max(ECAM_BASE + ECAM_BYTES, ...ends.filter((end) => end <= FOUR_GIB));
  const high = Math.ceil(Math.max(FOUR_GIB, ...ends) / HIGH_WINDOW_BYTES) * HIGH_WINDOW_BYTES;
  return [
    { base: low, size: WINDOW_END - low },
    { base: high, size: HIGH_WINDOW_BYTES },
  ];
}

/** Vectors of the local APIC's IRR that were not told yet. */
class PendingVectors {
  private readonly told = new Set<number>();

  constructor(private readonly state: () => Promise<string>) {}

  reset(): void {
    this.told.clear();
  }

  async take(): Promise<Interrupt[]> {
    const [, list] = /^IRR\s+(.*)$/m.exec(await this.state()) ?? [];
    const vectors = (list?.match(/\d+/g) ?? []).map(Number).filter((vector) => !this.told.has(vector));
    return vectors.map((vector) => {
      this.told.add(vector);
      return { kind: "vector", vector, destination: 0, logical: false };
    });
  }
}
