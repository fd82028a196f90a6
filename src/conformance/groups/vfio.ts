/** The function itself: what VFIO tells of it, its regions, resets and features. Registers of the function are never touched. */
import { type IrqInfo, VfioFeature, VfioFeatureFlags, VfioIrq, VfioRegion } from "../../iommufd/index.js";
import type { Bench } from "../bench.js";
import type { Group } from "../group.js";
import { Work } from "../work.js";

const { CONFIG, ROM } = VfioRegion;
const yes = (flag: boolean): string => (flag ? "yes" : "no");

function irqText({ eventfd, maskable, autoMasked, noResize }: IrqInfo): string {
  return `eventfd=${yes(eventfd)} maskable=${yes(maskable)} automasked=${yes(autoMasked)} noresize=${yes(noResize)}`;
}

const information: Group = {
  name: "VFIO information",
  about: "GET_INFO, GET_REGION_INFO, GET_IRQ_INFO",
  run: (bench) => {
    const { device } = new Work(bench);
    bench.call("GET_INFO", () => {
      const { regions, irqs } = device.info();
      return `regions=${regions} irqs=${irqs}`;
    });
    bench.call("the configuration space", () => {
      const { size, readable, writable, areas } = device.regionInfo(CONFIG);
      return `bytes=${size} read=${yes(readable)} write=${yes(writable)} areas=${areas.length}`;
    });
    bench.call("BARs that there are", () => {
      const infos = bars(bench, device);
      return infos.every(({ readable, writable }) => readable && writable) ? "all can be read and written" : "some cannot be read or written";
    });
    bench.call("BARs that there are not", () => {
      const none = [0, 1, 2, 3, 4, 5].map((index) => device.regionInfo(index)).filter(({ size }) => size === 0);
      return none.some(({ readable, writable, areas }) => readable || writable || areas.length > 0) ? "some can be read or written" : "none can be read or written";
    });
    for (const index of [8, 9, 10, 255, 0xffff_ffff]) {
      bench.call(`region ${index}`, () => `bytes=${device.regionInfo(index).size > 0 ? "some" : "none"}`);
    }
    for (const [name, index] of Object.entries(VfioIrq)) {
      bench.call(`interrupts ${name}`, () => irqText(device.irqInfo(index)));
    }
    bench.call("one interrupt each of ERR and REQ", () => yes([VfioIrq.ERR, VfioIrq.REQ].every((index) => device.irqInfo(index).count === 1)));
    for (const index of [5, 6, 255, 0xffff_ffff]) {
      bench.call(`interrupts ${index}`, () => irqText(device.irqInfo(index)));
    }
  },
};

function bars(bench: Bench, device: Work["device"]): Array<ReturnType<Work["device"]["regionInfo"]> & { readonly index: number }> {
  return [0, 1, 2, 3, 4, 5].flatMap((index) => {
    const info = bench.quiet(() => device.regionInfo(index));
    return info === null || info.size === 0 ? [] : [{ ...info, index }];
  });
}

