/** All that is wrong with -numa is told at once, each at its option; what is placed takes -global without a note. */
import { expect, it } from "vitest";
import { readArguments } from "../../src/machine/arguments/index.js";
import { recognise } from "../../src/machine/input/index.js";

const read = (line: string) => readArguments(recognise(line, "line").words);
const wrong = (line: string): Array<[string, string | undefined]> => read(line).findings.filter(({ level }) => level === "error").map(({ words, place }) => [words, place?.text]);
const VIRT = "qemu-system-aarch64 -M virt -m 1G -smp 4";

it("each wrong -numa has a finding with its place", () => {
  expect(wrong(`${VIRT} -numa node,nodeid=0,cpus=0-1 -numa node,nodeid=1,cpus=2-3 -numa dist,src=0,dst=1,val=5 -numa dist,src=0,dst=7,val=20 -numa cpu,node-id=9 -numa hmat-lb,initiator=0`)).toEqual([
    ["NUMA distance (5) is invalid, it shouldn't be less than 10.", "-numa dist,src=0,dst=1,val=5"],
    ["Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first.", "-numa dist,src=0,dst=7,val=20"],
    ["Invalid node-id=9, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID", "-numa cpu,node-id=9"],
    ["ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on before using any of hmat specific options", "-numa hmat-lb,initiator=0"],
  ]);
});

it("nodes that were refused are not missed by others", () => {
  expect(wrong(`${VIRT} -numa node,nodeid=0 -numa node,nodeid=0 -numa node,nodeid=200 -numa dist,src=0,dst=1,val=20`).map(([words]) => words)).toEqual(["Duplicate NUMA nodeid: 0", "Max number of NUMA nodes reached: 200"]);
});

it("-global of a device that is placed is told to nobody, and of one that is nowhere is", () => {
  expect(read(`${VIRT} -global qemu-xhci.p2=8 -device qemu-xhci`).findings.filter(({ words }) => words.includes("-global"))).toEqual([]);
  expect(read(`${VIRT} -global no-such.p2=8`).findings.map(({ words }) => words)).toContainEqual(expect.stringContaining("-global no-such.p2: no device here has that driver"));
});
