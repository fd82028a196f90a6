// iort.mjs CONSOLE.log IORT.aml: the IORT of a console's hexadecimal bytes, with CANWBS in the memory access flags of
// every root complex (Arm DEN 0049, "Memory access properties": byte 7, bit 2; bits 0 and 1 are CPM and DACS).
import { readFileSync, writeFileSync } from "node:fs";

const [source, target] = process.argv.slice(2);
const text = /IORT begins\s*([0-9a-f\s]+?)\s*IORT ends/.exec(readFileSync(source, "latin1"))?.[1];
if (text === undefined) {
  throw new Error(`${source} has no IORT`);
}
const table = Buffer.from(text.replaceAll(/\s+/g, ""), "hex");
if (table.toString("latin1", 0, 4) !== "IORT" || table.readUInt32LE(4) !== table.length) {
  throw new Error(`an IORT of ${table.length} bytes that tells ${table.readUInt32LE(4)}`);
}
const ROOT_COMPLEX = 2;
let [offset, changed] = [table.readUInt32LE(40), 0];
for (let node = table.readUInt32LE(36); node > 0; node--) {
  if (table[offset] === ROOT_COMPLEX) {
    table[offset + 16 + 7] |= 7;
    changed++;
  }
  offset += table.readUInt16LE(offset + 1);
}
// A kernel takes a table in another's place if its OEM revision is higher.
table.writeUInt32LE(table.readUInt32LE(24) + 1, 24);
table[9] = 0;
table[9] = -table.reduce((sum, byte) => sum + byte, 0);
writeFileSync(target, table);
console.log(`lab: CANWBS set for ${changed} root complexes`);
