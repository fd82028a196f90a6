import type { DsdtDescription } from "./dsdt.js";
import type { AcpiHardware } from "./fadt.js";
import type { HostBridgeDescription } from "./host-bridge.js";
import type { NumaDescription, NumaMemory } from "./numa.js";

/** What the tables of a PC say of it. All addresses are guest-physical, in bytes. */
export interface X86Description {
  readonly cpus: number;
  /** Of the processors that may come, with those that are there. */
  readonly apicIds: readonly number[];
  readonly ioapicBase: number;
  readonly localApicBase: number;
  /** Configuration space; null: firmware has not mapped it. */
  readonly ecam: { readonly base: number; readonly size: number } | null;
  /** Null: the machine has none. */
  readonly remapping: RemappingDescription | null;
  /** Ports and interrupt of the ACPI hardware. */
  readonly hardware: AcpiHardware;
  readonly bridges: readonly HostBridgeDescription[];
  readonly serialPorts: DsdtDescription["serialPorts"];
  /** Nodes of processors, in the order of their APIC ids, and of RAM; null: the machine has none. */
  readonly numa: (NumaDescription & { readonly cpus: readonly number[]; readonly memory: readonly NumaMemory[] }) | null;
  readonly pvpanic: DsdtDescription["pvpanic"];
}

export interface RemappingDescription {
  readonly base: number;
  /** Bits of a DMA address. */
  readonly addressBits: number;
  readonly interruptRemapping: boolean;
  /** Requester id that the IOAPIC's interrupts have. */
  readonly ioapicRequesterId: number;
  /** Functions on root buses, in the order in which they are told. */
  readonly functions: readonly ScopeDescription[];
  /** Address translation services are offered. */
  readonly ats: boolean;
  /** Root-complex integrated endpoints with ATS that a SATC structure tells of. */
  readonly satc: readonly ScopeDescription[];
  /** NUMA node of the hardware; null: not told. */
  readonly numaNode: number | null;
}

export interface ScopeDescription {
  readonly bus: number;
  readonly devfn: number;
  /** A bridge: what is behind it is meant, too. */
  readonly isBridge: boolean;
}
