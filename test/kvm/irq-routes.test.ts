import { describe, expect, it } from "vitest";
import { CAP, type GsiRoute, IrqRoutes, type KvmMessage } from "../../src/kvm/index.js";
import { SystemError } from "../../src/linux/index.js";

/** A kernel that keeps what it was told: the last table, and each call in words. */
class Kernel {
  readonly calls: string[] = [];
  table = new Map<number, GsiRoute>();
  readonly irqfds = new Map<number, number>();
  refuseTables = false;
  refuseFd = -1;
  most = 4096;

  extension(capability: number): number {
    return capability === CAP.IRQ_ROUTING ? this.most : 0;
  }

  setRoutes(routes: ReadonlyMap<number, GsiRoute>): void {
    this.calls.push(`routes ${[...routes.keys()].join(",")}`);
    if (this.refuseTables) {
      throw new SystemError("ioctl(KVM_SET_GSI_ROUTING)", 22);
    }
    this.table = new Map(routes);
  }

  bindIrq(fd: number, gsi: number, resampleFd: number | null = null): void {
    this.calls.push(`bind ${fd} to ${gsi}${resampleFd === null ? "" : `, resampled by ${resampleFd}`}`);
    if (fd === this.refuseFd) {
      throw new SystemError("ioctl(KVM_IRQFD)", 16);
    }
    this.irqfds.set(fd, gsi);
  }

  unbindIrq(fd: number, gsi: number): void {
    this.calls.push(`unbind ${fd} from ${gsi}`);
    expect(this.irqfds.get(fd)).toBe(gsi);
    this.irqfds.delete(fd);
  }
}

const message = (data: number, deviceId?: number): KvmMessage => ({ address: 0x809_0040n, data, ...(deviceId === undefined ? {} : { deviceId }) });

function routes(pins = 24): { kernel: Kernel; routes: IrqRoutes; refused: number[] } {
  const kernel = new Kernel();
  const made = new IrqRoutes(kernel, pins);
  const refused: number[] = [];
  made.onRefused = (fd) => refused.push(fd);
  return { kernel, routes: made, refused };
}

describe("a VM's GSIs", () => {
  it("a descriptor's message is in the table before the descriptor is bound; a new one is another table and no other binding", () => {
    const { kernel, routes: made } = routes();
    expect(made.bindMessage(70, message(5, 0x900))).toBe(true);
    made.bindMessage(70, message(5, 0x900));
    made.bindMessage(70, message(6, 0xa00));
    expect(kernel.calls).toEqual(["routes 24", "bind 70 to 24", "routes 24"]);
    expect(kernel.table.get(24)).toEqual({ address: 0x809_0040n, data: 6, deviceId: 0xa00 });
  });

  it("several changes are one table", () => {
    const { kernel, routes: made } = routes();
    made.batch(() => {
      [70, 71, 72].forEach((fd, n) => made.bindMessage(fd, message(n)));
      expect(kernel.calls).toEqual([]);
    });
    expect(kernel.calls).toEqual(["routes 24,25,26", "bind 70 to 24", "bind 71 to 25", "bind 72 to 26"]);
  });

  it("pins and messages are in one table; a GSI that is free again is used again", () => {
    const { kernel, routes: made } = routes();
    made.bindMessage(70, message(1));
    made.setPins([null, message(9), null]);
    expect([...kernel.table.keys()].sort()).toEqual([1, 24]);
    made.unbind(70);
    expect(kernel.calls.slice(-1), "a route that nobody raises goes with the next table").toEqual(["unbind 70 from 24"]);
    made.bindMessage(71, message(2));
    expect(kernel.irqfds).toEqual(new Map([[71, 24]]));
    made.setPins([null, null, null]);
    expect([...kernel.table]).toEqual([[24, message(2)]]);
  });

  it("a level is a pin of the interrupt controller, which several descriptors may share", () => {
    const { kernel, routes: made } = routes(256);
    made.bindLevel(70, 80, 3);
    made.bindLevel(71, 81, 3);
    expect(kernel.calls).toEqual(["routes 3", "bind 70 to 3, resampled by 80", "bind 71 to 3, resampled by 81"]);
    expect(kernel.table.get(3)).toEqual({ pin: 3 });
    made.unbind(70);
    expect(kernel.table.size).toBe(1);
    made.unbind(71);
    expect(kernel.table.size).toBe(0);
  });

  it("what the kernel refuses is bound no more, and the others are", () => {
    const { kernel, routes: made, refused } = routes();
    made.bindMessage(70, message(1));
    kernel.refuseTables = true;
    expect(made.bindMessage(71, message(2))).toBe(false);
    expect(made.bindMessage(70, message(3))).toBe(false);
    expect([refused, [...kernel.irqfds.keys()]]).toEqual([[71, 70], []]);
    kernel.refuseTables = false;
    kernel.refuseFd = 72;
    made.batch(() => [72, 73].forEach((fd) => made.bindMessage(fd, message(fd))));
    expect([refused, [...kernel.irqfds.keys()]]).toEqual([[71, 70, 72], [73]]);
  });

  it("ends where the kernel's table does", () => {
    const { kernel, routes: made } = routes();
    kernel.most = 25;
    expect([made.bindMessage(70, message(1)), made.bindMessage(71, message(2))]).toEqual([true, false]);
  });

  it("is closed with no descriptor bound", () => {
    const { kernel, routes: made } = routes();
    made.bindMessage(70, message(1));
    made.bindLevel(71, 81, 0);
    made.close();
    expect(kernel.irqfds.size).toBe(0);
  });
});
