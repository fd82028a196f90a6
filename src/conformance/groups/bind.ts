/** Binding a function's character device to an iommufd, what works before, and what closing ends. */
import { HwInfoType, HwptAllocFlags, VfioFeature, VfioFeatureFlags, VfioIrq, VfioRegion, ViommuType } from "../../iommufd/index.js";
import type { Group } from "../group.js";
import { NO_FD, U32_MAX, UNKNOWN_ID, Work } from "../work.js";
import { request } from "../raw.js";

const bind: Group = {
  name: "bind",
  about: "BIND_IOMMUFD and what an iommufd tells of a function",
  run: (bench) => {
    const { iommufd } = bench;
    const device = bench.open();
    const devId = bench.id("bind device", () => device.bind(iommufd.fd));
    bench.call("bind the same device through a second fd of its cdev", () => void bench.open().bind(iommufd.fd));
    bench.call("bind with a bad iommufd", () => void bench.open().bind(NO_FD));
    bench.call("GET_HW_INFO data_len 8", () => {
      const { dataLength, type } = iommufd.getHwInfo(devId, { dataLength: 8 });
      return `out len=${dataLength} type=${type}`;
    });
    bench.call("GET_HW_INFO flags=0x80", () => void iommufd.getHwInfo(devId, { flags: 0x80 }));
    const inputType = HwInfoType.TEGRA241_CMDQV;
    bench.call("GET_HW_INFO input type TEGRA241_CMDQV where there is none", () => void iommufd.getHwInfo(devId, { flags: 1, inputType }));
    bench.call("unknown ioctl 0xbf", () => void bench.ioctl(iommufd.fd, request(0xbf), new Uint8Array(8)));
    bench.call("IOAS_ALLOC flags=1", () => void iommufd.ioasAlloc(1));
    bench.call("destroy unknown id", () => iommufd.destroy(77));
    bench.call("destroy the device id", () => iommufd.destroy(devId));
  },
};

const before: Group = {
  name: "before binding",
  about: "calls on a character device that is bound to nothing",
  run: (bench) => {
    const ioas = bench.quiet(() => bench.iommufd.ioasAlloc()) ?? 0;
    const device = bench.open();
    bench.call("attach", () => device.attach(ioas));
    bench.call("attach a PASID", () => device.attach(ioas, 1));
    bench.call("detach", () => device.detach());
    bench.call("GET_INFO", () => void device.info());
    bench.call("GET_REGION_INFO", () => void device.regionInfo(VfioRegion.CONFIG));
    bench.call("read of the configuration space", () => device.regionRead(VfioRegion.CONFIG, 0, new Uint8Array(4)));
    bench.call("GET_IRQ_INFO", () => void device.irqInfo(VfioIrq.MSIX));
    bench.call("SET_IRQS", () => device.setIrqs(VfioIrq.MSIX, 0, []));
    bench.call("RESET", () => device.reset());
    bench.call("GET_PCI_HOT_RESET_INFO", () => void device.hotResetInfo());
    bench.call("FEATURE", () => device.feature({ feature: VfioFeature.MIGRATION, flags: VfioFeatureFlags.PROBE }));
    bench.call("bind to an iommufd that is closed", () => {
      const closed = bench.openIommufd();
      closed.close();
      device.bind(closed.fd);
    });
    bench.call("bind to the character device itself", () => void device.bind(device.fd));
    bench.call("bind to descriptor -1", () => void device.bind(-1));
    bench.call("bind", () => void device.bind(bench.iommufd.fd));
    bench.call("bind again", () => void device.bind(bench.iommufd.fd));
    bench.call("bind to another iommufd", () => void device.bind(bench.openIommufd().fd));
  },
};

const information: Group = {
  name: "GET_HW_INFO",
  about: "lengths, types and ids",
  run: (bench) => {
    const { iommufd, devId, ioas } = new Work(bench);
    const told = (dataLength?: number): string => {
      const info = iommufd.getHwInfo(devId, { dataLength });
      return `len=${info.dataLength} type=${info.type} tail=${info.data.subarray(info.dataLength).every((byte) => byte === 0) ? "zero" : "not zero"}`;
    };
    bench.call("all", () => told());
    bench.call("data_len 0", () => told(0));
    bench.call("data_len 1", () => told(1));
    bench.call("data_len 8 more than there is", () => told(iommufd.getHwInfo(devId, {}).dataLength + 8));
    bench.call("data_len 4096", () => told(4096));
    for (const [name, inputType] of Object.entries(HwInfoType)) {
      bench.call(`input type ${name}`, () => `type=${iommufd.getHwInfo(devId, { flags: 1, inputType }).type}`);
    }
    bench.call("input type AMD", () => `type=${iommufd.getHwInfo(devId, { flags: 1, inputType: 4 }).type}`);
    bench.call("input type 99", () => `type=${iommufd.getHwInfo(devId, { flags: 1, inputType: 99 }).type}`);
    bench.call("flags=2", () => void iommufd.getHwInfo(devId, { flags: 2 }));
    bench.call("of an IOAS", () => void iommufd.getHwInfo(ioas, {}));
    bench.call("of an unknown id", () => void iommufd.getHwInfo(UNKNOWN_ID, {}));
    bench.call("of id 0", () => void iommufd.getHwInfo(0, {}));
  },
};

