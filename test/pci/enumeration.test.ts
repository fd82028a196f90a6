import { describe, expect, it } from "vitest";
import { Edu, Nvme, VirtioNetPci } from "../../src/devices/index.js";
import { MemoryRegion } from "../../src/memory/index.js";
import { PciFunction, PcieRootPort, PciePciBridge, plugFunction, PxbPcie, setupIommu, X3130Upstream, Xio3130Downstream, type IommuOps } from "../../src/pci/index.js";
import { Enumerator, type Found } from "./enumerator.js";
import { makeMachine } from "./machine.js";

/** pcie.0: 00 host bridge, 01 root port with a switch of two ports, 02 expander (bus 0x40) with a root port, 03 bridge to PCI, 04 edu. */
function makeTree() {
  const machine = makeMachine();
  const { root } = machine;
  const port = new PcieRootPort({ id: "rp", chassis: 1 });
  plugFunction(port, root.bus, 0x08);
  const upstream = new X3130Upstream({ id: "up" });
  plugFunction(upstream, port.secondary, 0);
  const down0 = new Xio3130Downstream({ id: "d0", chassis: 2 });
  plugFunction(down0, upstream.secondary, null);
  const down1 = new Xio3130Downstream({ id: "d1", chassis: 3 });
  plugFunction(down1, upstream.secondary, null);
  const net = new VirtioNetPci({ id: "net" });
  plugFunction(net, down0.secondary, null);
  const nvme = new Nvme({ id: "nvme" });
  plugFunction(nvme, down1.secondary, null);
  const pxb = new PxbPcie({ id: "pxb", busNr: 0x40 });
  plugFunction(pxb, root.bus, 0x10);
  const pxbPort = new PcieRootPort({ id: "pxbrp", chassis: 4 });
  plugFunction(pxbPort, pxb.expanderBus, 0);
  const far = new Nvme({ id: "far" });
  plugFunction(far, pxbPort.secondary, null);
  const conventional = new PciePciBridge({ id: "pb" });
  plugFunction(conventional, root.bus, 0x18);
  const eduBehind = new Edu({ id: "edu1" });
  plugFunction(eduBehind, conventional.secondary, null);
  const edu = new Edu({ id: "edu0" });
  plugFunction(edu, root.bus, 0x20);
  return { ...machine, port, upstream, down0, down1, net, nvme, pxb, pxbPort, far, conventional, eduBehind, edu };
}

/** 4 MiB of registers that read as their own offset. */
class BigBar extends PciFunction {
  constructor() {
    super("big", "", "endpoint", { vendorId: 0x1234, deviceId: 1, classCode: 0 }, 4096);
    const region = MemoryRegion.mmio("big", 0x40_0000, { read: (offset) => BigInt(offset), write: () => {} });
    this.addBar({ index: 0, size: 0x40_0000, is64: false, prefetchable: false, region });
  }
}

function flatten(found: Found[]): Found[] {
  return found.flatMap((one) => [one, ...flatten(one.children)]);
}

