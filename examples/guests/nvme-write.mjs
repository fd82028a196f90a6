// Every NVMe controller's disk: the first block is written, flushed and read back, through page tables of the guest.
//
//     viommu run --host FILE.json --guest examples/guests/nvme-write.mjs examples/nvme-behind-smmu.args
//
export default async function nvmeWrite({ port, say, options, helpers }) {
  const { Kernel, Reporter, nvmeDevices, startNvme, allocateFor, check } = helpers;
  const reporter = new Reporter(say);
  const kernel = new Kernel(port, { granule: Math.log2(options.granule), firmware: options.firmware });

  await reporter.step("boot", async () => {
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    return `${kernel.iommus.length} IOMMUs, ${kernel.devices.length} functions`;
  });
  for (const device of await nvmeDevices(kernel)) {
    await reporter.step(`${device.fn.ids} at ${device.fn.name}`, async () => {
      if (device.master !== null) {
        await kernel.useOwnDomain(device);
      }
      const driver = await startNvme(kernel, device);
      const { data } = await driver.identify(0, 1);
      const bytes = 2 ** data[130];
      const queue = await driver.createQueue(1, 16);
      const buffer = await allocateFor(kernel, device, bytes);
      const text = new TextEncoder().encode(`written through ${device.iommu?.name ?? "no IOMMU"} by ${device.fn.name}`);
      await kernel.memory.write(buffer.physical, text);
      check((await driver.move(queue, true, 0, 1, buffer)) === 0, "the write failed");
      check((await driver.run(queue, { opcode: 0, nsid: 1 })).status === 0, "the flush failed");
      await kernel.memory.write(buffer.physical, new Uint8Array(bytes));
      check((await driver.move(queue, false, 0, 1, buffer)) === 0, "the read failed");
      const found = await kernel.memory.read(buffer.physical, text.length);
      check(found.every((byte, i) => byte === text[i]), "what was read is not what was written");
      reporter.dmaChecked += 2 * bytes;
      await buffer.release();
      await driver.stop();
      return `a block of ${bytes} bytes at IOVA 0x${buffer.address.toString(16)}`;
    });
  }
  return { ...reporter.report(), events: kernel.events, functions: kernel.describeFunctions() };
}
