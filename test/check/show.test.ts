import { it } from "vitest";
import { badLines, hostFor, lineOf } from "./bad-lines.js";
import { checkLine, told } from "./line.js";
it("shows", () => {
  for (const [i, bad] of badLines.entries()) {
    const started = performance.now();
    try {
      const report = checkLine(lineOf(bad), hostFor(bad));
      const of = report.findings.find(({ rule, range }) => rule === bad.rule && (range === null ? null : report.text.slice(range.start, range.end)) === bad.at);
      const again = told(checkLine(report.fixed, hostFor(bad))).filter((l) => !l.startsWith("note"));
      const all = told(report).filter((l) => !l.startsWith("note"));
      const ok = of !== undefined && of.mended === bad.mended && (bad.mended ? again.length === 0 : true) && all.length <= 1;
      console.log(`${ok ? "ok " : "BAD"} ${i} ${bad.rule} ${Math.round(performance.now() - started)}ms`);
      if (!ok) { console.log("   all:", told(report).join(" | ")); console.log("   again:", again.join(" | ")); if (bad.mended) console.log(report.fixed); }
      if (of) console.log("     ", of.level, of.words, "\n      F:", of.found, "\n      W:", of.wouldWork);
    } catch (e) { console.log("THROWN", i, bad.rule, (e as Error).stack?.split("\n").slice(0, 4).join("\n")); }
  }
});
