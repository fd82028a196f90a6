import { defineConfig } from "vitest/config";

/** The inspector's page in a browser, headless (test/inspect/browser.ts). */
export default defineConfig({
  test: {
    include: ["test/**/*.browser.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 1,
    reporters: ["verbose"],
    disableConsoleIntercept: true,
  },
});
