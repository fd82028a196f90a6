// One page mapped, one DMA that reaches it, one that finds nothing.
import { boot, copyWithin, IOVA, mapPage, NOWHERE } from "../boot.mjs";

export default async function oneStage(context) {
  const { check, formatEvent } = context.helpers;
  const { kernel, reporter, device } = await boot(context);
  let page;
  await reporter.step("DMA through a page that is mapped", async () => {
    const domain = await kernel.useOwnDomain(device);
    page = await mapPage(kernel, domain, 0x5a);
    const { ok, detail } = await copyWithin(device, IOVA, page);
    check(ok, detail);
    return `IOVA 0x${IOVA.toString(16)} is guest-physical 0x${page.toString(16)}`;
  });
  await reporter.step("DMA to where nothing is mapped", async () => {
    const from = device.iommu.events.length;
    await copyWithin(device, NOWHERE, page);
    const event = await kernel.awaitEvent(device.iommu, from, () => true);
    check(event !== null, "expected an event, found none");
    return formatEvent(event);
  });
  return { ...reporter.report(), events: kernel.events };
}
