import { configDefaults, defineConfig } from "vitest/config";

/** Rooms of models: their tests are functions of what they make, and one process may play file after file (not with zstd, whose heap a damaged archive leaves broken). */
const MODELS = ["devices", "host/hardware", "host/kernel", "host/linux", "host/vtd", "memory", "msi", "nesting", "pci", "smmuv3", "support", "translation", "vfio", "vtd"].map((room) => `test/${room}/**/*.test.ts`);

export default defineConfig({
  test: {
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
