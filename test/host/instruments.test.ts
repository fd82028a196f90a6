import { describe, expect, test } from "vitest";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { HostObserver, observeHost, type HostCallFailure } from "../../src/host/instruments/index.js";
import { HostError, HwptAllocFlags } from "../../src/iommufd/index.js";
import { A, bytesOf, encodeCommand, hostDescription } from "../host/kernel/rig.js";
import { OP } from "../../src/smmuv3/spec/index.js";

function observed(...plans: HostCallFailure[]) {
  const observer = new HostObserver();
  const inner = createSimulatedHost(describeHost(hostDescription()));
  plans.forEach((plan) => observer.failOn(plan));
  return { observer, inner, host: observeHost(inner, observer) };
}

const NONE = new Uint8Array(0);

describe("an observed host", () => {
  test("counts calls by the kernel's names, and what is made and freed", () => {
    const { observer, inner, host } = observed();
    const iommufd = host.openIommufd();
    const device = host.openDevice(A);
    const devId = device.bind(iommufd.fd);
    const ioas = iommufd.ioasAlloc();
    const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: ioas, dataType: 0, data: NONE });
    device.attach(parent);
    const viommu = iommufd.viommuAlloc({ type: 1, devId, hwptId: parent });
    const queue = iommufd.veventqAlloc({ viommuId: viommu, type: 1, depth: 4 });
    expect(() => iommufd.destroy(viommu)).toThrow(HostError);
    device.detach();
    queue.stream.close();
    for (const id of [queue.id, viommu, parent, ioas]) {
      iommufd.destroy(id);
    }
    device.close();
    iommufd.close();
    expect(Object.fromEntries(observer.calls)).toEqual({
      VFIO_BIND_IOMMUFD: 1,
      IOAS_ALLOC: 1,
      HWPT_ALLOC: 1,
      VFIO_ATTACH_IOMMUFD_PT: 1,
      VIOMMU_ALLOC: 1,
      VEVENTQ_ALLOC: 1,
      DESTROY: 5,
      VFIO_DETACH_IOMMUFD_PT: 1,
    });
    expect([observer.created, observer.freed, observer.total()]).toEqual([5, 5, 12]);
    expect(observer.live()).toEqual([]);
    inner.close();
  });

  test("fails the n-th call of a kind, or of any, once, with nothing done", () => {
    const { observer, inner, host } = observed(
      { operation: "IOAS_ALLOC", nth: 2, errno: "ENOMEM" },
      { operation: "*", nth: 5, errno: "EIO" },
      { operation: "HWPT_ALLOC", nth: 9, errno: "EIO" },
    );
    const iommufd = host.openIommufd();
    const answers = Array.from({ length: 6 }, () => {
      try {
        return iommufd.ioasAlloc();
      } catch (error) {
        return (error as HostError).errno;
      }
    });
    expect(answers).toEqual([1, "ENOMEM", 2, 3, "EIO", 4]);
    expect(observer.clearFailures()).toBe(1);
    inner.close();
  });

  test("fails an invalidation part-way", () => {
    const { inner, host } = observed({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO", handled: 2, issued: 2 });
    const iommufd = host.openIommufd();
    const devId = host.openDevice(A).bind(iommufd.fd);
    const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: iommufd.ioasAlloc(), dataType: 0, data: NONE });
    const viommu = iommufd.viommuAlloc({ type: 1, devId, hwptId: parent });
    const data = new Uint8Array(48);
    for (let i = 0; i < 3; i++) {
      data.set(bytesOf(encodeCommand(OP.TLBI_NH_ALL, {})), 16 * i);
    }
    const commands = inner.hardware.smmus.get("smmu3.0x0000000009050000")!.counters.commands;
    const before = commands.get(OP.TLBI_NH_ALL) ?? 0;
    const request = { hwptId: viommu, dataType: 1, entryLength: 16, entryCount: 3, data };
    expect(iommufd.hwptInvalidate(request)).toEqual({ errno: "EIO", handled: 2 });
    expect(commands.get(OP.TLBI_NH_ALL)).toBe(before + 2);
    expect(iommufd.hwptInvalidate(request)).toEqual({ errno: null, handled: 3 });
    inner.close();
  });
});
