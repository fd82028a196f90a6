import { defineConfig } from "vitest/config";

/** The agreement suite, which needs a QEMU (test/agreement). */
export default defineConfig({
  test: {
    include: ["test/agreement/**/*.agree.ts"],
    testTimeout: 3_600_000,
    maxWorkers: 1,
    reporters: ["verbose"],
    disableConsoleIntercept: true,
  },
});
