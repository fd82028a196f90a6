import { describe, expect, it } from "vitest";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { type HostObserver } from "../../src/host/instruments/index.js";
import { type Host, HostError } from "../../src/iommufd/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Board, isSmmu, Machine, type VirtBoard } from "../../src/machine/index.js";
import { GicInterrupts } from "../../src/machine/virt/gic-interrupts.js";
import type { RamBlock } from "../../src/memory/index.js";
import { Log, Refusal } from "../../src/support/index.js";
import { ACCEL, build, type Built, GPU, hostInput } from "./build.js";
import { refusalOf, words } from "./refused.js";

const Q35 =
  "-M q35 -m 1G -nodefaults -object iommufd,id=i0 -object iommufd,id=i1 -device pcie-root-port,id=r0,chassis=1 -device pcie-root-port,id=r1,chassis=2 " +
  "-device vfio-pci,host=0000:97:00.0,id=nic,bus=r0,iommufd=i0 -device vfio-pci,host=0000:6a:01.0,id=dsa,bus=r1,iommufd=i1 -device e1000e -device intel-iommu,device-iotlb=on";

const ECAM = 0x40_1000_0000;
/** Slot Control of the port at 10:00.0 (PCI Express capability at 0x54). */
const SLOT_CONTROL = ECAM + 0x10 * 0x10_0000 + 0x54 + 0x18;
const POWERED_OFF = 0x0700n;

/**
 * Calls whose refusal is a warning, as QEMU has it: a function that cannot be reset is plugged as it is, and one whose
 * errors the host does not tell of is used all the same.
 */
const DONE_WITHOUT = new Set(["VFIO_RESET", "VFIO_SET_IRQS"]);

function running(line: string): Built {
  const built = build(line);
  built.machine.start();
  return built;
}

async function refused(promise: Promise<unknown>): Promise<Refusal> {
  return promise.then(
    () => {
      throw new Error("nothing was refused");
    },
    (error: unknown) => {
      if (error instanceof Refusal) {
        return error;
      }
      throw error;
    },
  );
}