const config: Group = {
  name: "configuration space",
  about: "reads, ends, and writes that reach no register of the function",
  run: (bench) => {
    const { device } = new Work(bench);
    const read = (offset: number, bytes: number): Uint8Array => {
      const out = new Uint8Array(bytes);
      device.regionRead(CONFIG, offset, out);
      return out;
    };
    const value = (offset: number, bytes: number): number => read(offset, bytes).reduceRight((sum, byte) => 256 * sum + byte, 0);
    const write = (offset: number, bytes: number, what: number): void =>
      device.regionWrite(CONFIG, offset, Uint8Array.from({ length: bytes }, (_unused, index) => what / 256 ** index));
    const told = bench.host.functions().find(({ address }) => address === device.address);
    const size = bench.quiet(() => device.regionInfo(CONFIG).size) ?? 256;
    bench.call("the ids are what sysfs tells", () => yes(told !== undefined && value(0, 4) === told.vendorId + 0x1_0000 * told.deviceId));
    bench.call("the class is what sysfs tells", () => yes(told !== undefined && value(8, 4) >>> 8 === told.classCode));
    for (const [offset, bytes] of [[0, 1], [1, 1], [1, 2], [2, 4], [0, 64], [3, 13]] as const) {
      bench.call(`read of ${bytes} at ${offset}`, () => void read(offset, bytes));
    }
    bench.call("read of 0 bytes", () => void read(0, 0));
    bench.call("read of all", () => void read(0, size));
    bench.call("the last word", () => void read(size - 4, 4));
    bench.call("read across the end", () => void read(size - 4, 8));
    bench.call("read at the end", () => void read(size, 4));
    bench.call("read far behind the end", () => void read(0x1_0000, 4));
    bench.call("write across the end", () => write(size - 4, 8, 0));
    bench.call("write at the end", () => write(size, 4, 0));
    const ids = bench.quiet(() => value(0, 4));
    bench.call("write of the ids", () => write(0, 4, 0x1234_5678));
    bench.call("the ids then", () => (value(0, 4) === ids ? "as before" : "written"));
    const revision = bench.quiet(() => value(8, 4));
    bench.call("write of the class", () => write(8, 4, 0xffff_ffff));
    bench.call("the class then", () => (value(8, 4) === revision ? "as before" : "written"));
    // BARs are VFIO's own: the function keeps its addresses (vfio_pci_config.c, vfio_bar_fixup).
    const bar = bars(bench, device)[0];
    if (bar !== undefined) {
      const at = 0x10 + 4 * bar.index;
      const before = bench.quiet(() => value(at, 4)) ?? 0;
      bench.call("a BAR with all bits written tells its size", () => {
        write(at, 4, 0xffff_ffff);
        return yes((~(value(at, 4) & ~0xf) >>> 0) + 1 === Math.min(bar.size, 0x1_0000_0000));
      });
      bench.call("a BAR keeps what it is given", () => {
        write(at, 4, before);
        return yes(value(at, 4) === before);
      });
    }
    bench.call("the interrupt line", () => {
      const before = value(0x3c, 1);
      write(0x3c, 1, 0x5a);
      const written = value(0x3c, 1);
      write(0x3c, 1, before);
      return written === 0x5a ? "written" : "as before";
    });
  },
};

const regions: Group = {
  name: "regions",
  about: "accesses beyond BARs and of regions that there are not",
  run: (bench) => {
    const { device } = new Work(bench);
    const read = (index: number, offset: number, bytes = 4): void => device.regionRead(index, offset, new Uint8Array(bytes));
    const [bar] = bars(bench, device);
    if (bar !== undefined) {
      bench.call("read at the end of a BAR", () => read(bar.index, bar.size));
      bench.call("read far behind the end of a BAR", () => read(bar.index, 2 ** 39));
      bench.call("write at the end of a BAR", () => device.regionWrite(bar.index, bar.size, new Uint8Array(4)));
    }
    const absent = [0, 1, 2, 3, 4, 5].find((index) => bench.quiet(() => device.regionInfo(index).size) === 0);
    if (absent !== undefined) {
      bench.call("read of a BAR that there is not", () => read(absent, 0));
      bench.call("write of a BAR that there is not", () => device.regionWrite(absent, 0, new Uint8Array(4)));
      bench.call("mapping a BAR that there is not", () => (device.regionMap(absent) === null ? "nothing" : "something"));
    }
    if (bench.quiet(() => device.regionInfo(ROM).size) === 0) {
      bench.call("read of a ROM that there is not", () => read(ROM, 0));
    }
    bench.call("write of the ROM", () => device.regionWrite(ROM, 0, new Uint8Array(4)));
    bench.call("read of the VGA region", () => read(8, 0x3c0));
    bench.call("read of region 9", () => read(9, 0));
    bench.call("mapping the configuration space", () => (device.regionMap(CONFIG) === null ? "nothing" : "something"));
    bench.call("mapping region 9", () => (device.regionMap(9) === null ? "nothing" : "something"));
  },
};

