import { describe, expect, it } from "vitest";
import { Nvme } from "../../src/devices/index.js";
import { AddressSpace, type DmaSpace, MemoryRegion } from "../../src/memory/index.js";
import { type DoorbellWrite, type InterruptSink, type InterruptSource, ItsDoorbell, type KernelRoutes, MsiRouter } from "../../src/msi/index.js";
import { type IommuOps, PcieRootPort, PciRoot, plugFunction, setupIommu } from "../../src/pci/index.js";
import { Log } from "../../src/support/index.js";

const DOORBELL = 0x0809_0040;
const IOVA = 0xffff_f040n;

/** An eventfd with a descriptor: a count, and who takes it. */
class Event implements InterruptSource {
  count = 0;
  private listener: (() => void) | null = null;

  constructor(readonly fd: number | null) {}

  signal(): void {
    this.count++;
    this.drain();
  }

  onSignal(listener: (() => void) | null): void {
    this.listener = listener;
    this.drain();
  }

  get watched(): boolean {
    return this.listener !== null;
  }

  private drain(): void {
    if (this.listener !== null && this.count > 0) {
      this.count = 0;
      this.listener();
    }
  }
}

class Kernel implements KernelRoutes {
  onRefused: (fd: number) => void = () => {};
  readonly messages = new Map<number, DoorbellWrite>();
  readonly levels = new Map<number, { resampleFd: number; line: number }>();
  batches = 0;

  bindMessage(fd: number, write: DoorbellWrite): boolean {
    if (write.address !== DOORBELL) {
      this.messages.delete(fd);
      return false;
    }
    this.messages.set(fd, write);
    return true;
  }

  bindLevel(fd: number, resampleFd: number, line: number): boolean {
    this.levels.set(fd, { resampleFd, line });
    return true;
  }

  unbind(fd: number): void {
    this.messages.delete(fd);
    this.levels.delete(fd);
  }

  batch(change: () => void): void {
    this.batches++;
    change();
  }
}

function machine(ops: Partial<IommuOps> = {}) {
  const log = new Log();
  const interrupts: string[] = [];
  const sink: InterruptSink = {
    message: (deviceId, eventId) => void interrupts.push(`${deviceId.toString(16)}:${eventId}`),
    spi: (intid) => void interrupts.push(`spi ${intid}`),
  };
  const system = MemoryRegion.container("system", 2 ** 52);
  system.add(0x0809_0000, MemoryRegion.mmio("its", 0x1_0000, new ItsDoorbell(sink, log)));
  const memory = new AddressSpace("memory", system);
  const root = new PciRoot({ systemMemory: memory });
  let translations = 0;
  const pages = new Map<bigint, number>();
  const space: DmaSpace = {
    name: "translated",
    kind: "iommu",
    read: () => -1,
    write: () => -1,
    translate: (iova) => {
      translations++;
      const page = pages.get(iova >> 12n);
      return page === undefined ? null : page + Number(iova & 0xfffn);
    },
  };
  setupIommu(root.bus, { getAddressSpace: () => space, ...ops });
  const port = new PcieRootPort({ id: "rp" });
  plugFunction(port, root.bus, 8);
  root.configWrite(8, 0x18, 4, 0x0005_0500);
  const fn = new Nvme({ id: "nvme0" });
  plugFunction(fn, port.secondary, 0);
  const router = new MsiRouter(memory, log, (of) => root.interruptLine(of));
  root.onBusNumbersChanged(() => router.renew());
  return { log, interrupts, memory, root, pages, fn, router, kernel: new Kernel(), translations: () => translations };
}

const direct: Partial<IommuOps> = { getMsiDirectGpa: () => DOORBELL };