describe("a machine's life", () => {
  it("frees everything at its end, in calls of its own", () => {
    const { machine, host, observer } = running(`${ACCEL} ${GPU}`);
    expect(host.liveObjects().length).toBeGreaterThan(0);
    machine.shutdown();
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
    expect(observer.freed).toBe(observer.created);
  });

  it.each([
    ["virt", `${ACCEL} ${GPU} -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp2,iommufd=iommufd0`, "grace"],
    ["q35, first stage", `${Q35},fsts=on,scalable-mode=on,pasid-bits=8`, "two-socket-spr"],
    ["q35, legacy mode", `${Q35},caching-mode=on`, "two-socket-spr"],
  ])("is built all or not at all, whichever host call is refused: %s", (_name, line, hostName) => {
    const whole = build(line, hostName);
    const calls = [...whole.observer.calls];
    whole.machine.shutdown();
    expect(calls.length).toBeGreaterThan(5);
    for (const [operation, count] of calls) {
      for (let nth = 1; nth <= count; nth++) {
        let observer: HostObserver | null = null;
        let failed: unknown = null;
        try {
          // `build` itself fails where the host has objects left.
          build(line, hostName, (made) => {
            observer = made;
            made.failOn({ operation, nth, errno: "ENOMEM" });
          }).machine.shutdown();
        } catch (error) {
          failed = error;
        }
        expect(failed instanceof Refusal || failed instanceof HostError, `${operation} ${nth}: ${String(failed)}`).toBe(!DONE_WITHOUT.has(operation));
        expect(observer!.clearFailures()).toBe(0);
      }
    }
  });

  it.each(["-M virt -m 64M", "-M q35 -m 4G -object memory-backend-ram,id=a,size=2G -object memory-backend-ram,id=b,size=2G -numa node,memdev=a -numa node,memdev=b"])("gives memory back, whichever piece of it there is none for: %s", (line) => {
    const host = createSimulatedHost(describeHost(hostInput("grace")));
    for (let nth = 1; ; nth++) {
      let asked = 0;
      const taken = new Set<unknown>();
      const short = {
        ...host,
        description: "short",
        functions: () => [],
        allocateMemory: (name: string, bytes: number) => {
          if (++asked === nth) {
            throw new RangeError("no room");
          }
          const block = host.allocateMemory(name, bytes);
          taken.add(block);
          return block;
        },
        freeMemory: (block: RamBlock) => {
          expect(taken.delete(block)).toBe(true);
          host.freeMemory(block);
        },
      } as unknown as Host;
      const make = (): Machine => new Machine(parseArguments(words(`${line} -nodefaults`)), short, new Log());
      if (nth > 4 || (line.includes("virt") && nth > 1)) {
        make().shutdown();
        expect(asked).toBe(nth - 1);
        expect(taken.size).toBe(0);
        break;
      }
      expect(refusalOf(make).words).toMatch(/^cannot set up guest memory '.*': Cannot allocate memory$/);
      expect(taken.size).toBe(0);
    }
    host.close();
  });

  it("leaves no RAM where a board fails before its own part is built", () => {
    class Broken extends Board {
      readonly kind = "virt";
      readonly iommus = [];
      readonly msiDoorbell = null;
      readonly msiController = "none";
      readonly gicVersion = null;
      constructor(host: Host) {
        const { map } = build("-M virt").machine.board as VirtBoard;
        const plan = { map, ramName: "ram", ramSpans: [map.ram], interrupts: new GicInterrupts(new Log()) };
        super(parseArguments(words("-M virt -m 64M")), host, new Log(), {
          ...plan,
          pci: {
            get hostBridge(): never {
              throw new Error("no host bridge");
            },
          },
        });
      }
      override buildTables(): never {
        throw new Error("not asked for");
      }
      override pinPaths(): never {
        throw new Error("not asked for");
      }
    }
    const host = createSimulatedHost(describeHost(hostInput("board")));
    const left: RamBlock[] = [];
    const watched: Host = Object.assign(Object.create(host) as Host, {
      allocateMemory: (name: string, bytes: number) => {
        left.push(host.allocateMemory(name, bytes));
        return left.at(-1)!;
      },
      freeMemory: (block: RamBlock) => void left.splice(left.indexOf(block), 1),
    });
    expect(() => new Broken(watched)).toThrow("no host bridge");
    expect(left).toEqual([]);
  });

  it("frees all the same when the host refuses to free", () => {
    const { machine, host, observer } = running(`${ACCEL} ${GPU}`);
    observer.failOn({ operation: "DESTROY", nth: 1, errno: "EBUSY" });
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("freezes auto properties when it starts: what is plugged later must fit", async () => {
    const { machine } = running(`${ACCEL} ${GPU}`);
    expect(machine.describe().iommus[0].features).toEqual({ stage: "1", ril: true, ats: true, oas: 48, ssidsize: 20, msi: false });
    const refusal = await refused(machine.operator().plug("vfio-pci,host=0008:02:00.0,id=other,bus=rp2,iommufd=iommufd0"));
    expect(refusal.words).toContain("Failed to set vIOMMU");
    expect(machine.running).toBe(true);
    expect(await machine.operator().isPlugged("other")).toBe(false);
    await machine.operator().plug("vfio-pci,host=0009:02:00.0,id=nic0,bus=rp2,iommufd=iommufd0");
    expect(await machine.operator().isPlugged("nic0")).toBe(true);
    machine.shutdown();
  });

  it("takes old machine types' explicit defaults for auto", () => {
    const { machine } = running(`${ACCEL.replace("-M virt", "-M virt-11.0")}`);
    expect(machine.describe().iommus[0].features).toEqual({ stage: "1", ril: true, ats: false, oas: 44, ssidsize: 0, msi: false });
    machine.shutdown();
  });

  it("leaves no function on a guest's table after a reset, and forgets interrupts", async () => {
    const { machine, observer } = running(`${ACCEL} ${GPU}`);
    const order: string[] = [];
    observer.onCall = (operation) => order.push(operation);
    (machine.board as VirtBoard).interrupts.spi(40);
    machine.reset();
    // The function's reset comes before its SMMU's attachments.
    expect(order[0]).toBe("VFIO_RESET");
    expect(machine.board.iommus.filter(isSmmu)[0].acceleration!.describeFunctions()[0].table).toBe("bypass");
    expect(await machine.port().interrupts()).toEqual([]);
    machine.shutdown();
  });
});

describe("hotplug", () => {
  it("asks the guest, and goes when the guest powers the slot off", async () => {
    const { machine, host } = running(`${ACCEL} ${GPU}`);
    const operator = machine.operator();
    let gone = false;
    const asked = operator.requestUnplug("gpu0").then(() => {
      gone = true;
    });
    await machine.port().interrupts();
    expect(gone).toBe(false);
    expect(await operator.isPlugged("gpu0")).toBe(true);
    await machine.port().write(SLOT_CONTROL, 2, POWERED_OFF);
    await asked;
    expect(await operator.isPlugged("gpu0")).toBe(false);
    expect(host.liveObjects()).toEqual([]);
    await operator.plug("vfio-pci,host=0009:01:00.0,id=gpu0,bus=rp1,iommufd=iommufd0");
    expect(machine.describe().functions.find((fn) => fn.id === "gpu0")).toMatchObject({ iommu: "smmu1", host: "0009:01:00.0" });
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("tells who waits that a reset came first", async () => {
    const { machine } = running(`${ACCEL} ${GPU}`);
    const asked = refused(machine.operator().requestUnplug("gpu0"));
    machine.reset();
    expect((await asked).words).toContain("the machine was reset");
    expect(await machine.operator().isPlugged("gpu0")).toBe(true);
    machine.shutdown();
  });

  it("refuses what cannot be, and runs on", async () => {
    const { machine } = running(`${ACCEL} ${GPU} -device virtio-net-pci,id=net0`);
    const operator = machine.operator();
    const rows: Array<[Promise<unknown>, string]> = [
      [operator.plug("arm-smmuv3,primary-bus=pcie.0"), "Device 'arm-smmuv3' does not support hotplugging"],
      [operator.plug("pxb-pcie,bus_nr=32"), "Device 'pxb-pcie' does not support hotplugging"],
      [operator.plug("edu"), "Bus 'pcie.0' does not support hotplugging"],
      [operator.plug("edu,bus=nope"), "Bus 'nope' not found"],
      [operator.plug("edu,id=gpu0,bus=rp2"), "Duplicate ID 'gpu0' for device"],
      [operator.plug("virtio-net-pci,bus=rp2"), "Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on"],
      [operator.plug("vfio-pci,host=0009:02:00.0,bus=rp2"), "vfio-pci endpoint devices without an iommufd backend"],
      [operator.plug("vfio-pci,host=0009:01:00.0,bus=rp2,iommufd=iommufd0"), "vfio 0009:01:00.0: device is already attached"],
      [operator.plug("vfio-pci,foo=1"), "Property 'vfio-pci.foo' not found"],
      [operator.plug(""), "Parameter 'driver' is missing"],
      [operator.requestUnplug("nope"), "Device 'nope' not found"],
      [operator.requestUnplug("net0"), "Bus 'pcie.0' does not support hotplugging"],
    ];
    for (const [promise, expected] of rows) {
      expect((await refused(promise)).words).toContain(expected);
    }
    expect(machine.running).toBe(true);
    machine.shutdown();
  });

  it("leaves nothing of a function whose plugging the host refuses, at any call", async () => {
    const argument = "vfio-pci,host=0009:02:00.0,id=nic0,bus=rp2,iommufd=iommufd0";
    const first = running(`${ACCEL} ${GPU}`);
    const before = new Map(first.observer.calls);
    await first.machine.operator().plug(argument);
    const during = [...first.observer.calls].map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const).filter(([, count]) => count > 0);
    expect(during.length).toBeGreaterThan(3);
    first.machine.shutdown();
    for (const [operation, count] of during.filter(([name]) => !DONE_WITHOUT.has(name))) {
      for (let nth = 1; nth <= count; nth++) {
        const { machine, host, observer } = running(`${ACCEL} ${GPU}`);
        const objects = host.liveObjects().length;
        observer.failOn({ operation, nth, errno: "ENOMEM" });
        const failed = await machine.operator().plug(argument).then(
          () => null,
          (error: unknown) => error,
        );
        expect(failed instanceof Refusal || failed instanceof HostError, `${operation} ${nth}: ${String(failed)}`).toBe(true);
        expect(host.liveObjects().length, operation).toBe(objects);
        expect(machine.board.find("nic0")).toBeNull();
        await machine.operator().plug(argument);
        machine.shutdown();
        expect(host.liveObjects()).toEqual([]);
      }
    }
  });
});

describe("refusals", () => {
  it("say which argument they are about", () => {
    expect(refusalOf(() => build(`${ACCEL} ${GPU} -device edu,id=e,bus=rp2`)).message).toContain("-device edu,id=e,bus=rp2");
    // An SMMU is made with its bus, and refused at its own place.
    expect(refusalOf(() => build(`${ACCEL} -accel tcg`)).message.match(/in -device [^\n ]*/g)).toEqual(["in -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on"]);
  });
});
