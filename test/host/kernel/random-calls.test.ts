/**
 * Random calls with random ids, some with no memory left for tables: every refusal is a HostError, a
 * function's entry is never open, what it reaches is what is mapped, and nothing is left at the end.
 */
import { eventOf } from "../host-event.js";
import { describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HostError, type EventStream, type Iommufd, type VfioDevice } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { createSimulatedHost, describeHost } from "../../../src/host/simulated/index.js";
import { hostInput, invalidate as invalidateVtd, vtdS1 } from "../vtd/rig.js";
import { encodeCommand, Engine, invalidate, makeHost, nestedData } from "./rig.js";

const PAGE = 0x1000;

class Chaos {
  readonly host: SimulatedHost;
  readonly iommufds: Iommufd[] = [];
  readonly devices: Array<{ address: string; device: VfioDevice }> = [];
  private readonly bound = new Map<VfioDevice, Iommufd>();
  readonly streams: EventStream[] = [];
  readonly blocks: RamBlock[] = [];
  /** Ids that calls have given, by iommufd and kind; some of the objects are gone. */
  private readonly ids = new Map<Iommufd, Map<string, number[]>>();
  /** Calls that went well, by kind. */
  readonly done = new Map<string, number>();
  private scarce = false;
  private state: number;
  readonly refusals = new Map<string, number>();

  private readonly addresses: string[];

  constructor(
    private readonly architecture: "SMMUv3" | "VT-d",
    seed: number,
  ) {
    this.state = seed;
    this.host =
      architecture === "SMMUv3"
        ? makeHost({ idr0: 0x0d4c_141b, idr1: 0x0273_0010 | (12 << 6) }, { ats: true, pasidBits: 12 })
        : createSimulatedHost(describeHost(hostInput()));
    this.addresses = [...this.host.hardware.functions.keys()];
    const { memory } = this.host.hardware;
    const allocatePage = memory.allocatePage.bind(memory);
    memory.allocatePage = (bits) => {
      if (this.scarce && this.next(4) === 0) {
        throw new HostError("table memory", "ENOMEM", "made to fail");
      }
      return allocatePage(bits);
    };
  }

