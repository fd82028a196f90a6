/** Every device type of QEMU 11.1 (devices/qemu-11.1.json): each is modelled, placed, taken, or refused with a reason. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { barsOf } from "../../src/devices/index.js";
import { BOARD_KINDS, type BoardKind, deviceCatalogue, deviceModels, OLDER_NAMES, parseDevice, type RecordedDevice, refusedFamily } from "../../src/machine/arguments/index.js";
import { Refusal } from "../../src/support/index.js";

const catalogue = deviceCatalogue();

/** What becomes of a name on a board: its category, or the refusal. */
function fate(name: string, board: BoardKind, recorded: RecordedDevice | null): string | Refusal {
  const needs = recorded?.needs?.properties[0];
  const property = needs === undefined ? "" : `,${needs}=${recorded!.properties().find((one) => one.name === needs)?.type.startsWith("uint") === true ? "3" : "x"}`;
  try {
    return parseDevice("-device", `${name}${property}`, { globals: [], version: [11, 1], board, intelIommu: false, notes: [] }).model.category;
  } catch (error) {
    if (error instanceof Refusal) {
      return error;
    }
    throw error;
  }
}

describe("every device type", () => {
  it("is one of QEMU 11.1", () => {
    expect(catalogue.version).toMatch(/^11\.1\./);
  });

  it("is known, and told where it is not here", () => {
    const counts = { modelled: 0, placed: 0, other: 0, refused: 0 };
    for (const name of catalogue.names()) {
      const recorded = catalogue.find(name)!;
      const fates = recorded.boards.map((board) => fate(name, board, recorded));
      const taken = fates.find((one) => typeof one === "string");
      const refusal = fates.find((one) => one instanceof Refusal);
      if (deviceModels.has(name)) {
        counts.modelled++;
      } else if (taken === "placed" || taken === "other") {
        counts[taken]++;
      } else if (taken !== undefined) {
        // An older spelling of a modelled one.
        counts.modelled++;
      } else {
        counts.refused++;
        const { words, found, wouldWork } = refusal as Refusal;
        expect({ name, words: words !== "", found: found !== undefined, wouldWork: wouldWork !== undefined }).toEqual({ name, words: true, found: true, wouldWork: true });
        expect(refusedFamily(name) !== null || recorded.boards.every((board) => recorded.refused(board) !== null), `${name}: ${(refusal as Refusal).message}`).toBe(true);
      }
    }
    const told = { ...counts, all: catalogue.names().length };
    expect(told).toEqual(COUNTS);
    const page = readFileSync(new URL("../../docs/devices.md", import.meta.url), "utf8");
    const rows = { ...told, taken: told.other };
    for (const row of ["modelled", "placed", "taken", "refused", "all"] as const) {
      expect(page).toContain(`| ${row} | ${rows[row]} |`);
    }
    expect(page).toContain(`and ${catalogue.processors().length} processors`);
  });

  it("and every processor is known, and every part of a machine that is no -device", () => {
    for (const name of catalogue.processors()) {
      expect(catalogue.find(name)!.boards.map((board) => fate(name, board, null)), name).toEqual(["other"]);
    }
    for (const name of catalogue.fixed) {
      for (const board of BOARD_KINDS) {
        const refusal = fate(name, board, null);
        expect(refusal instanceof Refusal && (refusal.words === "Parameter 'driver' expects a pluggable device type" || refusedFamily(name) !== null || deviceModels.has(name)), name).toBe(true);
      }
    }
  });

  it("has each alias and each older name for something that there is", () => {
    for (const [alias, name] of catalogue.aliases) {
      expect(catalogue.find(name), alias).not.toBeNull();
    }
    for (const [older, { name }] of OLDER_NAMES) {
      expect(deviceModels.has(name) || catalogue.find(name) !== null, older).toBe(true);
    }
  });

  it("has a configuration space whose parts fit, where it is a function", () => {
    for (const name of catalogue.names()) {
      const recorded = catalogue.find(name)!;
      for (const board of recorded.boards) {
        for (const place of ["root", "port", "conventional"] as const) {
          const space = recorded.space(board, place);
          if (space === null || typeof space === "string") {
            continue;
          }
          const { size, image, mask } = space;
          expect([image.length, mask.length], name).toEqual([size, size]);
          expect(place !== "conventional" || size === 256, `${name} on conventional PCI`).toBe(true);
          for (const bar of (image[0x0e] & 0x7f) === 0 ? barsOf(space) : []) {
            expect(2 ** Math.round(Math.log2(bar.size)), `${name} ${place} BAR ${bar.index}`).toBe(bar.size);
          }
        }
      }
    }
  });
});

/** Of devices/qemu-11.1.json: docs/devices.md has them too. */
const COUNTS = { modelled: 26, placed: 129, other: 287, refused: 39, all: 481 };
