import { Kernel } from "../src/guest/index.js";
import { createSimulatedHost, describeHost, type HostDescription, type SimulatedHost } from "../src/host/simulated/index.js";
import { HostObserver, observeHost } from "../src/host/instruments/index.js";
import { HwptAllocFlags, HwptDataType, OptionId } from "../src/iommufd/index.js";
import { parseArguments } from "../src/machine/arguments/index.js";
import { Machine } from "../src/machine/index.js";
import { CMD_WORDS, encodeCommand, OP, REG } from "../src/smmuv3/spec/index.js";
import { Log } from "../src/support/index.js";
import { median } from "./measure.js";
import type { Bench, BenchResult } from "./registry.js";

/** A host of `smmus` SMMUs with `functions` functions each, as the shipped board has them. */
export function describeBenchHost(smmus: number, functions: number): HostDescription {
  const name = (smmu: number): string => `smmu3.0x${(0x900_0000 + smmu * 0x4_0000).toString(16).padStart(16, "0")}`;
  const list = Array.from({ length: smmus }, (_unused, smmu) => smmu);
  return describeHost(
    {
      name: "bench",
      memory: [{ numaNode: 0, base: "0x40000000", size: "64G" }],
      msiDoorbell: "0x08090040",
      smmus: list.map((smmu) => ({
        name: name(smmu),
        base: 0x900_0000 + smmu * 0x4_0000,
        numaNode: 0,
        idr0: "0x0d44101b",
        idr1: "0x02730010",
        idr3: "0x1414",
        idr5: "0x74",
        iidr: 0,
        aidr: 1,
        coherent: true,
      })),
      functions: list.flatMap((smmu) =>
        Array.from({ length: functions }, (_unused, slot) => ({
          address: `${smmu.toString(16).padStart(4, "0")}:${(slot + 1).toString(16).padStart(2, "0")}:00.0`,
          name: `NVMe ${smmu}.${slot}`,
          vendor: "0x1b36",
          device: "0x0010",
          class: "0x010802",
          smmu: name(smmu),
          numaNode: 0,
          bars: [{ index: 0, size: "64K", is64: true, prefetchable: false }],
          msixVectors: 4,
          driver: "vfio-pci",
        })),
      ),
    },
    "bench",
  );
}

function host(smmus: number, functions: number): SimulatedHost {
  return createSimulatedHost(describeBenchHost(smmus, functions));
}

/** Command-line words of a machine with all of it, each function behind a root port of its own. */
export function machineArguments(smmus: number, functions: number): string[] {
  const words = "-machine virt,accel=kvm,gic-version=3 -cpu host -m 4G -nodefaults -object iommufd,id=iommufd0".split(" ");
  for (let smmu = 0; smmu < smmus; smmu++) {
    words.push("-device", `pxb-pcie,id=pcie.${smmu + 1},bus=pcie.0,bus_nr=${(smmu + 1) * 15}`);
    words.push("-device", `arm-smmuv3,id=smmu${smmu},primary-bus=pcie.${smmu + 1},accel=on`);
    for (let slot = 0; slot < functions; slot++) {
      const port = `rp${smmu}.${slot}`;
      const address = `${smmu.toString(16).padStart(4, "0")}:${(slot + 1).toString(16).padStart(2, "0")}:00.0`;
      words.push("-device", `pcie-root-port,id=${port},bus=pcie.${smmu + 1},chassis=${smmu * functions + slot + 1}`);
      words.push("-device", `vfio-pci,host=${address},bus=${port},id=fn${smmu}.${slot},iommufd=iommufd0`);
    }
  }
  return words;
}

const SMMU_BASE = 0xc00_0000;
const QUEUE = 0x4800_0000;
const QUEUE_LOG2 = 11;

