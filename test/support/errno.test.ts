import { constants } from "node:os";
import { describe, expect, test } from "vitest";
import { type Errno, ERRNO, errnoName, errnoNumber, errnoWords, systemWords } from "../../src/support/index.js";

describe("the system's error numbers", () => {
  test.skipIf(process.platform !== "linux")("every one that Node.js knows has its number and a text", () => {
    for (const [name, number] of Object.entries(constants.errno)) {
      expect(errnoNumber(name as Errno), name).toBe(number);
      expect(errnoWords(name as Errno), name).not.toMatch(/^Unknown/);
    }
    expect(Object.keys(ERRNO)).toHaveLength(131);
  });

  test("one that is in no table keeps its number", () => {
    expect(errnoName(22)).toBe("EINVAL");
    expect(errnoName(524)).toBe("E524");
    expect(errnoNumber("E524")).toBe(524);
    expect(errnoWords("E524")).toBe("Unknown error 524");
  });

  test("an error of Node.js is told in strerror's words, any other in its own", () => {
    const system = (code: string): Error => Object.assign(new Error(`${code}: decorated`), { code });
    expect(systemWords(system("ENOENT"))).toBe("No such file or directory");
    expect(systemWords(system("EMFILE"))).toBe("Too many open files");
    expect(systemWords(system("ENOTSUP"))).toBe("Operation not supported");
    expect(systemWords(system("ERR_INVALID_FD_TYPE"))).toBe("ERR_INVALID_FD_TYPE: decorated");
    expect(systemWords(system("toString"))).toBe("toString: decorated");
  });
});
