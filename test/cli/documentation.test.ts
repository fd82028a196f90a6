/** Commands in the README and in docs/ do what the text beside them shows. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { splitWords } from "../../src/machine/arguments/index.js";
import { viommu } from "./streams.js";

interface Shown {
  readonly command: string;
  readonly output: string[];
}

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");

/** The blocks of a page that are indented by four spaces or fenced, without the indentation. */
function blocks(text: string): string[] {
  const fenced: string[] = [];
  const prose = text.replace(/^```(.*)\n([^]*?)^```$/gm, (_all, language: string, body: string) => {
    if (language === "") {
      fenced.push(body);
    }
    return "";
  });
  const indented = [...prose.matchAll(/(?:^ {4}.*\n|^\n)+/gm)].map((match) => match[0].replace(/^ {4}/gm, ""));
  return [...fenced, ...indented];
}

/** Commands at `$ ` or of the package's script, continued by backslashes, each with the lines that follow it. */
function shownIn(text: string): Shown[] {
  return blocks(text).flatMap((block) => {
    // Backslashes of the output are the output's.
    const joined = block.replace(/^(?:\$ viommu|npm run --silent viommu --) (?:.*\\\n)+/gm, (command) => command.replace(/\\\n\s*/g, ""));
    const parts = joined.split(/^(?:\$ viommu|npm run --silent viommu --) /m).slice(1);
    return parts.map((part) => {
      const [command, ...output] = part.split("\n");
      return { command, output: output.filter((line) => line.trim() !== "").map((line) => line.trimEnd()) };
    });
  });
}

/** Checks that the shown lines are in the output one after the other; a line of dots stands for any number of lines. */
function expectShown(found: readonly string[], shown: readonly string[]): void {
  let at = found.indexOf(shown[0]);
  expect(at, `the output has the line "${shown[0]}"`).toBeGreaterThanOrEqual(0);
  for (const [i, line] of shown.entries()) {
    if (line.trim() === "...") {
      at = found.indexOf(shown[i + 1], at);
      expect(at, `the output goes on with "${shown[i + 1]}"`).toBeGreaterThanOrEqual(0);
    } else {
      expect(found[at++]).toBe(line);
    }
  }
}

describe.each(["README.md", "docs/guest-scripts.md", "docs/hosts.md", "docs/planning.md"])("%s", (page) => {
  const shown = shownIn(read(page)).filter(({ output }) => output.length > 0);

  it("shows commands", () => {
    expect(shown.length).toBeGreaterThan(0);
  });

  it.each(shown.map(({ command, output }) => [command, output] as const))("viommu %s", async (command, output) => {
    const { code, out, err } = await viommu(...splitWords(command, page));
    expect(err).toBe("");
    // The doctor's exit code tells of errors.
    expect(code).toBe(command.includes(" --doctor ") && output.some((line) => line.startsWith("error: ")) ? 1 : 0);
    expectShown(out.split("\n").map((line) => line.trimEnd()).filter((line) => line !== ""), output);
  });
});

it("docs/guest-scripts.md has every helper, and names none that is not there", async () => {
  const { helpers } = await import("../../src/guest/index.js");
  const text = read("docs/guest-scripts.md");
  const start = text.indexOf("| `helpers.` |");
  const section = text.slice(start, text.indexOf("\n\n", start));
  const named = [...section.matchAll(/^\| (.*?) \|/gm)].flatMap((row) => [...row[1].matchAll(/`([A-Za-z]+)/g)].map((match) => match[1]));
  const methods = ["kernel", "smmu", "unit", "device", "domain", "helpers"];
  expect(Object.keys(helpers).filter((name) => !new RegExp(`\\b${name}\\b`).test(section))).toEqual([]);
  expect(named.filter((name) => !(name in helpers) && !methods.includes(name))).toEqual([]);
});
