// What the guests of the lessons have in common: a boot, and one function with a domain of its own.
//
// Resolves to the kernel, the reporter and the first function that does DMA behind an IOMMU.

/** What every lesson maps: one page of data at this IOVA. */
export const IOVA = 0x12345000n;

/** Nothing is mapped here. */
export const NOWHERE = 0x7000_0000n;

export async function boot({ port, say, options, helpers }) {
  const { Kernel, Reporter, check } = helpers;
  const reporter = new Reporter(say);
  const kernel = new Kernel(port, { granule: Math.log2(options.granule), firmware: options.firmware });
  let device;
  await reporter.step("boot", async () => {
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    device = kernel.devices.find((candidate) => candidate.dma !== null && candidate.master !== null);
    check(device !== undefined, "no function behind an IOMMU does DMA");
    return `${device.fn.name} is StreamID 0x${device.streamId.toString(16)}`;
  });
  return { kernel, reporter, device };
}

/** A domain in which one page at IOVA leads to a page of RAM that holds `byte` everywhere. */
export async function mapPage(kernel, domain, byte) {
  const page = kernel.memory.allocate(4096);
  await kernel.memory.write(page, new Uint8Array(4096).fill(byte));
  await domain.map(IOVA, page, 4096, { read: true, write: true });
  return page;
}

/** The function copies 64 bytes from one IOVA to 2 KiB behind it, in the same page. Resolves to how that ended. */
export function copyWithin(device, iova, page, pasid = null) {
  return device.dma.transfer({ source: iova, destination: iova + 2048n, length: 64, pasid }, page + 2048);
}
