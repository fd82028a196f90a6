// Every DMA-capable function moves 4 KiB through page tables of its own.
//
//     viommu run --guest examples/guests/first-light.mjs -- MACHINE ARGUMENTS
//
export default async function firstLight({ port, say, options, helpers }) {
  const { Kernel, Reporter, Random, makeBuffers, checkTransfer, skip } = helpers;
  const reporter = new Reporter(say);
  const random = new Random(options.seed);
  const kernel = new Kernel(port, { granule: Math.log2(options.granule), firmware: options.firmware });

  await reporter.step("boot", async () => {
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    return `${kernel.iommus.length} IOMMUs, ${kernel.devices.length} functions`;
  });
  for (const device of kernel.devices.filter((candidate) => candidate.dma !== null)) {
    await reporter.step(`${device.fn.ids} at ${device.fn.name}`, async () => {
      if (device.master === null) {
        skip("no SMMU translates it");
      }
      const domain = await kernel.useOwnDomain(device);
      const length = Math.min(4096, device.dma.features.maxLength);
      const limit = Math.min(device.dma.features.addressLimit, 2 ** 32);
      const buffers = await makeBuffers(kernel, random, 4096);
      const source = await domain.mapBuffer(buffers.source, 4096, { read: true }, limit);
      const destination = await domain.mapBuffer(buffers.destination, 4096, { read: true, write: true }, limit);
      reporter.dmaChecked += await checkTransfer(kernel, device.dma, buffers, { source, destination, length });
      return `${length} bytes from IOVA 0x${source.toString(16)} to 0x${destination.toString(16)}`;
    });
  }
  return { ...reporter.report(), events: kernel.events };
}
