import { describe, expect, it } from "vitest";
import { type Device, type DmaDevice, type GuestContext, type GuestReport, Kernel } from "../../src/guest/index.js";
import { loadHost } from "../../src/host/shipped/index.js";
import { runMachine, type RunReport } from "../../src/run/index.js";

const NOTHING: GuestReport = { steps: [], dmaChecked: 0, events: [], ok: true };
const GRACE =
  "-M virt,accel=kvm,gic-version=3,highmem-mmio-size=1T -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,accel=on,ril=auto,ats=auto,oas=auto,ssidsize=auto " +
  "-device pcie-root-port,id=rp0,bus=pcie.1,chassis=1 -device vfio-pci,host=0009:01:00.0,id=gpu0,bus=rp0,iommufd=iommufd0 " +
  "-device pcie-root-port,id=rp1,chassis=2 -device e1000e,id=net0,bus=rp1";
const Q35 = (properties: string): string =>
  `-M q35,accel=kvm,kernel-irqchip=split -m 512M -nodefaults -object iommufd,id=iommufd0 -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on${properties} ` +
  "-device pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=97:00.0,id=one,bus=rp1,iommufd=iommufd0 -device pcie-root-port,id=rp2,chassis=2 -device vfio-pci,host=97:00.1,id=two,bus=rp2,iommufd=iommufd0,x-no-mmap=on";

type Played = Device & { dma: DmaDevice };

async function run(line: string, host: string, play: (kernel: Kernel, first: Played, second: Device) => Promise<void>): Promise<RunReport> {
  const guest = async (context: GuestContext): Promise<GuestReport> => {
    const kernel = new Kernel(context.port, { granule: 12, firmware: "acpi" });
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    const [first, second] = kernel.devices.filter((device): device is Played => device.dma !== null);
    await play(kernel, first, second);
    return NOTHING;
  };
  return runMachine({ arguments: line.split(" "), host: await loadHost(host), guest: { name: "test", run: guest } });
}

/** A write to the other's first BAR, at a page of its own. */
async function writeTo(kernel: Kernel, { dma, fn }: Played, destination: bigint, pasid: number | null = null): Promise<void> {
  const source = await kernel.memory.allocate(4096);
  const outcome = await dma.transfer({ source: BigInt(source), destination, length: 64, pasid }, source);
  expect([fn.name, outcome.ok]).toEqual([fn.name, false]);
}

const peerToPeer = (report: RunReport): string[] => report.warnings.filter((text) => text.includes("peer-to-peer"));

describe("peer-to-peer DMA, which no mapping serves", () => {
  it.each([
    ["an accelerated SMMU", GRACE, "grace", /^peer-to-peer DMA of vfio-pci 'gpu0' to BAR \d of e1000e 'net0' is not served/],
    ["an intel-iommu that lets it pass", Q35(",caching-mode=on"), "two-socket-spr", /^peer-to-peer DMA of vfio-pci 'one' to BAR \d of vfio-pci 'two' is not served/],
  ])("is told once, with both functions, behind %s", async (_what, line, host, expected) => {
    const report = await run(line, host, async (kernel, a, b) => {
      const [first, second] = a.master !== null && b.fn.bars.length > 0 ? [a, b] : [b as Played, a];
      const requester = first.streamId === null ? (second as Played) : first;
      const target = requester === first ? second : first;
      await requester.master!.attachIdentity();
      const bar = target.fn.bars.find((one) => one.cpuAddress !== null)!;
      for (let i = 0; i < 3; i++) {
        await writeTo(kernel, requester, BigInt(bar.cpuAddress!));
      }
    });
    expect(report.failure).toBeNull();
    expect(peerToPeer(report)).toHaveLength(1);
    expect(peerToPeer(report)[0]).toMatch(expected);
  });

  it("is told of tables of the guest's, too, where the host tells no address; an IOVA without a mapping is no such thing", async () => {
    const report = await run(Q35(",caching-mode=on"), "two-socket-spr", async (kernel, first, second) => {
      const domain = await kernel.useOwnDomain(first);
      const bar = second.fn.bars.find((one) => one.cpuAddress !== null)!;
      const source = await kernel.memory.allocate(4096);
      await domain.map(0x5000_0000n, source, 4096, { read: true });
      await domain.map(0x5001_0000n, bar.cpuAddress!, 4096, { read: true, write: true });
      for (const destination of [0x5001_0000n, 0x6000_0000n]) {
        expect((await first.dma.transfer({ source: 0x5000_0000n, destination, length: 64 }, source)).ok).toBe(false);
      }
    });
    expect(peerToPeer(report)).toHaveLength(1);
    expect(peerToPeer(report)[0]).toMatch(/^DMA of vfio-pci 'one' to IOVA 0x50010000 comes to a guest-physical address without memory/);
  });
});

describe("an entry of which nobody told", () => {
  it("is bound after the function's first request was refused, with caching-mode=on named", async () => {
    const report = await run(Q35(""), "two-socket-spr", async (kernel, device) => {
      const [source, destination] = [await kernel.memory.allocate(4096), await kernel.memory.allocate(4096)];
      const domain = await kernel.useOwnDomain(device);
      await domain.map(0x5000_0000n, source, 4096, { read: true });
      await domain.map(0x5001_0000n, destination, 4096, { read: true, write: true });
      // Bus mastering stays on: nothing tells that the entry is there again.
      await device.master!.attachBlocked();
      await device.master!.attach(domain);
      const request = { source: 0x5000_0000n, destination: 0x5001_0000n, length: 64 };
      expect((await device.dma.transfer(request, source)).ok).toBe(false);
      expect((await device.dma.transfer(request, source)).ok).toBe(true);
    });
    expect(report.failure).toBeNull();
    expect(report.warnings).toContainEqual(expect.stringMatching(/^intel-iommu 'iommu0': DMA of vfio-pci \S+ .*was refused although the guest's tables have an entry for it, .*: caching-mode=on would work$/));
  });
});

describe("a PASID of which nobody told", () => {
  it("is bound after its first request was refused, with caching-mode=on named", async () => {
    const play = async (kernel: Kernel, device: Played): Promise<void> => {
      const [source, destination] = [await kernel.memory.allocate(4096), await kernel.memory.allocate(4096)];
      const domain = await kernel.createDomain(device);
      await domain.map(0x5000_0000n, source, 4096, { read: true });
      await domain.map(0x5001_0000n, destination, 4096, { read: true, write: true });
      await device.dma.refresh();
      await device.master!.attachPasid(3, domain);
      const request = { source: 0x5000_0000n, destination: 0x5001_0000n, length: 64, pasid: 3 };
      expect((await device.dma.transfer(request, source)).ok).toBe(false);
      expect((await device.dma.transfer(request, source)).ok).toBe(true);
    };
    const report = await run(Q35(",pasid-bits=8,device-iotlb=on"), "two-socket-spr", play);
    expect(report.failure).toBeNull();
    expect(report.warnings).toContainEqual(expect.stringMatching(/^intel-iommu 'iommu0': DMA of vfio-pci .* with a PASID was refused although the guest's tables have an entry for it, .*: caching-mode=on would work$/));
  });
});
