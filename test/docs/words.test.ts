/** The pages' commands, options, fields and files, read against what there is: what is gone from the code cannot stay on a page. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { main } from "../../src/cli/main.js";
import { findDeviceModel, optionRules } from "../../src/machine/arguments/index.js";
import { reportSchema } from "../../src/run/report/report.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const pages = ["README.md", ...readdirSync(`${root}docs`).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`)].map((name) => ({ name, text: readFileSync(root + name, "utf8") }));

/** Code of a page: spans between backticks and lines that are indented as code. */
function code(text: string): string[] {
  return [...[...text.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span), ...[...text.matchAll(/^ {4}(\S.*)$/gm)].map(([, line]) => line)];
}

/** Each command's options by name, as its help tells them. */
const commands = new Map<string, Set<string>>();

beforeAll(async () => {
  const help = async (...words: string[]): Promise<string> => {
    let text = "";
    const take = (more: string): void => void (text += more);
    await main([...words, "--help"], { out: take, err: take, outputColumns: 80, color: false, errorColor: false } as never);
    return text;
  };
  const names = [...(await help()).matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name).filter((name) => name !== "help");
  for (const name of names) {
    commands.set(name, new Set([...(await help(name)).matchAll(/--[a-z][a-z-]*/g)].map(([option]) => option)));
  }
}, 60_000);

describe("README and each page of docs/", () => {
  it("name commands that there are, with options that they have", () => {
    expect([...commands.keys()]).toEqual(expect.arrayContaining(["run", "guest", "tables", "devices", "device", "hosts"]));
    for (const { name, text } of pages) {
      for (const line of code(text)) {
        const [, command, rest] = /(?:^|\s)viommu (?:-- )?([a-z]+)\b(.*)$/.exec(line) ?? [];
        if (command === undefined) {
          continue;
        }
        expect([...commands.keys()], `${name}: ${line}`).toContain(command);
        // QEMU's part stands behind --; of ours each is one that the command tells of.
        for (const [option] of rest.split(" -- ")[0].matchAll(/--[a-z][a-z-]*/g)) {
          expect([...commands.get(command)!], `${name}: ${line}`).toContain(option);
        }
      }
    }
  });

  it("name options of viommu that some command has", () => {
    const all = new Set([...commands.values()].flatMap((options) => [...options]).concat("--version", "--help", ...[...readFileSync(`${root}bench/main.ts`, "utf8").matchAll(/--[a-z]+/g)].map(([option]) => option)));
    for (const { name, text } of pages) {
      for (const [, option] of text.matchAll(/`(--[a-z][a-z-]*)(?: [^`]*)?`/g)) {
        expect([...all], name).toContain(option);
      }
    }
  });

  it("name options of QEMU that are known", () => {
    for (const { name, text } of pages) {
      for (const [, option] of text.matchAll(/`-([a-zA-Z][a-z-]*)(?: [^`]*)?`/g)) {
        expect(optionRules.has(option) || ["V", "h"].includes(option), `${name}: -${option}`).toBe(true);
      }
    }
  });

  it("name devices in their machines that are known", () => {
    for (const { name, text } of pages) {
      for (const line of code(text)) {
        for (const [, device] of line.matchAll(/-device ([a-z0-9][a-z0-9-]*)(?=[,\s]|$)/g)) {
          expect(() => findDeviceModel(device), `${name}: ${line}`).not.toThrow();
        }
      }
    }
  });

  it("name files of the repository that exist", () => {
    for (const { name, text } of pages) {
      for (const [, file] of text.matchAll(/`((?:src|test|docs|examples|hosts|devices|tools|bench)\/[A-Za-z0-9./_-]+\.(?:ts|md|js|mjs|args|json|c|txt))`/g)) {
        expect(existsSync(root + file), `${name}: ${file}`).toBe(true);
      }
    }
  });
});

describe("docs/json.md", () => {
  interface Node {
    readonly properties?: Readonly<Record<string, Node>>;
    readonly items?: Node;
    readonly anyOf?: readonly Node[];
  }
  const merged = (node: Node): Readonly<Record<string, Node>> => Object.assign({}, ...(node.anyOf ?? []).map(merged), node.properties, node.items === undefined ? {} : merged(node.items)) as Record<string, Node>;

  it("has a section for each object or list of the account with the names of its fields, and no field that there is not", () => {
    const { text } = pages.find(({ name }) => name === "docs/json.md")!;
    const sections = new Map(text.split(/^## /m).slice(1).map((section) => [/`([^`]+)`/.exec(section)![1].replace("[]", ""), section] as const));
    const top = merged(z.toJSONSchema(reportSchema) as Node);
    const first = text.slice(0, text.indexOf("\n## "));
    const rows = (part: string): string[] => [...part.matchAll(/^\| `([A-Za-z]+)(?:\[\])?` \|/gm)].map(([, name]) => name);
    expect(rows(first)).toEqual(expect.arrayContaining(Object.keys(top)));
    expect(rows(first).filter((name) => !Object.hasOwn(top, name))).toEqual([]);
    const deep = (node: Node): string[] => Object.entries(merged(node)).flatMap(([name, inner]) => [name, ...deep(inner)]);
    for (const [name, node] of Object.entries(top)) {
      const section = sections.get(name);
      if (section === undefined) {
        expect(Object.keys(merged(node)), name).toEqual([]);
        continue;
      }
      for (const field of Object.keys(merged(node))) {
        expect(section, `${name}.${field}`).toMatch(new RegExp(`\`${field}(\\[\\])?\``));
      }
      const known = new Set(deep(node));
      expect(rows(section).filter((field) => !known.has(field)), name).toEqual([]);
    }
  });
});
