/** A machine is asked for everything while its guest works: nothing is thrown, and the guest notices nothing. */
import { describe, expect, it } from "vitest";
import { Kernel } from "../../../src/guest/index.js";
import { cachesReport, queuesReport, registersReport, walkReport } from "../../../src/inspect/state/index.js";
import type { MachinePort } from "../../../src/port/index.js";
import { landing } from "../../guest/landing.js";
import { cold } from "./rigs.js";

/** A prime: the questions come at ever other places of what the guest does over and over. */
const EVERY = process.env.VIOMMU_FUZZ === "nightly" ? 101 : 997;

describe.each(["smmuv3", "vtd"] as const)("a guest at work on a machine of %s", (which) => {
  it("is as it is when nobody looks", async () => {
    const ran = async (asked: boolean): Promise<{ calls: unknown; commands: unknown; places: string[]; asks: number }> => {
      const { machine, host, observer, source, end } = cold(which);
      let accesses = 0;
      let asks = 0;
      const look = (): void => {
        if (asked && ++accesses % EVERY === 0) {
          asks++;
          const map = source.map();
          expect(JSON.parse(JSON.stringify(map))).toEqual(map);
          for (const { id } of source.units()) {
            registersReport(source, id);
          }
          queuesReport(source);
          cachesReport(source);
          for (const fn of map.functions) {
            walkReport(source, { function: fn.function, pasid: asks % 2 === 0 ? null : 1, iova: "0x12340000", access: "write", privileged: false, kind: "untranslated" });
          }
        }
      };
      const port = machine.port();
      const watched: MachinePort = {
        ...port,
        read: async (address, size) => {
          look();
          return port.read(address, size);
        },
        write: async (address, size, value) => {
          await port.write(address, size, value);
          look();
        },
      };
      const kernel = new Kernel(watched, { granule: 12, firmware: which === "smmuv3" ? "dt" : undefined, vtd: {} });
      await kernel.readFirmware();
      await kernel.probeIommus();
      await kernel.enumerate();
      const device = kernel.devices.find(({ dma, streamId }) => dma !== null && streamId === (which === "smmuv3" ? 0x1100 : 0x100))!;
      const { lands, remap } = await landing(kernel, device);
      const places = [await lands(), await lands({ ats: true })];
      await remap();
      places.push(await lands(), await lands({ ats: true }));
      const hardware = [...host.hardware.smmus.values(), ...host.hardware.vtds.values()].map(({ counters }) => ({ ...counters, commands: [...counters.commands] }));
      const result = { calls: [...observer.calls], commands: hardware, places, asks };
      expect(end()).toBe(0);
      return result;
    };
    const alone = await ran(false);
    const watched = await ran(true);
    expect(watched.asks).toBeGreaterThan(2);
    expect({ ...watched, asks: 0 }).toEqual({ ...alone, asks: 0 });
    expect(watched.places).toEqual(["before", "before", "before", "before"]);
  });
});
