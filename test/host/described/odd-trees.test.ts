/** Trees with anything in their files: told of as far as they make sense, and never with a fault. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { describeSnapshot } from "../../../src/host/described/index.js";
import { examine, formatProblems } from "../../../src/host/doctor/index.js";
import { formatHost, hostFileText, resourceSlices } from "../../../src/host/formats/index.js";
import { loadHostDescription } from "../../../src/host/simulated/index.js";
import { Refusal } from "../../../src/support/index.js";
import { Snapshot } from "../../../src/host/sysfs/index.js";
import { CAPTURES, captures } from "../captures/index.js";

const RUNS = process.env.VIOMMU_FUZZ === "nightly" ? 3000 : 40;

const all = Object.fromEntries(CAPTURES.map((name) => [name, [...captures[name]().entries()].filter(({ path }) => !/\/memory\d+$/.test(path))]));

/** What a file may hold instead of what it should. */
const content = fc.oneof(
  fc.constantFrom("", "0", "-1", "0x", "0xffffffffffffffff", "18446744073709551616", "nan", "1e308", "(null)", "\0", "../../x", "{}", "[]", "null"),
  fc.string({ maxLength: 40 }),
  fc.uint8Array({ maxLength: 300 }),
);
const change = fc.record({ at: fc.nat(100_000), kind: fc.constantFrom("file", "link", "drop"), content });

it("a host is described, examined and written whatever its files hold", () => {
  fc.assert(
    fc.property(fc.constantFrom(...CAPTURES), fc.array(change, { minLength: 1, maxLength: 60 }), (name, changes) => {
      const entries = all[name];
      const changed = new Map(changes.map((one) => [one.at % entries.length, one]));
      const odd = new Snapshot();
      entries.forEach(({ path, data, target }, i) => {
        const one = changed.get(i);
        if (one?.kind === "drop") {
          return;
        }
        if (one?.kind === "link" || (one === undefined && target !== null)) {
          odd.link(path, one === undefined ? target! : String(one.content));
        } else if (one?.kind === "file" || data !== null) {
          odd.file(path, one === undefined ? data! : one.content);
        }
      });
      const host = describeSnapshot(odd);
      expect(formatHost(host)).not.toMatch(/undefined|NaN|\[object/);
      const addresses = host.description.functions.map(({ address }) => address);
      expect(formatProblems("x", [...examine(host, { functions: [], memory: null }), ...examine(host, { functions: addresses, memory: 2 ** 40 })])).not.toMatch(/undefined|NaN|\[object/);
      resourceSlices(host, "n");
      try {
        expect(loadHostDescription(hostFileText(host.description), "x")).toEqual(host.description);
      } catch (error) {
        // Registers that describe no IOMMU are a host's fault, and are told.
        if (!(error instanceof Refusal)) {
          throw error;
        }
        expect(error.message).toMatch(/^x: (?:smmus|vtds|functions)\[\d+\]/);
      }
    }),
    { seed: 20261201, numRuns: RUNS },
  );
}, 120_000);
