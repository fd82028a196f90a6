/** Bus numbers of expander buses: a range for each, apart from the others, with room for all that may be below it. */
import { Refusal } from "../support/index.js";

export const BUS_COUNT = 256;
/** Numbers that pcie.0 keeps at the least, for ports that a user adds. */
const LEAST_OF_PCIE0 = 16;
const UNITS = [32, 16, 8, 4, 2, 1];

export interface BusRange {
  readonly first: number;
  readonly last: number;
}

/**
 * A range for each expander in order, from the top of the numbers down: its own number, and one for each port. Ranges
 * begin at multiples of the largest power of two, 32 at the most, at which all fit.
 * @param ports of each expander
 * @throws Refusal where there are not enough numbers
 */
export function allotBuses(ports: readonly number[]): BusRange[] {
  const needs = ports.map((count) => 1 + count);
  const rounded = (unit: number): number[] => needs.map((need) => Math.ceil(need / unit) * unit);
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
  const unit = UNITS.find((one) => sum(rounded(one)) + LEAST_OF_PCIE0 <= BUS_COUNT);
  if (unit === undefined) {
    throw new Refusal("too many PCI Express ports for 256 bus numbers", {
      found: `${needs.length} expander buses and ${sum(ports)} ports want ${sum(needs)} numbers, pcie.0 ${LEAST_OF_PCIE0}`,
      wouldWork: "fewer functions, or a smaller --spare",
    });
  }
  let next = BUS_COUNT - sum(rounded(unit));
  return rounded(unit).map((size) => {
    const first = next;
    next += size;
    return { first, last: first + size - 1 };
  });
}