describe("enumeration by a guest", () => {
  it("finds every function, at the address that it numbered", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    const found = flatten(guest.scan(0));
    expect(found.map((f) => `${f.bus}:${f.devfn.toString(16)} ${f.id}`)).toEqual([
      "0:0 1b36:0008",
      "0:8 1b36:000c",
      "1:0 104c:8232",
      "2:0 104c:8233",
      "3:0 1af4:1041",
      "2:8 104c:8233",
      "4:0 1b36:0010",
      "0:10 1b36:000b",
      "0:18 1b36:000e",
      "5:8 1234:11e8",
      "0:20 1234:11e8",
    ]);
    guest.nextBus = 0x41;
    const behind = flatten(guest.scan(0x40));
    expect(behind.map((f) => `${f.bus}:${f.devfn.toString(16)} ${f.id}`)).toEqual(["64:0 1b36:000c", "65:0 1b36:0010"]);
    expect(tree.net.bdfText).toBe("03:00.0");
    expect(tree.far.bdfText).toBe("41:00.0");
    expect(tree.pxb.expanderBus.highestNumber).toBe(0x41);
    expect(tree.root.bus.highestNumber).toBe(5);
  });

  it("sizes BARs as the models have them", () => {
    const tree = makeTree();
    const found = flatten(new Enumerator(tree.memory).scan(0));
    const sizes = (id: string): Array<[number, number]> => found.find((f) => f.id === id)!.bars.map((bar) => [bar.index, bar.size]);
    expect(sizes("1b36:000c")).toEqual([[0, 0x1000]]);
    expect(sizes("1af4:1041")).toEqual([[1, 0x1000], [2, 0x10000], [4, 0x4000]]);
    expect(sizes("1b36:0010")).toEqual([[0, 0x4000], [2, 0x10000]]);
    expect(sizes("1234:11e8")).toEqual([[0, 0x10_0000]]);
  });

  it("reads all ones where nothing is, and past the end of conventional configuration space", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    expect(guest.read(0, 0x30, 0)).toBe(0xffff_ffff);
    expect(guest.read(0, 0x31, 2, 2)).toBe(0xffff);
    expect(guest.read(7, 0, 0, 1)).toBe(0xff);
    guest.scan(0);
    expect(guest.read(0, 0x20, 0x100)).toBe(0xffff_ffff);
    expect(guest.read(5, 8, 0x100)).toBe(0xffff_ffff);
  });

  it("forwards configuration cycles only through bridges whose range covers the bus", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    guest.scan(0);
    expect(guest.read(3, 0, 0)).toBe(0x1041_1af4);
    guest.write(0, 8, 0x1a, 2, 1);
    expect(guest.read(3, 0, 0)).toBe(0xffff_ffff);
    expect(guest.read(2, 0, 0)).toBe(0x8233_104c);
    guest.write(0, 8, 0x1a, 4, 1);
    expect(guest.read(3, 0, 0)).toBe(0x1041_1af4);
    guest.write(2, 0, 0x19, 9, 1);
    guest.write(2, 0, 0x1a, 9, 1);
    expect(guest.read(3, 0, 0)).toBe(0xffff_ffff);
  });

  it("answers 8-byte reads of ECAM with two registers", () => {
    const tree = makeTree();
    expect(tree.root.ecam.read(0, 8)).toBe((0x0000_0000n << 32n) | 0x0008_1b36n);
  });
});

describe("renumbering", () => {
  it("changes requester ids and tells every IOMMU of the hierarchy once a change", () => {
    const tree = makeTree();
    const calls = { a: 0, b: 0 };
    const ops = (name: "a" | "b"): IommuOps => ({ getAddressSpace: () => tree.memory, busNumbersChanged: () => calls[name]++ });
    setupIommu(tree.root.bus, ops("a"));
    setupIommu(tree.pxb.expanderBus, ops("b"));
    const guest = new Enumerator(tree.memory);
    guest.scan(0);
    expect(tree.nvme.requesterId).toBe(0x0400);
    expect(calls.a).toBeGreaterThan(0);
    expect(calls.b).toBe(calls.a);
    calls.a = 0;
    let heard = 0;
    tree.root.onBusNumbersChanged(() => heard++);
    guest.write(2, 8, 0x18, 2 | (0x2a << 8) | (0x2a << 16));
    expect(calls.a).toBe(1);
    expect(heard).toBe(1);
    expect(tree.nvme.requesterId).toBe(0x2a00);
    // Writing the same numbers again is no change.
    guest.write(2, 8, 0x18, 2 | (0x2a << 8) | (0x2a << 16));
    expect(calls.a).toBe(1);
  });

  it("gives functions behind a PCIe-to-PCI bridge the bridge's requester id: secondary bus, function 0", () => {
    const tree = makeTree();
    new Enumerator(tree.memory).scan(0);
    expect(tree.eduBehind.bdf).toBe(0x0508);
    expect(tree.eduBehind.requesterId).toBe(0x0500);
    expect(tree.conventional.requesterId).toBe(0x0018);
    const path = tree.eduBehind.iommuPath;
    expect(path.aliased).toBe(true);
    expect(path.bus).toBe(tree.conventional.secondary);
    expect(path.devfn).toBe(0);
    expect(tree.net.iommuPath.aliased).toBe(false);
  });

  it("hands the aliased place to the IOMMU when it asks for an address space", () => {
    const machine = makeMachine();
    const asked: string[] = [];
    setupIommu(machine.root.bus, {
      getAddressSpace: (bus, devfn) => {
        asked.push(`${bus.id} ${devfn}`);
        return machine.memory;
      },
    });
    const bridge = new PciePciBridge({ id: "pb" });
    plugFunction(bridge, machine.root.bus, 0x18);
    plugFunction(new Edu(), bridge.secondary, 0x10);
    expect(asked).toEqual(["pcie.0 24", "pb 0"]);
  });

  it("takes bus numbers away on reset", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    guest.scan(0);
    tree.root.reset();
    expect(tree.port.secondaryBus).toBe(0);
    expect(guest.read(1, 0, 0)).toBe(0xffff_ffff);
    expect(tree.port.windows()).toEqual([]);
    expect(flatten(guest.scan(0)).length).toBe(11);
  });
});