const destroy: Group = {
  name: "DESTROY",
  about: "objects in use and not, and ids",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, ioas, devId } = work;
    bench.call("id 0", () => iommufd.destroy(0));
    bench.call("id 2^31 - 1", () => iommufd.destroy(0x7fff_ffff));
    bench.call("id 2^32 - 1", () => iommufd.destroy(U32_MAX));
    bench.call("the device", () => iommufd.destroy(devId));
    const spare = bench.id("an IOAS is made", () => iommufd.ioasAlloc());
    bench.call("an IOAS that nobody uses", () => iommufd.destroy(spare));
    bench.call("the same again", () => iommufd.destroy(spare));
    bench.call("its id is used again", () => `${iommufd.ioasAlloc() === spare ? "the same" : "another"} id`);
    const table = bench.id("a table is made", () => work.table(0));
    bench.call("the IOAS of a table", () => iommufd.destroy(ioas));
    bench.call("attach the table", () => device.attach(table));
    bench.call("a table that is attached", () => iommufd.destroy(table));
    bench.call("attach the IOAS", () => device.attach(ioas));
    bench.call("the table after it was replaced", () => iommufd.destroy(table));
    bench.call("the IOAS that is attached", () => iommufd.destroy(ioas));
    bench.call("detach", () => device.detach());
    bench.call("the IOAS, whose own table has gone with its attachment", () => iommufd.destroy(ioas));
    const queue = bench.id("a fault queue is made", () => {
      const { id, stream } = iommufd.faultQueueAlloc();
      bench.keep(stream);
      return id;
    });
    bench.call("a fault queue whose descriptor is open", () => iommufd.destroy(queue));
  },
};

const close: Group = {
  name: "close",
  about: "what the end of a descriptor ends",
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, ioas, devId } = work;
    const parent = bench.id("parent", () => work.table(bench.facts.nesting ? HwptAllocFlags.NEST_PARENT : 0));
    bench.call("attach", () => device.attach(parent));
    bench.call("destroy the table that is attached", () => iommufd.destroy(parent));
    bench.quiet(() => device.close());
    bench.call("destroy it after the device is closed", () => iommufd.destroy(parent));
    bench.call("GET_HW_INFO of the device's id", () => void iommufd.getHwInfo(devId, {}));
    bench.call("destroy the device's id", () => iommufd.destroy(devId));
    const again = bench.open();
    bench.call("bind it again", () => `${again.bind(iommufd.fd) === devId ? "the same" : "another"} id`);
    bench.call("attach it again", () => again.attach(ioas));
    bench.quiet(() => iommufd.close());
    bench.call("detach after the iommufd is closed", () => again.detach());
    bench.call("attach after the iommufd is closed", () => again.attach(ioas));
    bench.call("GET_INFO after the iommufd is closed", () => void again.info());
    bench.quiet(() => again.close());
    const other = bench.openIommufd();
    const third = bench.open();
    bench.call("bind it to another iommufd", () => void third.bind(other.fd));
  },
};

const leftVdevice: Group = {
  name: "close with a vDEVICE",
  about: "a vDEVICE that is left when its function is closed",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, devId } = work;
    const parent = bench.id("parent", () => work.table(HwptAllocFlags.NEST_PARENT));
    const viommu = bench.id("vIOMMU", () => work.viommu(parent, ViommuType.ARM_SMMUV3));
    const vdevice = bench.id("vDEVICE", () => work.vdevice(viommu, 5n));
    bench.call("the vIOMMU while it has a vDEVICE", () => iommufd.destroy(viommu));
    bench.quiet(() => device.close());
    bench.call("destroy the vDEVICE", () => iommufd.destroy(vdevice));
    const again = bench.open();
    let id = 0;
    bench.call("bind again", () => `${(id = again.bind(iommufd.fd)) === devId ? "the same" : "another"} id`);
    bench.call("a vDEVICE of the same virtual id", () => `${work.vdevice(viommu, 5n, id) === vdevice ? "the same" : "another"} id`);
    bench.call("the vIOMMU", () => iommufd.destroy(viommu));
  },
};

export const bindGroups: readonly Group[] = [bind, before, information, destroy, close, leftVdevice];
