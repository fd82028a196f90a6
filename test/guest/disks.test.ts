import { expect, it } from "vitest";
import { diskSteps } from "../../src/guest/linux/disks.js";

it("a look for controllers that fails is a step that fails, not the end of the guest", async () => {
  const session = {
    kernel: {
      get devices(): never {
        throw new Error("no answer");
      },
    },
  };
  const [[name, body], ...others] = await diskSteps(session as never);
  expect([name, others]).toEqual(["disks", []]);
  await expect(body()).rejects.toThrow("no answer");
});