  next(below: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 0x1_0000_0000) * below);
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[this.next(from.length)];
  }

  /** Mostly one of the kind that is wanted, sometimes any number. */
  id(fd: Iommufd, ...kinds: string[]): number {
    const known = kinds.flatMap((kind) => this.ids.get(fd)?.get(kind) ?? []);
    return this.next(8) === 0 || known.length === 0 ? this.next(24) : this.pick(known)!;
  }

  /** Notes what a call has given. */
  gave(fd: Iommufd, kind: string, id: number): void {
    const kinds = this.ids.get(fd) ?? new Map<string, number[]>();
    this.ids.set(fd, kinds);
    kinds.set(kind, [...(kinds.get(kind) ?? []).slice(-5), id]);
    this.count(kind);
  }

  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }

  step(): void {
    this.scarce = this.next(5) === 0;
    try {
      this.act();
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.refusals.set(error.errno, (this.refusals.get(error.errno) ?? 0) + 1);
    } finally {
      this.scarce = false;
    }
  }

  private act(): void {
    const { host } = this;
    const open = this.pick(this.devices);
    const fd = (open === undefined ? undefined : this.bound.get(open.device)) ?? this.pick(this.iommufds);
    const what = this.next(25);
    if (what === 0 && this.iommufds.length < 2) {
      this.iommufds.push(host.openIommufd());
    } else if (what === 1 && this.devices.length < 4) {
      const address = this.pick(this.addresses)!;
      this.devices.push({ address, device: host.openDevice(address) });
    } else if (what === 2) {
      if (this.blocks.length < 3) {
        this.blocks.push(host.allocateMemory("block", 0x20_0000));
      } else if (this.next(10) === 0) {
        host.freeMemory(this.blocks.splice(this.next(3), 1)[0]);
      }
    } else if (what === 3 && this.streams.length > 0) {
      this.streams.splice(0, this.next(2)).forEach((stream) => stream.close());
    } else if (fd !== undefined && what < 16) {
      this.actOnIommufd(fd, what);
    } else if (fd !== undefined && open !== undefined) {
      this.actOnDevice(fd, open, what);
    }
  }

  private actOnIommufd(fd: Iommufd, what: number): void {
    const devId = this.id(fd, "device");
    const ioasId = this.id(fd, "ioas");
    if (what === 4) {
      if (this.next(6) === 0) {
        this.gave(fd, "ioas", fd.ioasAlloc());
      }
    } else if (what < 7) {
      const block = this.pick(this.blocks);
      if (block !== undefined) {
        const length = (1 + this.next(0x200)) * PAGE;
        const iova = this.next(4) === 0 ? null : BigInt(this.next(0x800) * PAGE);
        const userAddress = block.hostAddress + this.next(16) * PAGE;
        fd.ioasMap({ ioasId, source: { address: userAddress }, length: BigInt(length), iova, readable: true, writable: this.next(3) > 0 });
        this.count("map");
      }
    } else if (what === 7) {
      fd.ioasUnmap(ioasId, BigInt(this.next(0x800) * PAGE), BigInt(this.next(0x800) * PAGE));
      this.count("unmap");
    } else if (what === 8) {
      const [flags, kind] = this.pick([[0, "plain"], [1, "parent"], [this.isVtd ? 9 : 1, "parent"], [8, "shared"], [this.isVtd ? 11 : 1, "parent"]] as const)!;
      this.gave(fd, kind, fd.hwptAlloc({ flags, devId, ptId: ioasId, dataType: 0, data: new Uint8Array(0) }));
    } else if (this.isVtd && what > 8 && what !== 14) {
      this.actOnVtd(fd, devId, what);
    } else if (what < 11) {
      const data = nestedData({ V: 1, CONFIG: [0, 4, 5, 7][this.next(4)], S1CONTEXTPTR: this.next(64) * PAGE, EATS: this.next(2) });
      this.gave(fd, "nested", fd.hwptAlloc({ flags: 0, devId, ptId: this.id(fd, "viommu"), dataType: 2, data }));
    } else if (what === 11) {
      this.gave(fd, "viommu", fd.viommuAlloc({ type: 1, devId, hwptId: this.id(fd, "parent") }));
    } else if (what === 12) {
      this.gave(fd, "vdevice", fd.vdeviceAlloc({ viommuId: this.id(fd, "viommu"), devId, virtId: BigInt(this.next(4)) }));
    } else if (what === 13) {
      if (this.streams.length < 6) {
        const { id, stream } = fd.veventqAlloc({ viommuId: this.id(fd, "viommu"), type: 1, depth: 1 + this.next(3) });
        this.streams.push(stream);
        this.gave(fd, "veventq", id);
      }
    } else if (what === 14) {
      fd.destroy(this.id(fd, "nested", "nestedPasid", "vdevice", "viommu", "parent", "plain", "shared", "veventq", "ioas"));
      this.count("destroy");
    } else {
      const { handled } = invalidate(fd, this.id(fd, "viommu"), encodeCommand(this.pick([0x10, 0x12, 0x30, 0x46])!, {}), encodeCommand(0x05, { SID: this.next(4) }));
      if (handled > 0) {
        this.count("invalidate");
      }
    }
  }

  private get isVtd(): boolean {
    return this.architecture === "VT-d";
  }

  private actOnVtd(fd: Iommufd, devId: number, what: number): void {
    if (what < 12) {
      const flags = this.next(3) === 0 ? 0 : 8;
      const data = vtdS1(BigInt(this.next(64) * PAGE), this.next(8), [48, 48, 57, 40][this.next(4)]);
      this.gave(fd, flags === 0 ? "nested" : "nestedPasid", fd.hwptAlloc({ flags, devId, ptId: this.id(fd, "parent"), dataType: 1, data }));
    } else if (what === 12) {
      fd.hwptSetDirtyTracking(this.id(fd, "parent"), this.next(2) === 0);
      this.count("dirty tracking");
    } else if (what === 13) {
      if (this.streams.length < 6) {
        this.streams.push(this.host.vtdFaults!.open(fd.fd, devId));
        this.count("faults");
      }
    } else {
      const { handled } = invalidateVtd(fd, this.id(fd, "nested", "nestedPasid"), { addr: BigInt(this.next(64) * PAGE), npages: BigInt(this.next(5)) }, { flags: this.next(3) });
      if (handled > 0) {
        this.count("invalidate");
      }
    }
  }

  private actOnDevice(fd: Iommufd, open: { device: VfioDevice }, what: number): void {
    const { device } = open;
    if (what === 16) {
      this.gave(fd, "device", device.bind(fd.fd));
      this.bound.set(device, fd);
      device.regionWrite(7, 4, Uint8Array.of(6, 0));
    } else if (what === 17) {
      if (this.next(8) === 0) {
        device.close();
        this.devices.splice(this.devices.findIndex((other) => other.device === device), 1);
        this.count("close");
      }
    } else if (what < 21) {
      const kind = this.pick(["nested", this.isVtd ? "nestedPasid" : "nested", "parent", "plain", "ioas", "shared"])!;
      device.attach(this.id(fd, kind));
      this.count(`attach ${kind}`);
    } else if (what === 21) {
      const kind = this.isVtd ? this.pick(["shared", "nestedPasid", "parent"])! : "shared";
      device.attach(this.id(fd, kind), 1 + this.next(3) * 40);
      this.count("attach PASID");
    } else if (what === 22) {
      device.detach(this.next(2) === 0 ? undefined : 1 + this.next(3) * 40);
    } else {
      device.setIrqs(2, this.next(4), this.next(3) === 0 ? [] : [eventOf(() => {}), null]);
      this.count("interrupts");
    }
  }

  /** No entry is ever open, and DMA to where no IOAS maps anything fails. */
  check(): void {
    for (const fn of this.host.hardware.functions.values()) {
      if (fn.smmu === null) {
        continue;
      }
      const entry = fn.smmu.readSte(fn.sourceId);
      const config = (entry[0] >>> 1) & 7;
      expect(entry[0] & 1).toBe(1);
      expect([0, 5, 6, 7]).toContain(config);
    }
    for (const { device } of this.devices) {
      try {
        // Everything is mapped below 24 MiB.
        expect(new Engine(device).write(0x4000_0000 + this.next(1000) * PAGE, Uint8Array.of(1))).toBe(false);
      } catch (error) {
        if (!(error instanceof HostError)) {
          throw error;
        }
      }
    }
  }
}

