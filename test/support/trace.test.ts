import { afterEach, describe, expect, it } from "vitest";
import { formatTrace, isTracePattern, matchTrace, setTrace, setTraceSink, traceEvent } from "../../src/support/index.js";

const one = traceEvent("test_trace_one", "a=%d b=0x%x");
const two = traceEvent("test_trace_two", "");

describe("trace events", () => {
  afterEach(() => {
    setTrace("*", false);
    setTraceSink(() => {});
  });

  it("are found by name and pattern, and by nothing in between", () => {
    expect(matchTrace("test_trace_*")).toEqual([one, two]);
    expect(matchTrace("test_trace_?ne")).toEqual([one]);
    expect(matchTrace("test.trace_one")).toEqual([]);
    expect(matchTrace("test_trace_on")).toEqual([]);
    expect(matchTrace(`${"*".repeat(200)}x`)).toEqual([]);
    expect(matchTrace(`${"t*".repeat(100)}x`)).toEqual([]);
    expect(matchTrace("*_trace*e")).toEqual([one]);
    expect(traceEvent("test_trace_one", "other")).toBe(one);
    expect([isTracePattern("a*"), isTracePattern("a?"), isTracePattern("a")]).toEqual([true, true, false]);
  });

  it("go to the sink while they are on", () => {
    const lines: string[] = [];
    setTraceSink((line) => lines.push(line));
    expect(setTrace("test_trace_one", true)).toBe(1);
    for (const event of [one, two]) {
      if (event.on) {
        event.emit(-1, 255n);
      }
    }
    expect(lines).toEqual(["test_trace_one a=-1 b=0xff"]);
  });

  it("are formatted as printf does it", () => {
    expect(formatTrace("%d %u %s %x %08x %p %%", [-3, 7, "s", -1, 0x1f, 0x4000, 0])).toBe("-3 7 s ffffffff 0000001f 0x4000 %");
    expect(formatTrace("%lx %lld %zu %hhx", [2n ** 63n, -1n, 5, 6])).toBe("8000000000000000 -1 5 6");
    expect(formatTrace("%4d|%02x", [7, 10])).toBe("   7|0a");
  });
});
