// A driver's mistake: the page is taken out of the tables, and nobody tells the hardware.
import { boot, copyWithin, IOVA, mapPage } from "../boot.mjs";

export default async function staleTlb(context) {
  const { check } = context.helpers;
  const { kernel, reporter, device } = await boot(context);
  let domain;
  let page;
  await reporter.step("DMA through a page that is mapped", async () => {
    domain = await kernel.useOwnDomain(device);
    page = await mapPage(kernel, domain, 0x5a);
    const { ok, detail } = await copyWithin(device, IOVA, page);
    check(ok, detail);
    return `IOVA 0x${IOVA.toString(16)} is guest-physical 0x${page.toString(16)}`;
  });
  await reporter.step("unmap, without CMD_TLBI_NH_VA", async () => {
    // What domain.unmap does, less its invalidations.
    await domain.table.unmap(IOVA, 4096, { page: async () => {}, walk: async () => {} });
    return "the leaf is gone from the tables";
  });
  await reporter.step("the same DMA again", async () => {
    const { ok, detail } = await copyWithin(device, IOVA, page);
    check(ok, `expected it to go on by the cached translation, found ${detail}`);
    return "it still reaches the page, which the guest takes for free";
  });
  return { ...reporter.report(), events: kernel.events };
}