/** Host calls that `drains` drains of `each` invalidations and a CMD_SYNC cost. */
function hostCalls(drains: number, each: number): number {
  const simulated = host(1, 1);
  const observer = new HostObserver();
  const machine = new Machine(parseArguments(machineArguments(1, 1)), observeHost(simulated, observer), new Log());
  machine.start();
  const { memory } = machine.board;
  const register = (offset: number, value: number): void => memory.writeWord(SMMU_BASE + offset, 4, BigInt(value));
  memory.writeWord(SMMU_BASE + REG.CMDQ_BASE, 8, BigInt(QUEUE) | BigInt(QUEUE_LOG2));
  register(REG.CR0, 1 << 3);
  const before = observer.calls.get("HWPT_INVALIDATE") ?? 0;
  let prod = 0;
  const put = (words: Int32Array): void => {
    const slot = prod % 2 ** QUEUE_LOG2;
    memory.writeBytes(QUEUE + slot * CMD_WORDS * 4, new Uint8Array(words.buffer));
    prod = (prod + 1) % 2 ** (QUEUE_LOG2 + 1);
  };
  for (let drain = 0; drain < drains; drain++) {
    for (let i = 0; i < each; i++) {
      put(encodeCommand(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: BigInt(drain * each + i) << 12n }));
    }
    put(encodeCommand(OP.SYNC));
    register(REG.CMDQ_PROD, prod);
  }
  const calls = (observer.calls.get("HWPT_INVALIDATE") ?? 0) - before;
  machine.shutdown();
  simulated.close();
  return calls;
}

export const hostCallBench: Bench = {
  name: "hostCalls",
  title: "host calls for 1,000 invalidations of the guest",
  run: () =>
    Promise.resolve([
      { name: "hostCallsPer1000.oneDrain", unit: "calls", value: hostCalls(1, 1000), target: 1 },
      { name: "hostCallsPer1000.drainsOf50", unit: "calls", value: hostCalls(20, 50), target: 20 },
      { name: "hostCallsPer1000.syncEach", unit: "calls", value: hostCalls(1000, 1), target: 1000 },
    ]),
};

const SMMUS = 16;
const FUNCTIONS_EACH = 8;

export const bootBench: Bench = {
  name: "boot",
  title: "a machine of 16 SMMUs and 128 functions, built and booted",
  async run(context): Promise<BenchResult[]> {
    const build: number[] = [];
    const boot: number[] = [];
    for (let round = 0; round < Math.min(context.rounds, 5); round++) {
      const simulated = host(SMMUS, FUNCTIONS_EACH);
      const words = machineArguments(SMMUS, FUNCTIONS_EACH);
      const start = performance.now();
      const machine = new Machine(parseArguments(words), simulated, new Log());
      machine.start();
      const built = performance.now();
      const kernel = new Kernel(machine.port(), { granule: 12 });
      await kernel.readFirmware();
      await kernel.probeIommus();
      await kernel.enumerate();
      let attached = 0;
      for (const device of kernel.devices) {
        if (device.dma !== null) {
          await kernel.useOwnDomain(device);
          attached++;
        }
      }
      const booted = performance.now();
      if (attached !== SMMUS * FUNCTIONS_EACH) {
        throw new Error(`${attached} functions attached`);
      }
      machine.shutdown();
      simulated.close();
      build.push(built - start);
      boot.push(booted - built);
    }
    return [
      { name: "machine16x8.build", unit: "ms", value: median(build) },
      { name: "machine16x8.boot", unit: "ms", value: median(boot) },
    ];
  },
};

/** Bytes of stage-2 tables a mapped 4-KiB page, with blocks where they fit (the default) and without. */
function stage2Bytes(pages: number, blocks: boolean): number {
  const simulated = host(1, 1);
  const iommufd = simulated.openIommufd();
  const device = simulated.openDevice("0000:01:00.0");
  const devId = device.bind(iommufd.fd);
  const ioasId = iommufd.ioasAlloc();
  iommufd.option(OptionId.HUGE_PAGES, "set", ioasId, blocks ? 1n : 0n);
  const flags = HwptAllocFlags.NEST_PARENT;
  device.attach(iommufd.hwptAlloc({ flags, devId, ptId: ioasId, dataType: HwptDataType.NONE, data: new Uint8Array(0) }));
  const ram = simulated.allocateMemory("ram", pages * 4096);
  const before = simulated.hardware.memory.livePageBytes;
  iommufd.ioasMap({
    ioasId,
    source: { address: ram.hostAddress },
    length: BigInt(ram.size),
    iova: 0x4000_0000n,
    readable: true,
    writable: true,
  });
  const grown = simulated.hardware.memory.livePageBytes - before;
  device.close();
  iommufd.close();
  simulated.close();
  return grown / pages;
}

export const stage2Bench: Bench = {
  name: "stage2Memory",
  title: "memory of stage-2 tables",
  run: () =>
    Promise.resolve([
      { name: "bytesPerStage2Page.pagesOnly", unit: "bytes", value: stage2Bytes(1 << 18, false), target: 8.1 },
      { name: "bytesPerStage2Page.blocks", unit: "bytes", value: stage2Bytes(1 << 18, true), target: 8.1 },
    ]),
};
