/** NUMA nodes: tables and words of QEMU 11.1.3. */
import { describe, expect, it } from "vitest";
import { splitWords, parseArguments } from "../../src/machine/arguments/index.js";
import { hashOrder } from "../../src/machine/hash-order.js";
import { build } from "./build.js";
import { expectQemusTables, lineNames } from "./qemu-tables.js";

const folder = new URL("./firmware/numa/", import.meta.url);
const names = lineNames(folder);

function wordsOf(line: string): string {
  try {
    build(line).machine.shutdown();
    return "taken";
  } catch (error) {
    return error instanceof Error ? error.message.split("\n  ")[0] : String(error);
  }
}

describe("SRAT, SLIT and HMAT", () => {
  it.each(names)("equal QEMU's byte for byte: %s", (name) => {
    const { ours, theirs: all } = expectQemusTables(folder, name);
    const theirs = all.filter((one) => one !== "APIC");
    expect([...ours.keys()].filter((one) => ["SRAT", "SLIT", "HMAT"].includes(one)).sort()).toEqual(theirs.sort());
    expect(theirs).toContain("SRAT");
  });

  it("of both boards are compared in their kinds", () => {
    expect(names.filter((name) => name.startsWith("virt-")).length).toBeGreaterThanOrEqual(12);
    expect(names.filter((name) => name.startsWith("q35-")).length).toBeGreaterThanOrEqual(15);
  });

  it("name generic initiators by the bus numbers of the moment", async () => {
    const { machine } = build(
      "-M virt -nodefaults -object memory-backend-ram,id=m,size=128M -numa node,memdev=m -numa node -device pcie-root-port,id=r,chassis=1 -device edu,id=e,bus=r -object acpi-generic-initiator,id=g,pci-dev=e,node=1",
    );
    machine.start();
    const initiator = (): string => Buffer.from(machine.board.buildTables().acpi!.tables.get("SRAT")!.subarray(-32)).toString("hex");
    expect(initiator()).toBe("0520000101000000" + "00000000" + "00".repeat(12) + "0100000000000000");
    const bridge = machine.board.functions.find(({ argument }) => argument.id === "r")!.fn;
    await machine.port().write(machine.board.map.ecam!.base + (bridge.devfn << 12) + 0x18, 4, 0x00_05_05_00n);
    expect(initiator()).toBe("0520000101000000" + "00000500" + "00".repeat(12) + "0100000000000000");
    machine.shutdown();
  });
});

const Q35 = "-M q35,hmat=on -nodefaults -smp 2 -m 1G -object memory-backend-ram,id=m0,size=1G -device edu,id=e";
const NODE = "-numa node,memdev=m0,cpus=0";
const LATENCY = "-numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=65534";
const BANDWIDTH = "-numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=3G";
const CACHE = "associativity=direct,policy=write-back,line=64";

