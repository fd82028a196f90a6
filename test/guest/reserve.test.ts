import { describe, expect, it } from "vitest";
import { Kernel } from "../../src/guest/index.js";
import { watchSlots } from "../../src/guest/pci/hotplug.js";
import { build } from "../machine/build.js";

/** Plugs into a slot of a machine whose guest runs; gives what the guest found there and the BARs that have no place. */
async function plugLater(line: string, host: string, devices: readonly string[]): Promise<{ added: string[]; unplaced: number; subordinate: number; placed: boolean }> {
  const { machine, host: simulated } = build(line, host);
  machine.start();
  try {
    const kernel = new Kernel(machine.port(), { granule: 12 });
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    const slots = await watchSlots(kernel);
    const added: string[] = [];
    slots.forEach((slot) => (slot.onChange = (change) => added.push(...change.added.map(({ fn }) => fn.ids))));
    const [slot] = slots;
    for (const device of devices) {
      machine.hotplug.plug(device);
      for (let turns = 0; turns < 64; turns++) {
        await kernel.interrupts.poll();
        await slot.service();
      }
    }
    const unplaced = kernel.bridges.flatMap((bridge) => bridge.resources.unplaced).length;
    const { port } = slot;
    const placed = [...port.walk()].flatMap((fn) => fn.bars).every((bar) => bar.cpuAddress !== null);
    return { added, unplaced, subordinate: port.subordinate - port.secondary, placed };
  } finally {
    machine.shutdown();
    expect(simulated.liveObjects()).toEqual([]);
  }
}

const VIRT = "-M virt,gic-version=3 -m 256M -nodefaults -object iommufd,id=iommufd0";
const Q35 = "-M q35 -m 256M -nodefaults -object iommufd,id=iommufd0";
const GPU = "vfio-pci,host=0009:01:00.0,bus=rp,iommufd=iommufd0";

describe("a root port's reserves", () => {
  it("give a function of large BARs that is plugged later its room", async () => {
    // BARs of 128 GiB, 32 MiB and 16 MiB.
    const without = await plugLater(`${VIRT} -device pcie-root-port,id=rp,chassis=1`, "grace", [GPU]);
    expect(without).toMatchObject({ added: ["10de:2342"], placed: false, unplaced: 3 });
    const reserved = await plugLater(`${VIRT} -device pcie-root-port,id=rp,chassis=1,pref64-reserve=160G,mem-reserve=16M`, "grace", [GPU]);
    expect(reserved).toMatchObject({ added: ["10de:2342"], placed: true, unplaced: 0 });
    const memoryAlone = await plugLater(`${VIRT} -device pcie-root-port,id=rp,chassis=1,mem-reserve=16M`, "grace", [GPU]);
    expect(memoryAlone).toMatchObject({ placed: false, unplaced: 2 });
  });

  it("do so on a q35, whose window grows with them", async () => {
    const plug = "vfio-pci,host=0000:98:00.0,bus=rp,iommufd=iommufd0";
    expect(await plugLater(`${Q35} -device pcie-root-port,id=rp,chassis=1`, "two-socket-spr", [plug])).toMatchObject({ placed: false });
    expect(await plugLater(`${Q35} -device pcie-root-port,id=rp,chassis=1,pref64-reserve=160G,mem-reserve=64M`, "two-socket-spr", [plug])).toMatchObject({ placed: true, unplaced: 0 });
  });

  it.each([0, 3])("keep %s bus numbers", async (buses) => {
    const { subordinate } = await plugLater(`${VIRT} -device pcie-root-port,id=rp,chassis=1,bus-reserve=${buses}`, "grace", []);
    expect(subordinate).toBe(buses);
  });
});
