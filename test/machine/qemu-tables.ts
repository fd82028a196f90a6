/** ACPI tables of a line held against those that a QEMU has made of it, as files NAME.SIGNATURE.aml beside NAME.args. */
import { readdirSync, readFileSync } from "node:fs";
import { expect } from "vitest";
import { build } from "./build.js";

/** The names of a folder's lines. */
export function lineNames(folder: URL): string[] {
  return readdirSync(folder).filter((name) => name.endsWith(".args")).map((name) => name.slice(0, -5));
}

/** The tables of a machine that has started, by signature; nothing of it is left. */
export function tablesOf(line: string): Map<string, Uint8Array> {
  const { machine, host } = build(line);
  machine.start();
  const tables = new Map(machine.board.buildTables().acpi!.tables);
  machine.shutdown();
  expect(host.liveObjects()).toEqual([]);
  return tables;
}

/** Each of QEMU's tables of a line is ours. Gives our tables, and the signatures of theirs. */
export function expectQemusTables(folder: URL, name: string): { line: string; ours: Map<string, Uint8Array>; theirs: string[] } {
  const line = readFileSync(new URL(`${name}.args`, folder), "utf8").trim();
  const ours = tablesOf(line);
  const files = readdirSync(folder).filter((file) => file.startsWith(`${name}.`) && file.endsWith(".aml"));
  expect(files.length).toBeGreaterThan(0);
  const theirs = files.map((file) => file.split(".")[1]);
  for (const [index, file] of files.entries()) {
    expect(anonymous(ours.get(theirs[index])!), theirs[index]).toBe(anonymous(readFileSync(new URL(file, folder))));
  }
  return { line, ours, theirs };
}

/** Without the checksum and what names who made it: OEM id, table id and revision, creator. */
export function anonymous(table: Uint8Array): string {
  const copy = Buffer.from(table);
  copy.fill(0, 9, 36);
  return copy.toString("hex").replace(/(.{32})/g, "$1\n");
}
