import { configDefaults, defineConfig } from "vitest/config";
import { bundledSources } from "./test/bundled-sources.js";

/** Rooms of models: their tests are functions of what they make, and one process may play file after file (not with zstd, whose heap a damaged archive leaves broken). */
const MODELS = ["devices", "host/hardware", "host/kernel", "host/linux", "host/vtd", "memory", "msi", "nesting", "pci", "smmuv3", "support", "translation", "vfio", "vtd"].map((room) => `test/${room}/**/*.test.ts`);

export default defineConfig({
  // Not while files are watched, whose changes have to be seen.
  plugins: process.argv.includes("run") ? [await bundledSources()] : [],
  test: {
    // Errors name lines of the sources.
    execArgv: ["--enable-source-maps"],
    // All processors: the default leaves one idle, which is half of a small machine.
    maxWorkers: "100%",
    testTimeout: 60_000,
    reporters: ["default"],
    projects: [
      // To load the sources anew for each file takes longer than most files' tests.
      { extends: true, test: { name: "models", include: MODELS, isolate: false } },
      { extends: true, test: { name: "machines", include: ["test/**/*.test.ts"], exclude: [...configDefaults.exclude, ...MODELS] } },
    ],
  },
});
