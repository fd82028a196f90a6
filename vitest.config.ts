import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // All processors: the default leaves one idle, which is half of a small machine.
    maxWorkers: "100%",
    testTimeout: 60_000,
    reporters: ["default"],
  },
});