describe("BARs in the machine's windows", () => {
  it("maps a BAR through three bridges while all of them decode", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    const found = flatten(guest.scan(0));
    const engine = found.find((f) => f.id === "1af4:1041")!.bars.find((bar) => bar.index === 2)!;
    expect(tree.memory.readWord(engine.address, 4)).toBe(0x4d4d_4f49n);
    // Each bridge in turn stops forwarding.
    for (const [bus, devfn] of [[0, 8], [1, 0], [2, 0]]) {
      guest.write(bus, devfn, 4, 0x0004, 2);
      expect(tree.memory.find(engine.address)).toBeNull();
      guest.write(bus, devfn, 4, 0x0006, 2);
      expect(tree.memory.readWord(engine.address, 4)).toBe(0x4d4d_4f49n);
    }
    guest.write(3, 0, 4, 0x0004, 2);
    expect(tree.memory.find(engine.address)).toBeNull();
  });

  it("closes with the window of a bridge on the way, and follows where a BAR is moved to", () => {
    const tree = makeTree();
    const guest = new Enumerator(tree.memory);
    const found = flatten(guest.scan(0));
    const engine = found.find((f) => f.id === "1af4:1041")!.bars.find((bar) => bar.index === 2)!;
    const window = guest.read(1, 0, 0x20);
    guest.write(1, 0, 0x20, 0x0000_fff0);
    expect(tree.memory.find(engine.address)).toBeNull();
    guest.write(1, 0, 0x20, window);
    expect(tree.memory.find(engine.address)).not.toBeNull();
    // Outside of the windows above: nothing.
    guest.write(3, 0, 0x18, 0x3000_0000);
    expect(tree.memory.find(0x3000_0000)).toBeNull();
    expect(tree.memory.find(engine.address)).toBeNull();
  });

  it("takes the prefetchable window above 4 GiB too", () => {
    const machine = makeMachine();
    const port = new PcieRootPort({ id: "rp" });
    plugFunction(port, machine.root.bus, 8);
    const net = new VirtioNetPci({ id: "net" });
    plugFunction(net, port.secondary, 0);
    const guest = new Enumerator(machine.memory);
    guest.write(0, 8, 0x18, 0x0001_0100);
    guest.write(0, 8, 0x24, 0x0001_0001);
    guest.write(0, 8, 0x28, 0x80);
    guest.write(0, 8, 0x2c, 0x80);
    guest.write(0, 8, 4, 6, 2);
    guest.write(1, 0, 0x20, 0x0000_4000);
    guest.write(1, 0, 0x24, 0x80);
    guest.write(1, 0, 4, 6, 2);
    expect(machine.memory.find(0x80_0000_4000)?.region.name).toBe("virtio-net-pci.bar4");
    // A BAR that sticks out of the window answers only inside.
    guest.write(1, 0, 0x24, 0x7f);
    expect(machine.memory.find(0x7f_0000_4000)).toBeNull();
  });

  it("cuts a BAR at the edges of the two windows of a bridge", () => {
    const machine = makeMachine();
    const port = new PcieRootPort({ id: "rp" });
    plugFunction(port, machine.root.bus, 8);
    const fn = new BigBar();
    plugFunction(fn, port.secondary, 0);
    const guest = new Enumerator(machine.memory);
    guest.write(0, 8, 0x18, 0x0001_0100);
    guest.write(0, 8, 0x20, 0x1010_1010);
    guest.write(0, 8, 0x24, 0x1030_1030);
    guest.write(0, 8, 4, 6, 2);
    guest.write(1, 0, 0x10, 0x1000_0000);
    guest.write(1, 0, 4, 6, 2);
    expect(machine.root.mapper.placesOf(fn.bars[0]).map(({ address, size }) => [address, size])).toEqual([
      [0x1010_0000, 0x10_0000],
      [0x1030_0000, 0x10_0000],
    ]);
    // What answers is still the BAR's own offset.
    expect(machine.memory.readWord(0x1030_0010, 4)).toBe(0x30_0010n);
    expect(machine.memory.find(0x1020_0000)).toBeNull();
  });

  it("does not map while sizing, at address 0, or without memory decoding", () => {
    const machine = makeMachine();
    const edu = new Edu();
    plugFunction(edu, machine.root.bus, 8);
    const guest = new Enumerator(machine.memory);
    guest.write(0, 8, 4, 2, 2);
    expect(machine.root.mapper.placesOf(edu.bars[0])).toEqual([]);
    guest.write(0, 8, 0x10, 0xffff_ffff);
    expect(machine.root.mapper.placesOf(edu.bars[0])).toEqual([]);
    guest.write(0, 8, 0x10, 0x1230_0000);
    expect(machine.memory.readWord(0x1230_0000, 4)).toBe(0x010000edn);
    guest.write(0, 8, 4, 0, 2);
    expect(machine.memory.find(0x1230_0000)).toBeNull();
    guest.write(0, 8, 4, 2, 2);
    machine.root.reset();
    expect(machine.memory.find(0x1230_0000)).toBeNull();
  });
});

