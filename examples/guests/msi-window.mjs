// What the reserved window is for: a message of a function behind an accelerated SMMU goes through the guest's
// tables like any write. A guest that does not map 0x8000000..0x80fffff one to one gets a fault, not an interrupt.
//
//     viommu run --guest examples/guests/msi-window.mjs -- MACHINE ARGUMENTS
//
export default async function msiWindow({ port, say, options, helpers }) {
  const { Kernel, Reporter, check, formatEvent, skip } = helpers;
  const reporter = new Reporter(say);
  const kernel = new Kernel(port, { granule: Math.log2(options.granule), firmware: options.firmware });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const device = kernel.devices.find((candidate) => candidate.dma?.features.raises && kernel.windowsOf(candidate).length > 0);

  let interrupts = 0;
  const raiseWith = async (identityWindows) => {
    const domain = await kernel.createDomain(device, { identityWindows });
    await device.master.attach(domain);
    await kernel.setUpMessages(device, [() => interrupts++]);
    const from = device.iommu.events.length;
    await device.dma.raise(0);
    await kernel.interrupts.waitFor(() => interrupts > 0 || device.iommu.events.length > from);
    return device.iommu.events.slice(from);
  };
  await reporter.step("a message without the window", async () => {
    if (device === undefined) {
      skip("no function's firmware tables announce a window");
    }
    const [event] = await raiseWith(false);
    check(interrupts === 0 && event !== undefined, `expected a fault and no interrupt, found ${interrupts} interrupts`);
    return formatEvent(event);
  });
  await reporter.step("the same with the window", async () => {
    if (device === undefined) {
      skip("no function's firmware tables announce a window");
    }
    const events = await raiseWith(true);
    check(interrupts === 1 && events.length === 0, `expected one interrupt and no event, found ${interrupts} and ${events.length}`);
    return "one interrupt";
  });
  return { ...reporter.report(), events: kernel.events };
}
