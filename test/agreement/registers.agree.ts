import { it } from "vitest";
import { againstQemus, agrees } from "./suite.js";
import { missingMachines, smmuMachines } from "./smmuv3/machines.js";
import { readAll, writeAll } from "./smmuv3/registers.js";
import { registerRules } from "./smmuv3/register-differences.js";

/** SMMUEN, EVENTQEN, CMDQEN. */
const ALL_ENABLED = 0xd;

againstQemus("aarch64", "SMMUv3 registers", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  for (const machine of smmuMachines(program)) {
    agrees(`${machine.name}: reset values`, program, machine, registerRules, { cr0: 0 }, (driver) => readAll(driver, machine.smmu));
    agrees(`${machine.name}: what writes keep`, program, machine, registerRules, { cr0: 0 }, (driver) => writeAll(driver, machine.smmu));
    agrees(`${machine.name}: what writes keep while all is enabled`, program, machine, registerRules, { cr0: ALL_ENABLED }, (driver) => writeAll(driver, machine.smmu, ALL_ENABLED));
  }
});
