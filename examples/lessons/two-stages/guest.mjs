// One page mapped in the guest's own stage 1, and a DMA of the host's function through both stages.
import { boot, copyWithin, IOVA, mapPage } from "../boot.mjs";

export default async function twoStages(context) {
  const { check } = context.helpers;
  const { kernel, reporter, device } = await boot(context);
  await reporter.step("DMA through both stages", async () => {
    const domain = await kernel.useOwnDomain(device);
    const page = await mapPage(kernel, domain, 0x5a);
    const { ok, detail } = await copyWithin(device, IOVA, page);
    check(ok, detail);
    return `IOVA 0x${IOVA.toString(16)} is guest-physical 0x${page.toString(16)}; where that is in the host, the guest is not told`;
  });
  return { ...reporter.report(), events: kernel.events };
}
