import { afterEach, describe, expect, it } from "vitest";
import { CallCounter, countCalls } from "../../../src/host/instruments/index.js";
import { createSimulatedHost, describeHost } from "../../../src/host/simulated/index.js";
import { inspectMachine } from "../../../src/inspect/machine/index.js";
import { parseArguments } from "../../../src/machine/arguments/index.js";
import { Machine } from "../../../src/machine/index.js";
import { Log } from "../../../src/support/index.js";
import { build, hostInput } from "../../machine/build.js";
import { splitWords } from "../../../src/machine/arguments/index.js";
import { cold, running, SMMU_LINE, VTD_LINE } from "./rigs.js";

let end: () => number = () => 0;
afterEach(() => {
  expect(end()).toBe(0);
  end = () => 0;
});

const GPU = { function: "gpu0", host: "0008:01:00.0", iommu: "smmu1", vendorId: 0x10de, deviceId: 0x2342, classCode: 0x030200, label: "GPU 0", ats: true, pasid: true, iommufd: "iommufd0", ioas: 2, parentHwpt: 3 };

describe("the map of a machine with SMMUs", () => {
  it("has its functions before the guest has said anything: all bypasses", () => {
    const made = cold("smmuv3");
    end = made.end;
    const map = made.source.map();
    expect(map.machine).toMatchObject({ type: "virt-11.1", iommus: [{ id: "smmu1" }, { id: "smmu0" }] });
    expect(map.functions.map(({ function: name, bdf, streamId, label }) => [name, bdf, streamId, label])).toEqual([
      ["pcie.1", "00:01.0", 8, "Host bridge"],
      ["rp1", "10:00.0", 0x1000, "PCI bridge"],
      ["gpu0", "00:00.0", null, "GPU 0"],
      ["test0", "00:02.0", 0x10, "device of class 0x00ff00"],
    ]);
    expect(map.functions[2]).toEqual({ ...GPU, bdf: "00:00.0", streamId: null, vdevice: null });
    expect(map.attachments).toEqual([
      { function: "gpu0", pasid: null, table: "bypass", hwpt: 6, reason: "SMMUEN is 0 and GBPA.ABORT is 0 (IHI 0070, 6.3.14)" },
      { function: "test0", pasid: null, table: "software", hwpt: null, reason: "an emulated function: the model of smmu0 translates its requests" },
    ]);
  });

  it("has the guest's table with its reason, and every object of the host", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    const map = rig.source.map();
    expect(map.functions[2]).toEqual({ ...GPU, bdf: "11:00.0", streamId: 0x1100, vdevice: 8 });
    expect(map.attachments[0]).toEqual({ function: "gpu0", pasid: null, table: "nested", hwpt: 9, reason: "the entry of StreamID 0x1100 has Config 0b101: stage 1 translates (IHI 0070, 5.2)" });
    const iommufd = "iommufd0";
    expect(map.tables).toEqual([
      { iommufd, id: 2, kind: "ioas", on: null, what: "address space smmuv3-accel-as-sysmem", iommu: "smmu1" },
      { iommufd, id: 3, kind: "hwpt-paging", on: 2, what: "parent", iommu: "smmu1" },
      { iommufd, id: 4, kind: "viommu", on: 3, what: "smmu3.0x0000000011600000", iommu: "smmu1" },
      { iommufd, id: 5, kind: "hwpt-nested", on: 4, what: "abort", iommu: "smmu1" },
      { iommufd, id: 6, kind: "hwpt-nested", on: 4, what: "bypass", iommu: "smmu1" },
      { iommufd, id: 7, kind: "veventq", on: 4, what: null, iommu: "smmu1" },
      { iommufd, id: 8, kind: "vdevice", on: 4, what: "vSID 0x1100", iommu: "smmu1" },
      { iommufd, id: 9, kind: "hwpt-nested", on: 4, what: "nested", iommu: "smmu1" },
    ]);
    rig.machine.reset();
    expect(rig.source.map().attachments[0]).toMatchObject({ table: "bypass", reason: "SMMUEN is 0 and GBPA.ABORT is 0 (IHI 0070, 6.3.14)" });
  });

  it("says why a function is blocked, in the account's words", async () => {
    const rig = await running("smmuv3");
    end = rig.end;
    await rig.kernel.port.write(rig.kernel.smmus[0].steAddress(0x1100), 8, 1n);
    await rig.kernel.smmus[0].commands.issueAndSync(3, { SID: 0x1100, LEAF: 1 });
    const { attachments, machine } = rig.source.map();
    expect(attachments[0]).toEqual({ function: "gpu0", pasid: null, table: "abort", hwpt: 5, reason: "the entry of StreamID 0x1100 has Config 0b000: abort (IHI 0070, 5.2)" });
    expect(machine?.iommus[0].bindings[0].reason).toBe(attachments[0].reason);
  });

  it("has the host's IOMMUs with what they offer, functions, ports and windows", () => {
    const input = hostInput("grace");
    const made = build(SMMU_LINE, {
      ...input,
      functions: input.functions.map((fn) => (fn.address === "0008:01:00.0" ? { ...fn, name: "<b>GPU</b>", group: 7, upstream: ["0008:00:00.0"], reserved: [{ base: "0x8000000", size: "1M", type: "msi" }] } : fn)),
      smmus: input.smmus.map((smmu, i) => (i === 0 ? { ...smmu, errata: ["nvidia-t264-smmu-3"] } : i === 2 ? { ...smmu, idr0: null } : smmu)),
    });
    end = () => {
      made.machine.shutdown();
      const left = made.host.liveObjects().length;
      made.host.close();
      return left;
    };
    const { host, functions } = inspectMachine(made.machine).map();
    expect([host.description, host.kernel]).toEqual(["simulated: grace", "7.3"]);
    expect(host.iommus[0]).toEqual({
      id: "smmu3.0x0000000005600000",
      architecture: "smmuv3",
      features: {
        stages: "1, 2",
        oas: "48",
        granules: "4K, 16K, 64K",
        sidsize: "24",
        ssidsize: "20",
        ats: "on",
        pri: "off",
        ril: "on",
        httu: "access flag and dirty state",
        streamTable: "two levels",
        stalls: "terminate",
      },
      numaNode: 0,
      errata: ["nvidia-t264-smmu-3"],
    });
    expect(host.iommus[2]).toMatchObject({ id: "smmu3.0x0000000012600000", features: {} });
    expect(host.unknown).toContain("what smmu3.0x0000000012600000 offers: no function behind it is the machine's");
    expect(host.functions[0]).toEqual({
      address: "0008:01:00.0",
      vendorId: 0x10de,
      deviceId: 0x2342,
      classCode: 0x030200,
      driver: "vfio-pci",
      iommu: "smmu3.0x0000000011600000",
      group: 7,
      numaNode: 0,
      upstream: ["0008:00:00.0"],
      label: "<b>GPU</b>",
      reserved: [{ base: "0x8000000", size: "0x100000", kind: "msi" }],
    });
    expect(host.functions[1].reserved).toEqual([{ base: "0x8000000", size: "0x100000", kind: "msi" }]);
    expect(functions.find(({ function: name }) => name === "gpu0")?.label).toBe("<b>GPU</b>");
  });
});

