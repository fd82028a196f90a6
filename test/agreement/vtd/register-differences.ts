/** Where QEMU's VT-d registers differ. Ids: docs/differences.md. */
import { REG } from "../../../src/vtd/spec/index.js";
import type { Difference, Rule } from "../agreement.js";
import type { QemuVersion } from "../driver.js";
import { atLeast } from "../find-qemu.js";
import type { VtdMachine } from "./machines.js";

/** Rows of QEMU 7.2, which 11.1 does not have. */
export const isOld = (version: QemuVersion): boolean => !atLeast(version, 11, 0);

/** The register's offset, and what differs as bits of the 64-bit register. */
function changed({ key, ours, theirs }: Difference, register: number): bigint | null {
  const [, digits] = /^0x([0-9a-f]+)\//.exec(key) ?? [];
  const offset = parseInt(digits, 16);
  return offset === register || offset === register + 4 ? (BigInt(ours) ^ BigInt(theirs)) << BigInt(8 * (offset - register)) : null;
}

const ESRTPS = 1n << 63n;
/** IQA's queue size, and width of descriptors. */
const [QUEUE_SIZE, WIDE] = [7n, 0x800n];

export const vtdRegisterRules: ReadonlyArray<Rule<VtdMachine>> = [
  { id: "V-1", versions: isOld, explains: (difference) => changed(difference, REG.CAP) === ESRTPS },
  {
    // Nothing is enabled, so the queue in use is at 0.
    id: "V-2",
    explains: (difference) => explainsQueue(difference, QUEUE_SIZE | WIDE),
  },
  { id: "V-3", versions: isOld, explains: (difference) => explainsQueue(difference, QUEUE_SIZE) },
  {
    // Upper halves of the messages' addresses.
    id: "V-4",
    explains: (difference, machine) =>
      machine.name.includes("eim=on") && [REG.FEUADDR, REG.IEUADDR].some((offset) => difference.key.startsWith(`0x${offset.toString(16)}/`)) && BigInt(difference.theirs) === 0n,
  },
];

/** IQA with an address of 0: `kept` of it shows. */
function explainsQueue(difference: Difference, kept: bigint): boolean {
  const bits = changed(difference, REG.IQA);
  return bits !== null && (bits & kept) === 0n && (BigInt(difference.theirs) & ~kept) === 0n;
}