describe("random calls", () => {
  const seeds = process.env.VIOMMU_FUZZ === "nightly" ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] : [1, 2];
  test.each(seeds.flatMap((seed) => (["SMMUv3", "VT-d"] as const).map((architecture) => [architecture, seed] as const)))("%s, seed %i", (architecture, seed) => {
    const chaos = new Chaos(architecture, seed);
    for (let i = 0; i < (architecture === "VT-d" ? 6000 : 4000); i++) {
      chaos.step();
      if (i % 20 === 0) {
        chaos.check();
      }
    }
    for (const errno of ["ENOENT", "EINVAL", "EBUSY", "EEXIST", "ENOMEM"]) {
      expect(chaos.refusals.get(errno) ?? 0, errno).toBeGreaterThan(0);
    }
    const own = architecture === "SMMUv3" ? ["vdevice", "veventq"] : ["dirty tracking", "faults", "nestedPasid"];
    for (const what of [...own, "nested", "invalidate", "close", "attach nested", "attach parent", "attach ioas", "attach PASID"]) {
      expect(chaos.done.get(what) ?? 0, what).toBeGreaterThan(0);
    }
    chaos.host.kernel.close();
    expect(chaos.host.liveObjects()).toEqual([]);
    for (const account of chaos.host.kernel.smmuAccounts()) {
      expect([account.vmids, account.asids]).toEqual([0, 0]);
    }
    for (const account of chaos.host.kernel.vtdAccounts()) {
      expect([account.domainIds, account.commandErrors]).toEqual([0, 0]);
    }
    chaos.host.close();
    expect(chaos.host.hardware.memory.livePages).toBe(0);
    expect(chaos.host.hardware.memory.liveBlocks).toBe(0);
  });
});
