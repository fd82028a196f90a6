/**
 * What a root port asks firmware to keep free below it for devices that are plugged later: QEMU's vendor capability
 * (docs/pcie_pci_bridge.txt and hw/pci/pci_bridge.c of QEMU, pci_bridge_qemu_reserve_cap_init).
 */
import { Refusal } from "../support/index.js";
import { addCapability, CAP_VENDOR } from "./capabilities.js";
import type { ConfigSpace } from "./config-space.js";

/** Bus numbers and bytes; null: nothing is asked. */
export interface ResourceReserve {
  readonly buses: number | null;
  readonly io: bigint | null;
  readonly memory: bigint | null;
  readonly prefetch32: bigint | null;
  readonly prefetch64: bigint | null;
}

const LENGTH = 32;
const RESOURCE_RESERVE = 1;
const FOUR_GIB = 2n ** 32n;
const NONE = 0xffff_ffff_ffff_ffffn;

/** Adds the capability at `offset`, where anything is asked. @throws Refusal in QEMU's words */
export function addResourceReserve(config: ConfigSpace, offset: number, reserve: ResourceReserve, label: string): void {
  const { buses, io, memory, prefetch32, prefetch64 } = reserve;
  if (prefetch32 !== null && prefetch64 !== null) {
    throw new Refusal("PCI resource reserve cap: PREF32 and PREF64 conflict", { found: `${label} with pref32-reserve=${prefetch32} and pref64-reserve=${prefetch64}`, wouldWork: "one of them" });
  }
  for (const [name, words, bytes] of [["mem-reserve", "mem-reserve", memory], ["pref32-reserve", "pref32-reserve ", prefetch32]] as const) {
    if (bytes !== null && bytes >= FOUR_GIB) {
      throw new Refusal(`PCI resource reserve cap: ${words} must be less than 4G`, { found: `${label} with ${name}=${bytes}`, wouldWork: name === "mem-reserve" ? "pref64-reserve for 64-bit prefetchable BARs" : "pref64-reserve" });
    }
  }
  if ([buses, io, memory, prefetch32, prefetch64].every((one) => one === null)) {
    return;
  }
  const at = addCapability(config, CAP_VENDOR, offset, LENGTH);
  const set64 = (where: number, value: bigint | null): void => {
    config.set32(where, Number((value ?? NONE) & 0xffff_ffffn));
    config.set32(where + 4, Number((value ?? NONE) >> 32n));
  };
  config.bytes[at + 2] = LENGTH;
  config.bytes[at + 3] = RESOURCE_RESERVE;
  config.set32(at + 4, buses ?? 0xffff_ffff);
  set64(at + 8, io);
  config.set32(at + 16, Number((memory ?? NONE) & 0xffff_ffffn));
  config.set32(at + 20, Number((prefetch32 ?? NONE) & 0xffff_ffffn));
  set64(at + 24, prefetch64);
}
