/** Machines of both architectures with a kernel in them: a passed-through function, and an emulated one beside it. */
import { Kernel, type Device } from "../../../src/guest/index.js";
import { inspectMachine } from "../../../src/inspect/machine/index.js";
import type { InspectionSource } from "../../../src/inspect/state/index.js";
import type { Machine } from "../../../src/machine/index.js";
import type { HostObserver } from "../../../src/host/instruments/index.js";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { landing, type Landing } from "../../guest/landing.js";
import { build } from "../../machine/build.js";

export const SMMU_LINE =
  "-M virt,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0 -device pxb-pcie,id=pcie.1,bus_nr=0x10 " +
  "-device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on,ats=on,ril=on,oas=48,ssidsize=16 -device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 " +
  "-device vfio-pci,host=0008:01:00.0,bus=rp1,iommufd=iommufd0,id=gpu0 " +
  "-device arm-smmuv3,primary-bus=pcie.0,id=smmu0 -device iommu-testdev,id=test0";
export const VTD_LINE =
  "-M q35,kernel-irqchip=split -m 1G -nodefaults -device intel-iommu,id=iommu0,scalable-mode=on,fsts=on,pasid-bits=16,device-iotlb=on,caching-mode=on -object iommufd,id=iommufd0 " +
  "-device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0000:97:00.0,bus=rp0,id=nic0,iommufd=iommufd0 -device edu,id=edu0";

export interface Rig extends Landing {
  readonly machine: Machine;
  readonly host: SimulatedHost;
  readonly observer: HostObserver;
  readonly kernel: Kernel;
  /** The passed-through function. */
  readonly device: Device;
  readonly source: InspectionSource;
  readonly end: () => number;
}

/** Nothing of the guest has run. */
export function cold(which: "smmuv3" | "vtd", line = which === "smmuv3" ? SMMU_LINE : VTD_LINE) {
  const { machine, host, observer } = build(line, which === "smmuv3" ? "grace" : "two-socket-spr");
  machine.start();
  const end = (): number => {
    machine.shutdown();
    const left = host.liveObjects().length;
    host.close();
    return left;
  };
  return { machine, host, observer, end, source: inspectMachine(machine) };
}

/** The passed-through function is in a domain of its own, with IOVA mapped; no DMA has been done. */
export async function running(which: "smmuv3" | "vtd", line?: string): Promise<Rig> {
  const made = cold(which, line);
  const { machine } = made;
  const kernel = new Kernel(machine.port(), { granule: 12, firmware: which === "smmuv3" ? "dt" : undefined, vtd: {} });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const streamId = which === "smmuv3" ? 0x1100 : 0x100;
  const device = kernel.devices.find((one) => one.dma !== null && one.streamId === streamId)!;
  return { ...(await landing(kernel, device)), ...made, kernel, device };
}

/** Puts commands, 64-bit words, into the command queue of smmu1 behind the driver's back, and tells the SMMU. */
export async function putCommands({ machine, kernel, source }: Rig, commands: ReadonlyArray<readonly [bigint, bigint]>): Promise<void> {
  const { base } = machine.describe().iommus.find(({ id }) => id === "smmu1")!;
  const { registers } = source.units()[0];
  const queue = Number(registers.get("CMDQ_BASE")! & 0xf_ffff_ffff_ffe0n);
  const entries = 2 ** Number(registers.get("CMDQ_BASE")! & 0x1fn);
  let at = Number(registers.get("CMDQ_PROD")!);
  for (const command of commands) {
    for (const [word, value] of command.entries()) {
      await kernel.port.write(queue + (at % entries) * 16 + 8 * word, 8, value);
    }
    at = (at + 1) % (2 * entries);
  }
  await kernel.port.write(base + 0x98, 4, BigInt(at));
}
