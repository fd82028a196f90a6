import { defineConfig } from "vitest/config";
import { bundledSources } from "./test/bundled-sources.js";

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
    include: ["test/**/*.test.ts"],
    // A process plays file after file: to start one anew, and to compile the sources in it, takes longer than most files' tests.
    isolate: false,
  },
});
