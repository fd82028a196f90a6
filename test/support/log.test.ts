import { expect, it } from "vitest";
import { Log } from "../../src/support/index.js";

it("says what holds for good once, and counts what a guest repeats", () => {
  const log = new Log();
  log.warnOnce("a");
  log.warnOnce("b");
  log.warnOnce("a");
  for (let n = 0; n < Log.linesPerKind + 3; n++) {
    log.guestError("kind", () => `mistake ${n}`);
  }
  expect(log.warnings()).toEqual(["a", "b"]);
  expect(log.lines).toHaveLength(2 + Log.linesPerKind);
  expect(log.suppressed()).toEqual([{ kind: "kind", count: 3 }]);
});
