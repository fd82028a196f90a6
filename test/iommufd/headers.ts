/** Linux's headers, for C programs that say how its structures are laid out. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folders that have linux/iommufd.h of Linux 7.3 or newer: the system's, or copies beside the repository. */
export function includeFolder(): { folder: string; temporary: boolean } | null {
  const beside = fileURLToPath(new URL("../../../shared/uapi", import.meta.url));
  if (existsSync(join(beside, "iommufd.h")) && existsSync(join(beside, "vfio.h"))) {
    const folder = mkdtempSync(join(tmpdir(), "uapi-"));
    mkdirSync(join(folder, "linux"));
    for (const name of ["iommufd.h", "vfio.h"]) {
      copyFileSync(join(beside, name), join(folder, "linux", name));
    }
    return { folder, temporary: true };
  }
  const system = "/usr/include/linux/iommufd.h";
  return existsSync(system) && readFileSync(system, "utf8").includes("ERRATA_REPEAT_TLBI_CFGI")
    ? { folder: "/usr/include", temporary: false }
    : null;
}

export function hasCompiler(): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