describe("the map of a machine with a VT-d", () => {
  it("has its functions before translation is on, and on the guest's tables", async () => {
    const made = cold("vtd");
    expect(made.source.map().attachments).toEqual([
      { function: "nic0", pasid: null, table: "parent", hwpt: 3, reason: "GSTS.TES is 0: requests are not translated (Intel VT-d 11.4.4.2)" },
      { function: "edu0", pasid: null, table: "software", hwpt: null, reason: "an emulated function: the model of iommu0 translates its requests" },
    ]);
    expect(made.end()).toBe(0);
    const rig = await running("vtd");
    end = rig.end;
    const { attachments, tables, host } = rig.source.map();
    expect(attachments[0]).toEqual({ function: "nic0", pasid: null, table: "nested", hwpt: 4, reason: "the PASID entry 0 of source id 0x100 has PGTT 0b001: the first stage translates (Intel VT-d 9.6)" });
    expect(tables.map(({ id, kind, on, what }) => [id, kind, on, what])).toEqual([
      [2, "ioas", null, "address space memory"],
      [3, "hwpt-paging", 2, "parent"],
      [4, "hwpt-nested", 3, "nested"],
    ]);
    expect(host.iommus[1]).toMatchObject({ id: "dmar1", architecture: "vtd", features: { nesting: "on", pasidBits: "20", sagaw: "48, 57", cachingMode: "off" }, errata: ["772415"] });
    expect(host.functions[0].reserved).toEqual([{ base: "0xfee00000", size: "0x100000", kind: "msi" }]);
  });

  it("has a mirror of the guest's second stage with its IOAS", async () => {
    const rig = await running("vtd", VTD_LINE.replace("scalable-mode=on,fsts=on,pasid-bits=16,", ""));
    end = rig.end;
    const { attachments, tables } = rig.source.map();
    expect(attachments[0]).toMatchObject({ table: "shadow", reason: "the context entry of source id 0x100 has second-stage tables, which are mirrored (Intel VT-d 9.3)" });
    const [mirror] = tables.filter(({ what }) => what === "mirror");
    expect(tables.find(({ on }) => on === mirror.id)).toMatchObject({ id: attachments[0].hwpt, kind: "hwpt-paging", what: "mirror" });
  });
});

describe("asking for the map", () => {
  it("makes no call of the host, and leaves its objects as they are", () => {
    const simulated = createSimulatedHost(describeHost(hostInput("grace")));
    const counter = new CallCounter(true);
    const machine = new Machine(parseArguments(splitWords(SMMU_LINE, "test")), countCalls(simulated, counter), new Log());
    machine.start();
    const source = inspectMachine(machine);
    const before = JSON.stringify([[...counter.calls], counter.live()]);
    source.map();
    expect(JSON.stringify([[...counter.calls], counter.live()])).toBe(before);
    machine.shutdown();
    simulated.close();
  });

  it("tells functions without an id apart by their places", () => {
    const made = cold("smmuv3", SMMU_LINE.replace(",id=gpu0", "").replace(",id=test0", "").replace(",id=smmu0", ""));
    end = made.end;
    expect(made.source.map().functions.map((fn) => fn.function)).toEqual(["pcie.1", "rp1", "00:00.0", "00:02.0"]);
  });
});
