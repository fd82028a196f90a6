import { placementRules } from "./devices/differences.js";
import { placements, readSpaces } from "./devices/config-spaces.js";
import { atLeast } from "./find-qemu.js";
import { againstQemus, agrees } from "./suite.js";

for (const architecture of ["aarch64", "x86_64"] as const) {
  againstQemus(architecture, `placed functions, ${architecture}`, () => null, (program) => {
    for (const placement of placements(architecture, program.version)) {
      agrees(placement.name, program, placement, placementRules, placement, (driver) => readSpaces(driver, placement, atLeast(program.version, 11, 0)));
    }
  });
}
