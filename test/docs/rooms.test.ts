import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { rooms } from "../../rooms.js";

const folder = fileURLToPath(new URL("../../docs/", import.meta.url));
const pages = readdirSync(folder).filter((name) => name.endsWith(".md")).map((name) => ({ name, text: readFileSync(folder + name, "utf8") }));

describe("docs/architecture.md", () => {
  it("has the rooms of rooms.js in its table, in their order", () => {
    const { text } = pages.find(({ name }) => name === "architecture.md")!;
    const table = text.slice(text.indexOf("| room |"), text.indexOf("\n\n", text.indexOf("| room |")));
    expect([...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, room]) => room)).toEqual(Object.keys(rooms));
  });
});

describe("each page of docs/", () => {
  it("names pages and shipped hosts that exist", () => {
    const hosts = readdirSync(new URL("../../hosts/", import.meta.url));
    for (const { name, text } of pages) {
      for (const [, page] of text.matchAll(/docs\/([a-z-]+\.md)/g)) {
        expect(pages.map((one) => one.name), name).toContain(page);
      }
      for (const [, host] of text.matchAll(/`hosts\/([a-z-]+\.json)`/g)) {
        expect(hosts, name).toContain(host);
      }
    }
  });
});