/** What QEMU 11.1.3 said, without the argument that it names before. */
const words: ReadonlyArray<readonly [line: string, words: string]> = [
  ["-object acpi-generic-initiator,id=g,pci-dev=e,node=1 -numa node,memdev=m0,cpus=0-1 -numa node,initiator=1", "The initiator of NUMA node 1 is invalid"],
  ["-numa node,memdev=m0,cpus=0-1 -numa node,initiator=3", "NUMA node 3 is missing, use '-numa node' option to declare it first"],
  ["-numa node,memdev=m0,cpus=0-1,initiator=1 -numa node", "The initiator of CPU NUMA node 0 should be itself (got 1)"],
  ["-numa node,memdev=m0 -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=1", "Invalid initiator=0, it isn't an initiator proximity domain"],
  [`${NODE} -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=1`, "The target=1 should point to an existing node"],
  [`${NODE} -numa hmat-lb,initiator=0,target=2,hierarchy=memory,data-type=access-latency,latency=1`, "Invalid target=2, it should be less than 1"],
  [`${NODE} -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency`, "Missing 'latency' option"],
  [`${NODE} -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,bandwidth=1G`, "Missing 'latency' option"],
  [`${NODE} -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=1,bandwidth=1G`, "Invalid option 'bandwidth' since the data type is latency"],
  [`${NODE} -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=1000`, "Bandwidth 1000 between initiator=0 and target=0 should be 1MB aligned"],
  [`${NODE} -numa hmat-lb,initiator=0,target=0,hierarchy=mem,data-type=access-bandwidth,bandwidth=1G`, "Parameter 'hierarchy' does not accept value 'mem'"],
  [`${NODE} ${LATENCY} ${LATENCY}`, "Duplicate configuration of the latency for initiator=0 and target=0"],
  [
    `${NODE} -numa node -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-latency,latency=1 -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-latency,latency=70000`,
    "Latency 70000 between initiator=0 and target=1 should not differ from previously entered min or max values on more than 65534",
  ],
  [
    `${NODE} -numa node -numa hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access-bandwidth,bandwidth=1M -numa hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access-bandwidth,bandwidth=100G`,
    "Bandwidth 107374182400 between initiator=0 and target=1 should not differ from previously entered values on more than 65534",
  ],
  [`${NODE} -numa hmat-cache,node-id=0,size=10M,level=1,${CACHE}`, "The latency and bandwidth information of node-id=0 should be provided before memory side cache attributes"],
  [`${NODE} -numa hmat-cache,node-id=1,size=10M,level=1,${CACHE}`, "Invalid node-id=1, it should be less than 1"],
  [`${NODE} ${LATENCY} ${BANDWIDTH} -numa hmat-cache,node-id=0,size=10M,level=4,${CACHE}`, "Invalid level=4, it should be larger than 0 and less than or equal to 3"],
  [`${NODE} ${LATENCY} ${BANDWIDTH} -numa hmat-cache,node-id=0,size=10M,level=2,${CACHE}`, "Cache level=1 shall be defined first"],
  [
    `${NODE} ${LATENCY} ${BANDWIDTH} -numa hmat-cache,node-id=0,size=10M,level=1,${CACHE} -numa hmat-cache,node-id=0,size=10M,level=2,${CACHE}`,
    "Invalid size=10485760, the size of level=2 should be larger than the size(10485760) of level=1",
  ],
  ["-numa node,memdev=m0 -numa cpu,socket-id=0", "Missing mandatory node-id property"],
  ["-numa node,memdev=m0 -numa cpu,node-id=1,socket-id=0", "Invalid node-id=1, NUMA node must be defined with -numa node,nodeid=ID before it's used with -numa cpu,node-id=ID"],
  ["-numa node,memdev=m0 -numa cpu,node-id=0,die-id=0", "die-id is not supported"],
  ["-numa node,memdev=m0 -numa cpu,node-id=0,cluster-id=0", "cluster-id is not supported"],
  ["-numa node,memdev=m0 -numa cpu,node-id=0,socket-id=5", "no match found"],
  ["-numa node,memdev=m0 -numa node -numa cpu,node-id=0,socket-id=0 -numa cpu,node-id=1,core-id=0", "CPU is already assigned to node-id: 0"],
  ["-numa node,memdev=m0 -numa cpu,node-id=0,foo=0", "Invalid parameter 'foo'"],
  ["-numa node,memdev=m0 -numa node -numa node -numa dist,src=0,dst=1,val=20", "The distance between node 0 and 2 is missing, at least one distance value between each nodes should be provided."],
  [
    "-numa node,memdev=m0 -numa node -numa node -numa dist,src=0,dst=1,val=20 -numa dist,src=1,dst=0,val=21 -numa dist,src=0,dst=2,val=20 -numa dist,src=1,dst=2,val=20",
    "At least one asymmetrical pair of distances is given, please provide distances for both directions of all node pairs.",
  ],
  ["-numa node,memdev=m0,cpus=0-1,cpus=1-7", "CPU index (2) should be smaller than maxcpus (2)"],
  ["-numa node,memdev=m0 -numa node,nodeid=3", "numa: Node ID missing: 2"],
  ["-numa node,memdev=m0 -numa node,cpus=0 -numa node,cpus=0", "CPU is already assigned to node-id: 1"],
  ["-numa node -numa node", "total memory for NUMA nodes (0x0) should equal RAM size (0x40000000)"],
  ["-numa node,nodeid=0 -numa dist,src=0,dst=300,val=11", "Parameter 'dst' expects an integer between 0 and 127"],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=e,node=200`, "acpi-generic-initiator: Invalid NUMA node specified"],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=e,node=5`, "acpi-generic-initiator: Specified node 5 is invalid."],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=x,node=0`, "acpi-generic-initiator: Specified device must be a PCI device."],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=m0,node=0`, "acpi-generic-initiator: Specified device must be a PCI device."],
  [`${NODE} -object acpi-generic-initiator,id=g,node=0`, "Parameter 'pci-dev' is missing"],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=e`, "Parameter 'node' is missing"],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=e,node=0,foo=1`, "Invalid parameter 'foo'"],
  [`${NODE} -object acpi-generic-port,id=g,pci-bus=pcie.0,node=0`, "acpi-generic-port: device must be a CXL host bridge."],
  [`${NODE} -object acpi-generic-initiator,id=g,pci-dev=peripheral/e,node=0`, "taken"],
];