describe("INTx", () => {
  it("reaches the line that the device numbers on the way give", () => {
    const tree = makeTree();
    const seen: string[] = [];
    tree.root.onInterruptLine = (line, level) => seen.push(`${line}${level ? "+" : "-"}`);
    // edu1: pin A, device 1 on pb (device 3): 0 + 1 + 3 = 4 -> 0. edu0: device 4 -> 0. They share the line.
    tree.eduBehind.mmio.write(0x60, 4, 1n);
    tree.edu.mmio.write(0x60, 4, 1n);
    tree.eduBehind.mmio.write(0x64, 4, 1n);
    expect(seen).toEqual(["0+"]);
    tree.edu.mmio.write(0x64, 4, 1n);
    expect(seen).toEqual(["0+", "0-"]);
    expect(tree.root.interruptLine(tree.nvme)).toBe((0 + 0 + 1 + 0 + 1) & 3);
  });

  it("is held back by command.Interrupt Disable, while the status bit shows it", () => {
    const tree = makeTree();
    const seen: boolean[] = [];
    tree.root.onInterruptLine = (_line, level) => seen.push(level);
    const guest = new Enumerator(tree.memory);
    guest.write(0, 0x20, 4, 0x0400, 2);
    tree.edu.mmio.write(0x60, 4, 1n);
    expect(seen).toEqual([]);
    expect(guest.read(0, 0x20, 6, 2) & 8).toBe(8);
    guest.write(0, 0x20, 4, 0, 2);
    expect(seen).toEqual([true]);
  });
});
