import { describe, expect, it } from "vitest";
import { HostError, type HostObserver } from "../../src/iommufd/index.js";
import type { VirtBoard } from "../../src/machine/index.js";
import { Refusal } from "../../src/support/index.js";
import { ACCEL, build, type Built, GPU } from "./build.js";
import { refusalOf } from "./refused.js";

const ECAM = 0x40_1000_0000;
/** Slot Control of the port at 10:00.0 (PCI Express capability at 0x54). */
const SLOT_CONTROL = ECAM + 0x10 * 0x10_0000 + 0x54 + 0x18;
const POWERED_OFF = 0x0700n;

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

  it("is built all or not at all, whichever host call is refused", () => {
    const line = `${ACCEL} ${GPU} -device vfio-pci,host=0009:02:00.0,id=nic0,bus=rp2,iommufd=iommufd0`;
    const whole = build(line);
    const calls = [...whole.observer.calls];
    whole.machine.shutdown();
    expect(calls.length).toBeGreaterThan(5);
    for (const [operation, count] of calls) {
      for (let nth = 1; nth <= count; nth++) {
        let observer: HostObserver | null = null;
        let failed: unknown = null;
        try {
          // `build` itself fails where the host has objects left.
          build(line, "grace", (made) => {
            observer = made;
            made.failOn({ operation, nth, errno: "ENOMEM" });
          }).machine.shutdown();
        } catch (error) {
          failed = error;
        }
        expect(failed instanceof Refusal || failed instanceof HostError, `${operation} ${nth}: ${String(failed)}`).toBe(true);
        expect(observer!.clearFailures()).toBe(0);
      }
    }
  });

  it("frees all the same when the host refuses to free", () => {
    const { machine, host, observer } = running(`${ACCEL} ${GPU}`);
    observer.failOn({ operation: "DESTROY", nth: 1, errno: "EBUSY" });
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("freezes auto properties when it starts: what is plugged later must fit", async () => {
    const { machine } = running(`${ACCEL} ${GPU}`);
    expect(machine.describe().iommus[0].features).toEqual({ stage: "1", ril: true, ats: true, oas: 48, ssidsize: 20 });
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
    expect(machine.describe().iommus[0].features).toEqual({ stage: "1", ril: true, ats: false, oas: 44, ssidsize: 0 });
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
    expect(machine.board.smmus.all[0].acceleration!.describeFunctions()[0].table).toBe("bypass");
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
    // A device that cannot be reset is plugged as it is, with a warning (as QEMU has it).
    for (const [operation, count] of during.filter(([name]) => name !== "VFIO_RESET")) {
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
