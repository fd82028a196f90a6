/**
 * Configuration space of every model beside that of QEMU 11.1.3 (qemu-config.json: read through ECAM of
 * `-machine virt,accel=qtest`; per dword the value after reset, after writing all ones, after writing zero).
 * What differs on purpose is listed, with the reason.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { E1000e, Edu, IommuTestdev, Nvme, VirtioBlkPci, VirtioNetPci } from "../../src/devices/index.js";
import {
  GpexHostBridge,
  PcieRootPort,
  PciePciBridge,
  type PciFunction,
  plugFunction,
  PxbPcie,
  X3130Upstream,
  Xio3130Downstream,
} from "../../src/pci/index.js";
import { makeMachine } from "./machine.js";

const qemu = JSON.parse(readFileSync(new URL("./qemu-config.json", import.meta.url), "utf8")) as Record<string, Record<string, string[]>>;

function range(from: number, to: number): string[] {
  const list: string[] = [];
  for (let at = from; at < to; at += 4) {
    list.push(at.toString(16));
  }
  return list;
}

const differences: Record<string, { reason: string; at: string[] }[]> = {
  "pcie-pci-bridge": [
    { reason: "no standard hotplug controller: its BAR, its capability, and the link to it", at: ["10", "14", "40", "44", "48"] },
    { reason: "the MSI masks are one bit, for the one vector that there is", at: ["9c"] },
  ],
  "pcie-root-port": [
    { reason: "link state changes are reported, as PCIe asks of a port that reports an active link (7.5.3.10)", at: ["6c"] },
  ],
  "xio3130-downstream": [
    { reason: "link state changes are reported", at: ["a8"] },
    { reason: "a link of some speed and width; QEMU's has speed 0", at: ["9c"] },
  ],
  "virtio-net-pci": [
    { reason: "no virtio registers, so no virtio capabilities", at: [...range(0x84, 0xdc), "dc"] },
    { reason: "the DMA engine's BAR, and its capability at the end of the list", at: ["18", "40"] },
    { reason: "no option ROM", at: ["30"] },
  ],
  "virtio-blk-pci": [
    { reason: "no virtio registers, so no virtio capabilities", at: [...range(0x84, 0xdc), "dc"] },
    { reason: "the DMA engine's BAR, and its capability at the end of the list", at: ["18", "40"] },
  ],
  nvme: [
    { reason: "the DMA engine's BAR, and its capability at the end of the list", at: ["18", "50", "54", "58", "60"] },
    { reason: "a function level reset clears device control too (PCIe 6.6.2)", at: ["88"] },
  ],
  e1000e: [
    { reason: "the DMA engine's BAR, and its capability at the end of the list", at: ["20", "a0", "b0", "b4", "b8"] },
    { reason: "no option ROM", at: ["30"] },
    { reason: "the serial number is made of the MAC address", at: ["144"] },
  ],
};

const makers: Record<string, (systemMemory: ReturnType<typeof makeMachine>) => { fn: PciFunction; place: () => void }> = {};

function model(name: string, make: (machine: ReturnType<typeof makeMachine>) => PciFunction, on: "root" | "port" | "switch"): void {
  makers[name] = (machine) => {
    const fn = make(machine);
    return {
      fn,
      place: () => {
        if (on === "root") {
          plugFunction(fn, machine.root.bus, null);
          return;
        }
        const port = new PcieRootPort({ id: "above", chassis: 99 });
        plugFunction(port, machine.root.bus, null);
        if (on === "port") {
          plugFunction(fn, port.secondary, 0);
          return;
        }
        const upstream = new X3130Upstream({ id: "switch" });
        plugFunction(upstream, port.secondary, 0);
        plugFunction(fn, upstream.secondary, 0);
        plugFunction(new VirtioNetPci(), fn.secondaryBuses[0], 0);
      },
    };
  };
}
model("gpex-root", () => new GpexHostBridge(), "root");
model("pxb-pcie", () => new PxbPcie({ id: "pxb", busNr: 0x20 }), "root");
model("edu", () => new Edu({ id: "edu" }), "root");
model("iommu-testdev", (machine) => new IommuTestdev({ systemMemory: machine.memory }), "root");
model("pcie-pci-bridge", () => new PciePciBridge({ id: "bridge" }), "port");
model("x3130-upstream", () => new X3130Upstream({ id: "up" }), "port");
model("xio3130-downstream", () => new Xio3130Downstream({ id: "down", chassis: 9 }), "switch");
model("nvme", () => new Nvme(), "port");
model("e1000e", () => new E1000e(), "port");
model("virtio-net-pci", () => new VirtioNetPci(), "port");
model("virtio-blk-pci", () => new VirtioBlkPci(), "port");

function compare(name: string, fn: PciFunction): string[] {
  const skip = new Set((differences[name] ?? []).flatMap((d) => d.at));
  const wrong: string[] = [];
  const hex8 = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
  const last = fn.config.size;
  for (let at = 0; at < last; at += 4) {
    const key = at.toString(16);
    const expected = qemu[name][key] ?? ["00000000"];
    if (skip.has(key)) {
      continue;
    }
    const before = hex8(fn.configRead(at, 4));
    if (before !== expected[0]) {
      wrong.push(`${key}: ${before}, QEMU ${expected[0]}`);
    }
    if (expected.length === 3) {
      fn.configWrite(at, 4, 0xffff_ffff);
      const ones = hex8(fn.configRead(at, 4));
      fn.configWrite(at, 4, 0);
      const zeros = hex8(fn.configRead(at, 4));
      fn.configWrite(at, 4, parseInt(before, 16));
      if (ones !== expected[1] || zeros !== expected[2]) {
        wrong.push(`${key}: all ones ${ones}, zero ${zeros}; QEMU ${expected[1]}, ${expected[2]}`);
      }
    }
  }
  return wrong;
}

describe("configuration space equals QEMU's", () => {
  for (const [name, maker] of Object.entries(makers)) {
    it(name, () => {
      const machine = makeMachine();
      const { fn, place } = maker(machine);
      place();
      expect(compare(name, fn)).toEqual([]);
    });
  }

  it("pcie-root-port, with a function in its slot", () => {
    const machine = makeMachine();
    const port = new PcieRootPort({ id: "r1", chassis: 1, slot: 1 });
    port.multifunction = true;
    plugFunction(port, machine.root.bus, 64);
    plugFunction(new VirtioNetPci(), port.secondary, 0);
    expect(compare("pcie-root-port", port)).toEqual([]);
  });
});
