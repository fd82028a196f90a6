// One IOVA, three address spaces: without a PASID, PASID 1, PASID 2. PASID 3 has none.
import { boot, copyWithin, IOVA, mapPage } from "../boot.mjs";

export default async function pasids(context) {
  const { check, formatEvent } = context.helpers;
  const { kernel, reporter, device } = await boot(context);
  const use = async (pasid, byte) => {
    const domain = pasid === null ? await kernel.useOwnDomain(device) : await kernel.createDomain(device);
    const page = await mapPage(kernel, domain, byte);
    if (pasid !== null) {
      await device.master.attachPasid(pasid, domain);
    }
    const { ok, detail } = await copyWithin(device, IOVA, page, pasid);
    check(ok, detail);
    return `IOVA 0x${IOVA.toString(16)} is guest-physical 0x${page.toString(16)}`;
  };
  await reporter.step("without a PASID", () => use(null, 0x10));
  await reporter.step("PASID 1", () => use(1, 0x11));
  await reporter.step("PASID 2", () => use(2, 0x12));
  await reporter.step("PASID 3, which the guest has not made", async () => {
    const from = device.iommu.events.length;
    await device.dma.transfer({ source: IOVA, destination: IOVA + 2048n, length: 64, pasid: 3 }, 0);
    const event = await kernel.awaitEvent(device.iommu, from, () => true);
    check(event !== null, "expected an event, found none");
    return formatEvent(event);
  });
  return { ...reporter.report(), events: kernel.events };
}
