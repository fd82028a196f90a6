import { expect, it } from "vitest";
import { JsonInput } from "../../src/qmp/json-input.js";

it.each([0xfe, 0xff])("byte 0x%s in a string is an error, as with QEMU", (byte) => {
  const out: unknown[] = [];
  const input = new JsonInput((value) => out.push(value), (error) => out.push(error.message));
  input.feed(Uint8Array.of(0x22, 0x61, byte, 0x22, 0x0a));
  expect(out[0]).toMatch(/^1:\d+: JSON parse error, /);
});
