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
/** IQA's queue size. */
const QUEUE_SIZE = 7n;

export const vtdRegisterRules: ReadonlyArray<Rule<VtdMachine>> = [
  { id: "V-1", versions: isOld, explains: (difference) => changed(difference, REG.CAP) === ESRTPS },
  {
    // Nothing is enabled, so the queue in use is at 0.
    id: "V-2",
    versions: isOld,
    explains: (difference) => {
      const bits = changed(difference, REG.IQA);
      return bits !== null && (bits & QUEUE_SIZE) === 0n && (BigInt(difference.theirs) & ~QUEUE_SIZE) === 0n;
    },
  },
];
