// A message is a write: without a mapping of the doorbell it ends at the SMMU.
import { boot } from "../boot.mjs";

export default async function msiFault(context) {
  const { check, formatEvent } = context.helpers;
  const { kernel, reporter, device } = await boot(context);
  await reporter.step("a message, and no mapping of the doorbell", async () => {
    let interrupts = 0;
    const domain = await kernel.createDomain(device, { identityWindows: false });
    await device.master.attach(domain);
    await kernel.setUpMessages(device, [() => interrupts++]);
    const from = device.iommu.events.length;
    await device.dma.raise(0);
    const event = await kernel.awaitEvent(device.iommu, from, () => true);
    check(event !== null && interrupts === 0, `expected an event and no interrupt, found ${interrupts} interrupts`);
    return formatEvent(event);
  });
  return { ...reporter.report(), events: kernel.events };
}
