import { defineConfig } from "vitest/config";

/** Guests with a kernel of their own, in emulated machines with KVM (lab/, docs/lab.md). */
export default defineConfig({
  test: {
    include: ["test/lab/**/*.lab.ts"],
    testTimeout: 900_000 * Number(process.env.VIOMMU_LAB_PATIENCE ?? 1),
    hookTimeout: 1_800_000,
    maxWorkers: 1,
    reporters: ["verbose"],
    disableConsoleIntercept: true,
  },
});
