import { it } from "vitest";
import { againstQemus, agrees } from "./suite.js";
import { missingMachines, vtdMachines } from "./vtd/machines.js";
import { vtdRegisterRules } from "./vtd/register-differences.js";
import { readAll, writeAll } from "./vtd/registers.js";

againstQemus("x86_64", "VT-d registers", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  for (const machine of vtdMachines(program)) {
    agrees(`${machine.name}: reset values`, program, machine, vtdRegisterRules, machine, (driver) => readAll(driver));
    agrees(`${machine.name}: what writes keep`, program, machine, vtdRegisterRules, machine, (driver) => writeAll(driver));
  }
});
