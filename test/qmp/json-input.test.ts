import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatJson, type Json } from "../../src/qmp/json.js";
import { JsonInput, NESTING_LIMIT, TOKEN_COUNT_LIMIT } from "../../src/qmp/json-input.js";
import { TOKEN_LIMIT } from "../../src/qmp/json-lexer.js";

/** What comes out of the input, errors as their text. */
function parse(chunks: Iterable<string | Uint8Array>): Array<{ value: Json } | string> {
  const out: Array<{ value: Json } | string> = [];
  const input = new JsonInput(
    (value) => out.push({ value }),
    (error) => out.push(error.message),
  );
  for (const chunk of chunks) {
    input.feed(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  }
  return out;
}

/** Each line alone on a connection's first line; what QEMU 11.1.3 answered, places moved to line 1. */
const QEMU: ReadonlyArray<readonly [input: string, ...errors: string[]]> = [
  ["garbage\n", "1:1: JSON parse error, invalid keyword 'garbage'"],
  ["}", "1:1: JSON parse error, expecting value"],
  ["]", "1:1: JSON parse error, expecting value"],
  ['{"execute":"query-status",}', "1:27: JSON parse error, expecting key"],
  ['{"execute":"query-status" "id":1}', "1:27: JSON parse error, expected ',' or '}'"],
  ['{"execute":"query-status","execute":"query-name"}', "1:37: JSON parse error, duplicate key"],
  ['{"a":1,"a":{"b":2}}', "1:19: JSON parse error, duplicate key"],
  ['{"a":tru}', "1:6: JSON parse error, invalid keyword 'tru'"],
  ['{"a":nul,"b":1}', "1:6: JSON parse error, invalid keyword 'nul'"],
  ['{"a":"\\q"}', "1:6: JSON parse error, invalid escape sequence in string"],
  ['{"a":"\\u12"}', '1:6: JSON parse error, \\u12" is not a valid Unicode character'],
  ['{"a":01}', "1:6: JSON parse error, stray '01'", "1:9: JSON parse error, expecting value"],
  ['{"a":1.}', "1:6: JSON parse error, stray '1.}'"],
  ['{"a":-}', "1:6: JSON parse error, stray '-}'"],
  ['{"a":1 2}', "1:8: JSON parse error, expected ',' or '}'"],
  ['{"a" 1}', "1:6: JSON parse error, expecting ':'"],
  ["{a:1}", "1:2: JSON parse error, expecting key"],
  ["{1:2}", "1:2: JSON parse error, expecting key"],
  ['{"a":"b\n', "1:6: JSON parse error, stray '\"b\n'"],
  ["[1,]", "1:4: JSON parse error, expecting value"],
  ["[1 2]", "1:4: JSON parse error, expected ',' or ']'"],
  ['{"a":{"b":[}]}', "1:12: JSON parse error, expecting value"],
  ["tru fals\n", "1:1: JSON parse error, invalid keyword 'tru'", "1:5: JSON parse error, invalid keyword 'fals'"],
  ['{"x":[1,2\n3]}', "2:1: JSON parse error, expected ',' or ']'"],
  ["%d", "1:1: JSON parse error, stray '%'"],
  ['{"a":%d}', "1:6: JSON parse error, stray '%'", "1:9: JSON parse error, expecting value"],
  ['{"a":1e5x}', "1:10: JSON parse error, expected ',' or '}'"],
];

describe("JSON from a client", () => {
  it.each(QEMU)("%j is answered as QEMU answers it", (input, ...errors) => {
    expect(parse([input])).toEqual(errors);
    // Byte by byte it is the same.
    expect(parse([...Buffer.from(input)].map((byte) => Uint8Array.of(byte)))).toEqual(errors);
  });

  it("takes values in pieces, several in a line, one in several lines, and both kinds of quotes", () => {
    expect(parse(['{"a":1} {"b":', "\n[true,\r\nfalse,nu", "ll]}'x'"])).toEqual([{ value: { a: 1 } }, { value: { b: [true, false, null] } }, { value: "x" }]);
  });

  it("takes up again after an error at the next value", () => {
    expect(parse(['{"a":"b\n{"c":1}\n'])).toEqual(["1:6: JSON parse error, stray '\"b\n'", { value: { c: 1 } }]);
    expect(parse(['{"a" [1,{"x":2}] }{"c":1}\n'])).toEqual(["1:6: JSON parse error, expecting ':'", { value: { c: 1 } }]);
    // A byte that UTF-8 never has makes the parser forget what came before.
    expect(parse(['{"a":[[', Uint8Array.of(0xff), '\n{"c":1}'])).toEqual([expect.stringContaining("stray"), { value: { c: 1 } }]);
  });

  it("keeps whole numbers of 64 bits, and reads escapes and UTF-8", () => {
    expect(parse(['[18446744073709551615,-9223372036854775808,9007199254740991,1.5e3,1e400]'])).toEqual([
      { value: [18446744073709551615n, -9223372036854775808n, 9007199254740991, 1500, Number.POSITIVE_INFINITY] },
    ]);
    expect(parse(['"\\u00e4\\ud83d\\ude00\\n\\/\\\'\u00e9"'])).toEqual([{ value: "\u00e4\u{1f600}\n/'\u00e9" }]);
    expect(parse(['"\\ud83d"'])).toEqual(["1:1: JSON parse error, \\ud83d is not a valid Unicode character"]);
    expect(parse([Uint8Array.of(0x22, 0xc0, 0x22)])).toEqual(["1:1: JSON parse error, invalid UTF-8 sequence in string"]);
  });

  it.each([0xfe, 0xff])("ends a token at the byte %i, which UTF-8 never has, in strings and their escapes too", (byte) => {
    for (const before of ['"ab', "'ab", '"ab\\', "'ab\\"]) {
      const bytes = Buffer.concat([Buffer.from(before), Uint8Array.of(byte), Buffer.from(`cd${before[0]}\n{"c":1}`)]);
      const expected = [`1:1: JSON parse error, stray '${before}${String.fromCharCode(byte)}'`, { value: { c: 1 } }];
      expect(parse([bytes])).toEqual(expected);
      expect(parse([...bytes].map((one) => Uint8Array.of(one)))).toEqual(expected);
    }
  });

  it.each([0x80, 0xbf, 0xc0, 0xc1, 0xf5, 0xf8, 0xfc, 0xfd])("refuses a string with the byte %i, with which no character begins", (byte) => {
    for (const quote of [0x22, 0x27]) {
      expect(parse([Uint8Array.of(quote, 0x61, byte, 0x80, 0x80, 0x80, quote)])).toEqual(["1:1: JSON parse error, invalid UTF-8 sequence in string"]);
    }
  });

  it("does not take a member for something of Object's", () => {
    const [one] = parse(['{"__proto__":{"x":1},"constructor":2}']) as Array<{ value: { [key: string]: Json } }>;
    expect(Object.keys(one.value)).toEqual(["__proto__", "constructor"]);
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it("bounds nesting, length and number of tokens", () => {
    const deep = "[".repeat(NESTING_LIMIT);
    expect(parse([deep, "]".repeat(NESTING_LIMIT)])).toHaveLength(1);
    expect(parse([deep, "["])).toEqual(["JSON nesting depth limit exceeded"]);
    expect(parse(["[", "1,".repeat(TOKEN_COUNT_LIMIT)])[0]).toBe("JSON token count limit exceeded");
    expect(parse(['"', "a".repeat(TOKEN_LIMIT)])).toEqual(["1:1: JSON parse error, token size limit exceeded"]);
    expect(parse(["[", `"${"a".repeat(TOKEN_LIMIT - 2)}",`.repeat(5)])[0]).toBe("JSON token size limit exceeded");
  });
});

describe("any input", () => {
  it("that is JSON comes out as it is, in whatever pieces it comes", () => {
    const values = fc.array(fc.jsonValue({ maxDepth: 4 }), { maxLength: 4 });
    const cuts = fc.infiniteStream(fc.integer({ min: 1, max: 9 }));
    fc.assert(
      fc.property(values, cuts, fc.boolean(), (list, sizes, pretty) => {
        const bytes = Buffer.from(list.map((value) => formatJson(value as Json, pretty)).join(" ") + "\n");
        const chunks: Uint8Array[] = [];
        for (let at = 0; at < bytes.length; at += chunks.at(-1)!.length) {
          chunks.push(bytes.subarray(at, at + sizes.next().value!));
        }
        expect(formatJson(parse(chunks).map((one) => (typeof one === "string" ? one : one.value)))).toBe(formatJson(list as Json));
      }),
      { seed: 11, numRuns: 300 },
    );
  });

  it("that is not ends in messages, and the next line is understood after a byte that UTF-8 never has", () => {
    const words = fc.constantFrom("{", "}", "[", "]", ":", ",", '"', "'", "\\", "a", '"k"', "1", "-", ".", "e", "true", "nul", "\u00e9", "\t", "\n", "\0", "%", " ");
    fc.assert(
      fc.property(fc.array(words, { maxLength: 60 }), (parts) => {
        const out = parse([parts.join(""), Uint8Array.of(0xff, 0x0a), '{"ok":1}']);
        expect(out.at(-1)).toEqual({ value: { ok: 1 } });
        out.slice(0, -1).forEach((one) => expect(typeof one === "string" ? one : "").toMatch(/^(?:|\d+:\d+: JSON parse error, .*)$/s));
      }),
      { seed: 12, numRuns: 500 },
    );
  });
});

describe("JSON to a client", () => {
  it("has QEMU's blanks and escapes", () => {
    expect(formatJson({ a: [1, "b", null, 1.5], b: {}, c: [], d: 18446744073709551615n })).toBe('{"a": [1, "b", null, 1.5], "b": {}, "c": [], "d": 18446744073709551615}');
    expect(formatJson('ä"\\\n\u0001\u007f\u{1f600}')).toBe('"\\u00E4\\"\\\\\\n\\u0001\\u007F\\uD83D\\uDE00"');
    expect(formatJson({ a: [1] }, true)).toBe('{\n    "a": [\n        1\n    ]\n}');
  });
});
