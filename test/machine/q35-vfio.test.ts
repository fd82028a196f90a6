import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { splitWords } from "../../src/machine/arguments/index.js";
import { build, hostInput } from "./build.js";
import { refusalOf } from "./refused.js";

const HOST = "two-socket-spr";
const VTD = "-M q35 -m 1G -nodefaults -object iommufd,id=i0 -object iommufd,id=i1 -device pcie-root-port,id=r0,chassis=1 -device pcie-root-port,id=r1,chassis=2";
const FIRST_STAGE = `${VTD} -device intel-iommu,id=v,scalable-mode=on,fsts=on`;
const NIC = "-device vfio-pci,host=0000:97:00.0,id=nic,bus=r0,iommufd=i0";
const DSA = "-device vfio-pci,host=0000:6a:01.0,id=dsa,bus=r1,iommufd=i1";

describe("passed-through functions on a q35", () => {
  it("are on their parent tables before the guest says anything, an emulated one beside them", () => {
    const { machine, host } = build(`${FIRST_STAGE} ${NIC} ${DSA} -device e1000e,id=net`, HOST);
    machine.start();
    const { iommus, functions } = machine.describe();
    expect(iommus[0]).toMatchObject({ id: "v", accel: true, hostIommu: "dmar1, dmar2" });
    expect(iommus[0].bindings.map(({ function: name, pasid, table, hostIommu }) => [name, pasid, table, hostIommu])).toEqual([
      ["nic", null, "parent", "dmar2"],
      ["dsa", null, "parent", "dmar1"],
    ]);
    expect(functions.map(({ id, iommu, addressSpace }) => [id, iommu, addressSpace]).slice(2)).toEqual([
      ["nic", "v", "memory"],
      ["dsa", "v", "memory"],
      ["net", "v", expect.stringMatching(/^vtd-0[0-9]\.0$/)],
    ]);
    machine.reset();
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("come and go while the machine runs", async () => {
    const { machine, host } = build(FIRST_STAGE, HOST);
    machine.start();
    const operator = machine.operator();
    await operator.plug(NIC.replace("-device ", ""));
    expect(machine.describe().iommus[0].bindings).toHaveLength(1);
    expect(refusalOf(() => machine.hotplug.plug("intel-iommu")).words).toBe("Device 'intel-iommu' does not support hotplugging");
    await operator.requestUnplug("nic");
    expect(machine.describe().iommus[0]).toMatchObject({ accel: false, hostIommu: null, bindings: [] });
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it.each([
    ["no caching-mode, no first stage", `${VTD} -device intel-iommu ${NIC}`, HOST, "Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.", "scalable-mode=on,fsts=on"],
    ["the same, and nesting required", `${VTD} -device intel-iommu,caching-mode=on,x-require-nesting=on ${NIC}`, HOST, "x-require-nesting=on: no shadowing of guest page tables", "scalable-mode=on,fsts=on"],
    ["fsts and a legacy container", `${FIRST_STAGE} -device vfio-pci,host=0000:97:00.0,bus=r0`, HOST, "Need IOMMUFD backend when fsts=on", "iommufd=iommufd0"],
    ["fsts, host not VT-d", `${FIRST_STAGE} -device vfio-pci,host=0009:01:00.0,bus=r0,iommufd=i0`, "grace", "Incompatible host platform IOMMU type 2", "VT-d"],
    ["fsts, below a PCIe-to-PCI bridge", `${FIRST_STAGE} -device pcie-pci-bridge,id=b,bus=pcie.0 -device vfio-pci,host=0000:97:00.0,bus=b,addr=1,iommufd=i0`, HOST, "Host device downstream to a PCI bridge is unsupported when fsts=on", "pcie-root-port"],
    ["a host without nesting", `${FIRST_STAGE} -device vfio-pci,host=DESKTOP,bus=r0,iommufd=i0`, "desktop", "Host IOMMU doesn't support nested translation", "fsts=off"],
  ])("are refused in QEMU's words: %s", (_situation, line, hostName, words, more) => {
    const input = hostInput(hostName) as unknown as { functions: Array<{ address: string; driver: string }> };
    const address = input.functions.find(({ driver }) => driver === "vfio-pci")!.address;
    const refusal = refusalOf(() => build(line.replace("DESKTOP", address), hostName));
    expect(refusal.words).toContain(words);
    expect(refusal.message).toContain(more);
    expect(refusal.message).toMatch(/found: [\s\S]*would work: /);
  });

  it("have room for their BARs above 4 GiB, whatever their size", async () => {
    const { machine } = build(`${FIRST_STAGE} -device vfio-pci,host=0000:98:00.0,bus=r0,iommufd=i0`, HOST);
    machine.start();
    const { pciWindows } = await machine.port().firmware();
    const largest = machine.board.functions.flatMap(({ fn }) => fn.bars).reduce((size, bar) => Math.max(size, bar.size), 0);
    expect(largest).toBe(128 * 2 ** 30);
    expect(pciWindows![1].size).toBeGreaterThanOrEqual(2 * largest);
    const small = build("-M q35 -m 1G -nodefaults -device edu").machine;
    small.start();
    expect((await small.port().firmware()).pciWindows![1]).toEqual({ base: 2 ** 32, size: 32 * 2 ** 30 });
    small.shutdown();
    machine.shutdown();
  });

  it("start as the example has them", () => {
    const words = splitWords(readFileSync(new URL("../../examples/spr-first-stage.args", import.meta.url), "utf8"));
    const { machine, host, log } = build(words.join(" "), HOST);
    machine.start();
    const { iommus } = machine.describe();
    expect(iommus[0].bindings.map(({ function: name, table, hostIommu }) => [name, table, hostIommu])).toEqual([
      ["dlb0", "parent", "dmar1"],
      ["nic1", "parent", "dmar2"],
    ]);
    // Erratum 772415: what its parent leaves out is told.
    const warnings = log.lines.filter(({ level }) => level !== "info").map(({ text }) => text).join("\n");
    expect(warnings).toMatch(/pc\.rom|pc\.bios|read-only/);
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });
});
