/**
 * Bridges that are modelled, and functions that are placed, beside configuration space of QEMU 11.1
 * (devices/qemu-11.1.json); and whose requester ids requests behind conventional bridges have.
 */
import { describe, expect, it } from "vitest";
import { InertFunction, VirtioNetPci } from "../../src/devices/index.js";
import { deviceCatalogue, type FunctionPlace } from "../../src/machine/arguments/index.js";
import { ConventionalPciBridge, I82801b11Bridge, Ioh3420, type PciBus, type PciFunction, PciePciBridge, PcieRootPort, plugFunction, sharersOf } from "../../src/pci/index.js";
import { makeMachine } from "./machine.js";

const catalogue = deviceCatalogue();

/** Dwords that differ from the record, as `offset: ours, QEMU's`. */
function differences(fn: PciFunction, name: string, place: FunctionPlace, skip: readonly number[]): string[] {
  const space = catalogue.find(name)!.space("q35", place);
  if (space === null || typeof space === "string") {
    throw new Error(`${name}: ${String(space)}`);
  }
  expect(fn.config.size).toBe(space.size);
  const hex = (bytes: Uint8Array, at: number): string => Buffer.from(bytes.subarray(at, at + 4)).toString("hex");
  const wrong: string[] = [];
  for (let at = 0; at < space.size; at += 4) {
    // Bytes that belong to no register can be written in QEMU.
    const free = at >= 0x40 && hex(space.image, at) === "00000000" && hex(space.mask, at) === "ffffffff";
    if (!skip.includes(at) && !free) {
      const ours = `${hex(fn.config.bytes, at)} ${hex(fn.config.writable, at)}`;
      const theirs = `${hex(space.image, at)} ${hex(space.mask, at)}`;
      if (ours !== theirs) {
        wrong.push(`${at.toString(16)}: ${ours}, QEMU ${theirs}`);
      }
    }
  }
  return wrong;
}

describe("modelled bridges equal QEMU's", () => {
  const plugged = (make: () => PciFunction): PciFunction => {
    const fn = make();
    plugFunction(fn, makeMachine().root.bus, null);
    return fn;
  };

  it("pci-bridge, but for its hot-plug controller", () => {
    // The controller's BAR, its capability, and the link to it; the chassis is the tool's.
    expect(differences(plugged(() => new ConventionalPciBridge({ id: "b", chassis: 1 })), "pci-bridge", "root", [0x10, 0x14, 0x40, 0x44, 0x48])).toEqual([]);
    expect(differences(plugged(() => new ConventionalPciBridge({ id: "b", chassis: 1, seat: true })), "pci-bridge-seat", "root", [0x10, 0x14, 0x40, 0x44, 0x48])).toEqual([]);
  });

  it("i82801b11-bridge", () => {
    expect(differences(plugged(() => new I82801b11Bridge({ id: "b" })), "i82801b11-bridge", "root", [])).toEqual([]);
  });

  it("ioh3420, but for what all ones leave in the numbers of its messages and in slot control", () => {
    expect(differences(plugged(() => new Ioh3420({ id: "r", chassis: 1 })), "ioh3420", "root", [0x60, 0xa8])).toEqual([]);
  });
});

describe("placed functions equal QEMU's", () => {
  for (const [name, place] of [["qemu-xhci", "port"], ["qemu-xhci", "root"], ["qemu-xhci", "conventional"], ["virtio-scsi-pci", "port"], ["virtio-scsi-pci", "root"], ["VGA", "root"], ["igb", "port"], ["ich9-intel-hda", "root"]] as const) {
    it(`${name}, ${place}`, () => {
      const machine = makeMachine();
      let bus: PciBus = machine.root.bus;
      if (place !== "root") {
        const above = place === "port" ? new PcieRootPort({ id: "p", chassis: 1 }) : new PciePciBridge({ id: "p" });
        plugFunction(above, bus, null);
        bus = above.secondary;
      }
      const space = catalogue.find(name)!.space("q35", place);
      if (space === null || typeof space === "string") {
        throw new Error(String(space));
      }
      const fn = new InertFunction(name, { id: "f", space });
      plugFunction(fn, bus, null);
      // Device control offers the reset that it has.
      const express = fn.config.bytes[0x34] === 0 ? [] : [...space.image.keys()].filter((at) => at % 4 === 0);
      const reset = express.filter((at) => fn.config.bytes[at] === 0x10 && fn.registers.some((part) => part.offset === at + 8)).map((at) => at + 8);
      expect(differences(fn, name, place, reset)).toEqual([]);
    });
  }

  it("read as zero behind their BARs, but for the MSI-X table", () => {
    const space = catalogue.find("qemu-xhci")!.space("q35", "root");
    const fn = new InertFunction("qemu-xhci", { space: space as Exclude<typeof space, string | null> });
    plugFunction(fn, makeMachine().root.bus, null);
    expect(fn.bars.map(({ index, size, is64 }) => [index, size, is64])).toEqual([[0, 0x4000, true]]);
    const { handler } = fn.bars[0].region;
    // 16 vectors at 0x3000, each masked after reset.
    handler!.write(0, 4, 0xffff_ffffn);
    handler!.write(0x3000, 4, 0xfee0_0000n);
    expect([0, 0x3000, 0x300c, 0x30fc, 0x3100].map((at) => handler!.read(at, 4))).toEqual([0n, 0xfee0_0000n, 1n, 1n, 0n]);
  });
});

describe("requests from behind conventional bridges", () => {
  it("have the bridge's own requester id, or the secondary bus's behind a PCI Express one", () => {
    const { root } = makeMachine();
    const bridge = new ConventionalPciBridge({ id: "b", chassis: 1 });
    plugFunction(bridge, root.bus, 0x18);
    bridge.configWrite(0x18, 4, 0x0005_0500);
    const inner = new ConventionalPciBridge({ id: "c", chassis: 2 });
    plugFunction(inner, bridge.secondary, 0x20);
    inner.configWrite(0x18, 4, 0x0006_0605);
    const deep = new VirtioNetPci({ id: "deep" });
    plugFunction(deep, inner.secondary, 0x08);
    expect([bridge.requesterId, inner.requesterId, deep.requesterId]).toEqual([0x0018, 0x0018, 0x0018]);
    expect(sharersOf(root.bus, 0x18).map(({ label }) => label)).toEqual(["pci-bridge 'c'", "virtio-net-pci 'deep'"]);

    const port = new PcieRootPort({ id: "p", chassis: 1 });
    plugFunction(port, root.bus, 0x28);
    port.configWrite(0x18, 4, 0x0008_0700);
    const express = new PciePciBridge({ id: "e" });
    plugFunction(express, port.secondary, 0);
    express.configWrite(0x18, 4, 0x0008_0807);
    const old = new ConventionalPciBridge({ id: "o", chassis: 3 });
    plugFunction(old, express.secondary, 0x10);
    old.configWrite(0x18, 4, 0x0009_0908);
    const last = new VirtioNetPci({ id: "last" });
    plugFunction(last, old.secondary, 0);
    // As it leaves the last conventional bridge on its way up.
    expect(last.requesterId).toBe(0x0800);
    expect(last.iommuPath.aliased).toBe(true);
  });
});
