/** MSI-X and MSI of a function (PCIe 6.0, 7.7.1 and 7.7.2). */
import { check } from "../failure.js";
import { CAP_MSI, CAP_MSIX, COMMAND_INTX_DISABLE, type PciFunction } from "./function.js";

const MSIX_ENABLE = 0x8000;
const MSIX_FUNCTION_MASK = 0x4000;
const MSI_ENABLE = 1;
const MSI_64BIT = 0x80;

export interface MsiMessage {
  /** Address as the device emits it: an IOVA behind an SMMU that translates. */
  readonly address: bigint;
  readonly data: number;
}

/** How many messages a function can send: MSI-X table entries, or MSI's Multiple Message Capable; 0: none. */
export async function messageCount(fn: PciFunction): Promise<{ kind: "msix" | "msi" | "none"; count: number }> {
  const msix = fn.capabilities.get(CAP_MSIX);
  if (msix !== undefined) {
    return { kind: "msix", count: ((await fn.read16(msix + 2)) & 0x7ff) + 1 };
  }
  const msi = fn.capabilities.get(CAP_MSI);
  if (msi !== undefined) {
    return { kind: "msi", count: 1 << (((await fn.read16(msi + 2)) >> 1) & 7) };
  }
  return { kind: "none", count: 0 };
}

/**
 * Enables MSI-X with the given messages in entries 0 and up, in Linux's order: enabled with everything masked,
 * entries written, unmasked, function mask lifted.
 */
export async function enableMsix(fn: PciFunction, messages: readonly MsiMessage[]): Promise<void> {
  const cap = fn.capabilities.get(CAP_MSIX);
  check(cap !== undefined, `${fn.name} has no MSI-X`);
  const control = await fn.read16(cap + 2);
  check(messages.length <= (control & 0x7ff) + 1, `${fn.name} has ${(control & 0x7ff) + 1} MSI-X vectors, not ${messages.length}`);
  const table = await fn.read32(cap + 4);
  const bar = fn.barAddress(table & 7);
  check(bar !== null, `the MSI-X table of ${fn.name} is in BAR ${table & 7}, which has no address`);
  const base = bar + (table & ~7);
  const enabled = (control & ~(MSIX_ENABLE | MSIX_FUNCTION_MASK)) | MSIX_ENABLE;
  await fn.write16(cap + 2, enabled | MSIX_FUNCTION_MASK);
  for (const [i, message] of messages.entries()) {
    const entry = base + i * 16;
    await fn.port.write(entry + 12, 4, 1n);
    await fn.port.write(entry, 4, message.address & 0xffff_ffffn);
    await fn.port.write(entry + 4, 4, message.address >> 32n);
    await fn.port.write(entry + 8, 4, BigInt(message.data >>> 0));
    await fn.port.write(entry + 12, 4, 0n);
  }
  await fn.setCommand(COMMAND_INTX_DISABLE);
  await fn.write16(cap + 2, enabled);
}

/** Enables MSI with one message. */
export async function enableMsi(fn: PciFunction, message: MsiMessage): Promise<void> {
  const cap = fn.capabilities.get(CAP_MSI);
  check(cap !== undefined, `${fn.name} has no MSI`);
  const control = (await fn.read16(cap + 2)) & ~(0x70 | MSI_ENABLE);
  await fn.write32(cap + 4, Number(message.address & 0xffff_ffffn));
  if ((control & MSI_64BIT) !== 0) {
    await fn.write32(cap + 8, Number(message.address >> 32n));
    await fn.write16(cap + 12, message.data);
  } else {
    check(message.address >> 32n === 0n, `MSI of ${fn.name} reaches 32 bits, the doorbell is at 0x${message.address.toString(16)}`);
    await fn.write16(cap + 8, message.data);
  }
  await fn.setCommand(COMMAND_INTX_DISABLE);
  await fn.write16(cap + 2, control | MSI_ENABLE);
}

/** Turns MSI-X and MSI off. */
export async function disableMessages(fn: PciFunction): Promise<void> {
  const msix = fn.capabilities.get(CAP_MSIX);
  if (msix !== undefined) {
    await fn.write16(msix + 2, (await fn.read16(msix + 2)) & ~MSIX_ENABLE);
  }
  const msi = fn.capabilities.get(CAP_MSI);
  if (msi !== undefined) {
    await fn.write16(msi + 2, (await fn.read16(msi + 2)) & ~MSI_ENABLE);
  }
}