const reset: Group = {
  name: "reset",
  about: "VFIO_DEVICE_RESET, attached and not",
  needs: ["reset"],
  run: (bench) => {
    const work = new Work(bench);
    const { device, ioas } = work;
    const command = (): number => {
      const out = new Uint8Array(2);
      device.regionRead(CONFIG, 4, out);
      return out[0] + 256 * out[1];
    };
    bench.call("of a function that is not attached", () => device.reset());
    bench.call("attach the IOAS", () => device.attach(ioas));
    const before = bench.quiet(command);
    bench.call("of a function that is attached", () => device.reset());
    bench.call("the command register then", () => (bench.quiet(command) === before ? "as before" : "changed"));
    bench.call("attach the same again", () => device.attach(ioas));
    const table = bench.id("a table", () => work.table(0));
    bench.call("attach another table", () => device.attach(table));
    bench.call("again", () => device.reset());
    bench.call("detach", () => device.detach());
  },
};

const hotReset: Group = {
  name: "hot reset information",
  about: "GET_PCI_HOT_RESET_INFO, without a reset",
  run: (bench) => {
    const { device, devId } = new Work(bench);
    bench.call("of the function", () => {
      const list = device.hotResetInfo();
      const own = list.find(({ address }) => address === device.address);
      const others = list.filter(({ address }) => address !== device.address);
      const kinds = others.map((one) => (one.devId > 0 ? "bound" : one.devId === 0 ? "owned" : "not owned"));
      return `itself=${own === undefined ? "missing" : own.devId === devId ? "by its id" : "not by its id"} others=${[...new Set(kinds)].sort().join(",") || "none"}`;
    });
  },
};

const features: Group = {
  name: "FEATURE",
  about: "probing each feature, and flags that cannot be",
  run: (bench) => {
    const { device } = new Work(bench);
    const { GET, SET, PROBE } = VfioFeatureFlags;
    const known = [...Object.entries(VfioFeature), ["12", 12], ["13", 13], ["14", 14], ["0xffff", 0xffff]] as ReadonlyArray<readonly [string, number]>;
    for (const [name, feature] of known) {
      for (const [way, flags] of [["PROBE", PROBE], ["PROBE GET", PROBE | GET], ["PROBE SET", PROBE | SET], ["PROBE GET SET", PROBE | GET | SET]] as const) {
        bench.call(`${name} ${way}`, () => device.feature({ feature, flags }));
      }
    }
    const feature = VfioFeature.MIGRATION;
    const give = (name: string, flags: number, bytes: number): void => bench.call(name, () => device.feature({ feature, flags, data: new Uint8Array(bytes) }));
    give("MIGRATION without flags", 0, 8);
    give("MIGRATION GET", GET, 8);
    give("MIGRATION GET of 4 bytes", GET, 4);
    give("MIGRATION SET", SET, 8);
    give("MIGRATION GET SET", GET | SET, 8);
    give("MIGRATION PROBE and an unknown flag", PROBE | 2 ** 19, 8);
    give("MIGRATION GET and an unknown flag", GET | 2 ** 20, 8);
    // A token is of SR-IOV's physical functions; a function that has none refuses before it looks.
    bench.call("PCI_VF_TOKEN SET of 16 bytes", () => device.feature({ feature: VfioFeature.PCI_VF_TOKEN, flags: SET, data: new Uint8Array(16) }));
    bench.call("PCI_VF_TOKEN GET", () => device.feature({ feature: VfioFeature.PCI_VF_TOKEN, flags: GET, data: new Uint8Array(16) }));
    bench.call("LOW_POWER_EXIT SET", () => device.feature({ feature: VfioFeature.LOW_POWER_EXIT, flags: SET }));
    bench.call("DMA_LOGGING_STOP SET", () => device.feature({ feature: VfioFeature.DMA_LOGGING_STOP, flags: SET }));
    bench.call("MIG_DEVICE_STATE GET", () => device.feature({ feature: VfioFeature.MIG_DEVICE_STATE, flags: GET, data: new Uint8Array(8) }));
    bench.call("DMA_BUF SET", () => device.feature({ feature: VfioFeature.DMA_BUF, flags: SET, data: new Uint8Array(32) }));
    bench.call("DMA_BUF GET of region 99", () => {
      const data = new Uint8Array(32);
      data[0] = 99;
      device.feature({ feature: VfioFeature.DMA_BUF, flags: GET, data });
    });
  },
};

export const vfioGroups: readonly Group[] = [information, config, regions, reset, hotReset, features];