describe("a vector whose event has a descriptor", () => {
  it("is the kernel's where there is one, by the doorbell that the IOMMU tells: its tables are not looked at", () => {
    const { router, kernel, fn, interrupts, translations } = machine(direct);
    router.connect(kernel);
    const event = new Event(70);
    expect(router.update(fn, 0, IOVA, 7, event)).toMatchObject({ doorbell: DOORBELL, direct: true });
    expect([...kernel.messages]).toEqual([[70, { address: DOORBELL, data: 7, requesterId: 0x500 }]]);
    event.signal();
    expect([interrupts, event.count, event.watched], "its signals are the kernel's to take").toEqual([[], 1, false]);
    // The guest has moved its mapping of the doorbell, and the function has been reset in between.
    router.remove(fn, 0);
    expect(kernel.messages.size).toBe(0);
    router.update(fn, 0, 0x1234_0040n, 9, event);
    expect([kernel.messages.get(70)?.data, translations()]).toEqual([9, 0]);
  });

  it("is delivered here where the kernel has no such message, and where the event has no descriptor", () => {
    const { router, kernel, fn, interrupts, pages } = machine();
    router.connect(kernel);
    const inProcess = new Event(null);
    pages.set(0xffff_fn, 0x0809_0000);
    router.update(fn, 0, IOVA, 7, inProcess);
    inProcess.signal();
    expect([interrupts, kernel.messages.size]).toEqual([["500:7"], 0]);
    const event = new Event(71);
    router.update(fn, 1, 0xdead_0000n, 8, event);
    expect([event.watched, kernel.messages.size]).toEqual([true, 0]);
    router.update(fn, 1, IOVA, 8, event);
    expect([event.watched, kernel.messages.get(71)?.data]).toEqual([false, 8]);
    // The guest writes another address: not the kernel's any more.
    router.update(fn, 1, 0xdead_0000n, 8, event);
    expect([event.watched, kernel.messages.size]).toEqual([true, 0]);
  });

  it("waits in its count while the kernel's machine is made anew, and is lost in neither direction", () => {
    const { router, kernel, fn, interrupts } = machine(direct);
    const event = new Event(70);
    router.update(fn, 0, IOVA, 7, event);
    event.signal();
    expect(interrupts, "no processors of a kernel: here").toEqual(["500:7"]);
    router.connect(kernel);
    router.disconnect();
    expect(kernel.messages.size).toBe(0);
    event.signal();
    router.update(fn, 0, IOVA, 8, event);
    event.signal();
    expect([interrupts.length, event.count]).toEqual([1, 2]);
    const next = new Kernel();
    router.connect(next);
    expect([next.messages.get(70)?.data, event.count, event.watched]).toEqual([8, 2, false]);
  });

  it("has the requester id of the moment: a bus with a new number is a new route", () => {
    const { router, kernel, fn, root } = machine(direct);
    router.connect(kernel);
    router.update(fn, 0, IOVA, 7, new Event(70));
    root.configWrite(8, 0x18, 4, 0x0009_0900);
    expect(kernel.messages.get(70)?.requesterId).toBe(0x900);
  });

  it("comes back here where the kernel refuses it later", () => {
    const { router, kernel, fn, interrupts } = machine(direct);
    router.connect(kernel);
    const event = new Event(70);
    router.update(fn, 0, IOVA, 7, event);
    event.signal();
    kernel.messages.clear();
    kernel.onRefused(70);
    expect(interrupts).toEqual(["500:7"]);
  });

  it("of several that go together is one change", () => {
    const { router, kernel, fn } = machine(direct);
    router.connect(kernel);
    [0, 1, 2].forEach((vector) => router.update(fn, vector, IOVA, vector, new Event(70 + vector)));
    kernel.batches = 0;
    router.removeAll(fn);
    expect([kernel.batches, kernel.messages.size]).toEqual([1, 0]);
  });
});

describe("INTx with an event for its end", () => {
  function level(made: ReturnType<typeof machine>, fds: readonly [number | null, number | null]) {
    const events = fds.map((fd) => new Event(fd));
    const told: string[] = [];
    made.router.addLevel({ fn: made.fn, event: events[0], resample: fds[1] === null ? null : events[1], onRise: () => told.push("rise"), onReturned: () => told.push("returned") });
    return { event: events[0], told };
  }

  it("is the kernel's line, which this process has no turn for", () => {
    const made = machine();
    made.router.connect(made.kernel);
    const { event, told } = level(made, [70, 80]);
    event.signal();
    expect([[...made.kernel.levels], told]).toEqual([[[70, { resampleFd: 80, line: made.root.interruptLine(made.fn) }]], []]);
    made.router.removeLevel(made.fn);
    expect(made.kernel.levels.size).toBe(0);
  });

  it.each([{ fds: [null, null] as const }, { fds: [70, null] as const }])("is driven here where one of them has no descriptor: $fds", ({ fds }) => {
    const made = machine();
    made.router.connect(made.kernel);
    const { event, told } = level(made, fds);
    event.signal();
    expect([told, made.kernel.levels.size]).toEqual([["rise"], 0]);
  });

  it("leaves the kernel where a function of this process drives the same line: an end of one would lower the other", () => {
    const made = machine();
    made.router.connect(made.kernel);
    const { event, told } = level(made, [70, 80]);
    made.router.lineDriven((made.root.interruptLine(made.fn) + 1) & 3);
    expect(made.kernel.levels.size).toBe(1);
    made.router.lineDriven(made.root.interruptLine(made.fn));
    expect([made.kernel.levels.size, told]).toEqual([0, ["returned"]]);
    event.signal();
    expect(told).toEqual(["returned", "rise"]);
    level(made, [71, 81]);
    expect(made.kernel.levels.size, "and stays out of it").toBe(0);
  });
});