describe("what is wrong with NUMA nodes is told in QEMU's words", () => {
  it.each(words)("%s", (line, expected) => {
    expect(wordsOf(`${Q35} ${line}`)).toBe(expected);
  });

  it("without hmat=on nothing of HMAT is taken", () => {
    const disabled = "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on before using any of hmat specific options";
    for (const line of [LATENCY, "-numa node,nodeid=1,initiator=0"]) {
      expect(wordsOf(`-M virt -nodefaults -m 1G -object memory-backend-ram,id=m0,size=1G ${NODE} ${line}`)).toBe(disabled);
    }
  });

  it("generic initiators are not looked at where no SRAT is made, as in QEMU", () => {
    const bad = "-object acpi-generic-initiator,id=g,pci-dev=nobody,node=9";
    expect(wordsOf(`-M q35 -nodefaults ${bad}`)).toBe("taken");
    expect(wordsOf(`-M q35,acpi=off -nodefaults -m 1G -object memory-backend-ram,id=m0,size=1G ${NODE} ${bad}`)).toBe("taken");
  });

  it("levels of the topology are the board's", () => {
    expect(wordsOf("-M virt -nodefaults -smp 12,sockets=2,dies=3,cores=1,threads=3")).toBe("dies > 1 not supported by this machine's CPU topology");
    expect(wordsOf("-M q35 -nodefaults -smp 12,sockets=2,clusters=2")).toBe("clusters > 1 not supported by this machine's CPU topology");
    expect(wordsOf("-M q35 -nodefaults -smp 12,sockets=2,dies=3,cores=1,threads=3")).toBe(
      "Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (2) * dies (3) * modules (1) * cores (1) * threads (3) != maxcpus (12)",
    );
    const of = (line: string): number[] => Object.values(parseArguments(splitWords(line)).smp);
    expect(of("-M q35 -smp 12")).toEqual([12, 12, 1, 1, 1, 1, 12, 1]);
    expect(of("-M pc-q35-6.1 -smp 12")).toEqual([12, 12, 12, 1, 1, 1, 1, 1]);
  });
});

describe("the order of QEMU's objects", () => {
  it("is GLib's, also of a table that has grown", () => {
    expect(hashOrder(["r1", "mm", "pc.ram"])).toEqual(["r1", "mm", "pc.ram"]);
    // qom-list /objects of a QEMU 11.1.3 with these, its monitor and its RAM, which tells them backwards.
    const many = Array.from({ length: 40 }, (_, n) => `object${n}`);
    expect(hashOrder([...many, "compat_monitor0", "pc.ram"]).reverse().join(" ")).toBe(
      "object36 pc.ram object20 object15 object30 object4 object25 object35 object9 object14 object3 object39 object24 object34 object19 object8 " +
        "object29 object13 object2 object38 object23 object33 object18 object7 object28 object12 object1 object37 object22 compat_monitor0 object32 " +
        "object17 object6 object27 object11 object0 object21 object31 object16 object5 object26 object10",
    );
  });
});
