/**
 * What a guest sees of the hardware's caches through an accelerated VT-d: it changes a table, and the function goes
 * on by the old one until the descriptor that the architecture names has been through the vIOMMU and the host.
 */
import { afterEach, describe, expect, it } from "vitest";
import { Kernel, descriptor, type Device, type VtdChoice, type VtdDriver } from "../../src/guest/index.js";
import { machineOf } from "./end-to-end.js";
import { IOVA, landing, type Landing } from "./landing.js";

const LINE =
  "-M q35,kernel-irqchip=split -m 1G -nodefaults -device intel-iommu,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,caching-mode=on -object iommufd,id=iommufd0 " +
  "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:97:00.0,bus=rp0,id=nic0,iommufd=iommufd0";
const SID = 0x0100;

let end: () => number = () => 0;
afterEach(() => end());

interface Setup extends Landing {
  readonly kernel: Kernel;
  readonly device: Device;
  readonly driver: VtdDriver;
}

async function setUp(vtd: VtdChoice = {}, line = LINE): Promise<Setup> {
  const made = machineOf("two-socket-spr", line);
  end = made.end;
  const kernel = new Kernel(made.machine.port(), { granule: 12, vtd });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const device = kernel.devices.find((candidate) => candidate.dma !== null)!;
  expect(device.streamId).toBe(SID);
  return { ...(await landing(kernel, device)), kernel, device, driver: device.iommu as VtdDriver };
}

type Sent = readonly [name: string, make: (did: number) => Int32Array];

describe("a page that the guest maps elsewhere", () => {
  it.each<Sent>([
    ["PASID_IOTLB of the page", (did) => descriptor("PASID_IOTLB", { G: 3, DID: did, PASID: 0, AM: 0, IH: 1, ADDR: IOVA })],
    ["PASID_IOTLB of eight pages", (did) => descriptor("PASID_IOTLB", { G: 3, DID: did, PASID: 0, AM: 3, IH: 1, ADDR: IOVA })],
    ["PASID_IOTLB of the PASID", (did) => descriptor("PASID_IOTLB", { G: 2, DID: did, PASID: 0 })],
  ])("is used where it was until %s", async (_name, make) => {
    const { domain, driver, lands, remap } = await setUp();
    expect(await lands()).toBe("before");
    await remap();
    expect(await lands()).toBe("before");
    await driver.invalidate([make(domain.id)]);
    expect(await lands()).toBe("after");
    expect(driver.complaints()).toEqual([]);
  });

  it.each<Sent>([
    ["PASID_IOTLB of another domain", (did) => descriptor("PASID_IOTLB", { G: 2, DID: did + 1, PASID: 0 })],
    ["PASID_IOTLB of another PASID", (did) => descriptor("PASID_IOTLB", { G: 2, DID: did, PASID: 1 })],
    ["PASID_IOTLB of another page", (did) => descriptor("PASID_IOTLB", { G: 3, DID: did, PASID: 0, AM: 0, ADDR: IOVA + 0x1000n })],
    ["DEVICE_TLB", () => descriptor("DEVICE_TLB", { SID, ADDR: IOVA })],
    ["INTERRUPT_ENTRY_CACHE", () => descriptor("INTERRUPT_ENTRY_CACHE")],
  ])("is used where it was after %s", async (_name, make) => {
    const { domain, driver, lands, remap } = await setUp();
    expect(await lands()).toBe("before");
    await remap();
    await driver.invalidate([make(domain.id)]);
    expect(await lands()).toBe("before");
  });

  it("is used where it should be after the driver's own unmap and map, and through a device's own TLB", async () => {
    const { domain, device, after, before, lands } = await setUp();
    expect(device.master?.atsEnabled).toBe(true);
    expect([await lands(), await lands({ ats: true })]).toEqual(["before", "before"]);
    await domain.unmap(IOVA, 0x1000);
    expect([await lands(), await lands({ ats: true })]).toEqual(["fault", "fault"]);
    await domain.map(IOVA, after, 0x1000, { read: true, write: true });
    expect([await lands(), await lands({ ats: true })]).toEqual(["after", "after"]);
    expect(before).not.toBe(after);
  });
});

describe("a PASID entry that the guest writes anew", () => {
  it.each<[string, VtdChoice]>([
    ["in one step", {}],
    ["after the old one has gone", { tearDownPasids: true }],
  ])("leads to the new tables, %s", async (_how, choice) => {
    const { after, device, kernel, lands } = await setUp(choice);
    expect(await lands()).toBe("before");
    const other = await kernel.createDomain(device);
    await other.map(IOVA, after, 0x1000, { read: true, write: true });
    await device.master!.attach(other);
    expect(await lands()).toBe("after");
    await device.master!.attachBlocked();
    expect(await lands()).toBe("fault");
  });

  it("leads to the new tables without caching mode where there was one before", async () => {
    const { after, device, kernel, lands } = await setUp({}, LINE.replace(",caching-mode=on", ""));
    expect(await lands()).toBe("before");
    const other = await kernel.createDomain(device);
    await other.map(IOVA, after, 0x1000, { read: true, write: true });
    await device.master!.attach(other);
    expect(await lands()).toBe("after");
  });

  it("of one PASID leaves the others alone", async () => {
    const { after, before, device, kernel, lands } = await setUp();
    const [one, two] = [await kernel.createDomain(device), await kernel.createDomain(device)];
    await one.map(IOVA, after, 0x1000, { read: true, write: true });
    await two.map(IOVA, before, 0x1000, { read: true, write: true });
    await device.master!.attachPasid(5, one);
    await device.master!.attachPasid(0xffff, one);
    expect([await lands(), await lands({ pasid: 5 }), await lands({ pasid: 0xffff })]).toEqual(["before", "after", "after"]);
    await device.master!.attachPasid(5, two);
    expect([await lands({ pasid: 5 }), await lands({ pasid: 0xffff })]).toEqual(["before", "after"]);
    await device.master!.detachPasid(5);
    expect([await lands(), await lands({ pasid: 5 }), await lands({ pasid: 0xffff })]).toEqual(["before", "fault", "after"]);
  });
});
