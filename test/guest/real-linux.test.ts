/**
 * The guest's driver beside a real Linux 7.2 on the same machine: register accesses and commands, one after the
 * other (data/linux-7.2-smmuv3.json says how they were recorded).
 */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { Kernel, type Device } from "../../src/guest/index.js";
import type { MachinePort } from "../../src/port/index.js";
import { OP } from "../../src/smmuv3/spec/index.js";
import { machineOf } from "./end-to-end.js";

interface Recorded {
  readonly attach: string[];
  readonly unbind: string[];
  readonly identity: string[];
  readonly dma: string[];
  readonly remove: string[];
  readonly ste: string[];
  /** Of stage 1. */
  readonly cd?: string[];
}
interface Recording {
  readonly stage1: Recorded & { readonly boot: string[]; readonly takeOver: string[]; readonly shutDown: string[] };
  readonly stage2: Recorded;
  readonly granule16K: Recorded;
  /** StreamIDs whose entries are written, in order. */
  readonly bridge: number[];
}

const RECORDED = JSON.parse(readFileSync(new URL("data/linux-7.2-smmuv3.json", import.meta.url), "utf8")) as Recording;
const DEVICES = "-m 2G -nodefaults -device edu -device pcie-root-port,id=rp,chassis=1 -device nvme,serial=1,bus=rp";
const STAGE1 = `-M virt,iommu=smmuv3,gic-version=3 ${DEVICES}`;
const STAGE2 = `-M virt,gic-version=3 -device arm-smmuv3,primary-bus=pcie.0,stage=2 ${DEVICES}`;
const SMMU_BYTES = 0x2_0000;

let end: () => void = () => {};
afterEach(() => end());

/** A machine whose accesses to the SMMU are noted in the recording's words. */
function watched(line: string, base: number): { port: MachinePort; seen: string[] } {
  const made = machineOf("board", line);
  end = made.end;
  const port = made.machine.port();
  const seen: string[] = [];
  const note = (kind: string, address: number, size: number, value: bigint): void => {
    if (address >= base && address < base + SMMU_BYTES) {
      // QEMU's trace shows page 1 at its page 0 aliases.
      seen.push(`${kind}${size * 8} ${((address - base) & 0xffff).toString(16).padStart(2, "0")} ${value.toString(16)}`);
    }
  };
  const { read, write } = port;
  port.read = async (address, size) => {
    const value = await read(address, size);
    note("R", address, size, value);
    return value;
  };
  port.write = async (address, size, value) => {
    note("W", address, size, value);
    await write(address, size, value);
  };
  return { port, seen };
}

/** Bases of tables and queues without the address, which is another one in each run. */
function withoutAddresses(lines: readonly string[]): string[] {
  return lines.map((line) => {
    const [kind, offset, value] = line.split(" ");
    return kind === "W64" && ["80", "90", "a0"].includes(offset) ? `${kind} ${offset} ${(BigInt(`0x${value}`) & ~0xf_ffff_ffff_ffe0n).toString(16)}` : line;
  });
}

async function boot(port: MachinePort, granule: number): Promise<{ kernel: Kernel; nvme: Device }> {
  const kernel = new Kernel(port, { granule, firmware: "dt" });
  await kernel.readFirmware();
  await kernel.probeIommus();
  await kernel.enumerate();
  const nvme = kernel.devices.at(-1)!;
  expect(nvme.streamId).toBe(0x100);
  return { kernel, nvme };
}

/** Commands that `action` issues, as the recording has them. */
async function commandsOf(kernel: Kernel, action: () => Promise<unknown>): Promise<string[]> {
  const out: string[] = [];
  const { commands } = kernel.smmus[0];
  commands.onCommand = (words) => {
    const [low, high] = [0, 2].map((i) => ((BigInt(words[i + 1] >>> 0) << 32n) | BigInt(words[i] >>> 0)).toString(16));
    out.push(low === "fc02046" && high === "0" ? "sync" : `${low} ${high}`);
  };
  await action();
  commands.onCommand = null;
  return out;
}

describe("beside a real Linux", () => {
  it("reads and writes the same registers in the same order to enable an SMMU, and to shut it down", async () => {
    const { port, seen } = watched(STAGE1, 0x905_0000);
    const kernel = new Kernel(port, { granule: 12, firmware: "dt" });
    await kernel.readFirmware();
    await kernel.probeIommus();
    expect(withoutAddresses(seen)).toEqual(withoutAddresses(RECORDED.stage1.boot));
    seen.length = 0;
    await kernel.smmus[0].disable();
    expect(seen).toEqual(RECORDED.stage1.shutDown);
  });

  it("does the same to take over an SMMU that another kernel left enabled", async () => {
    const { port, seen } = watched(STAGE1, 0x905_0000);
    const first = new Kernel(port, { granule: 12, firmware: "dt" });
    await first.readFirmware();
    await first.probeIommus();
    await first.quiesce();
    seen.length = 0;
    const second = new Kernel(port, { granule: 12, firmware: "dt", occupied: first.memory.inUse() });
    await second.readFirmware();
    await second.probeIommus();
    // The recorded one is a crash kernel, which ends without the event queue.
    const recorded = RECORDED.stage1.takeOver.map((line) => ({ "W32 20 9": "W32 20 d", "R32 24 9": "R32 24 d" })[line] ?? line);
    expect(withoutAddresses(seen)).toEqual(withoutAddresses(recorded));
  });

  // Pages: of the mappings that the nvme's driver gave back, in its order.
  it.each<[string, string, number, number, number[], Recorded]>([
    ["stage 1", STAGE1, 0x905_0000, 12, [1, 1, 4, 16, 1, 1], RECORDED.stage1],
    ["stage 2", STAGE2, 0xc00_0000, 12, [1, 1, 4, 16, 1, 1], RECORDED.stage2],
    ["pages of 16 KiB", STAGE1, 0x905_0000, 14, [1, 1, 1, 4, 1, 1], RECORDED.granule16K],
  ])("sends the same commands for a function's life with %s", async (_what, line, base, granule, pages, recorded) => {
    const { port } = watched(line, base);
    const { kernel, nvme } = await boot(port, granule);
    for (const device of kernel.devices.slice(0, -1)) {
      await kernel.useOwnDomain(device);
    }
    expect(await commandsOf(kernel, () => kernel.useOwnDomain(nvme))).toEqual(recorded.attach);

    const ste = await kernel.memory.readWords(kernel.smmus[0].steAddress(0x100), 16);
    const qword = (words: Int32Array, i: number): bigint => (BigInt(words[2 * i + 1] >>> 0) << 32n) | BigInt(words[2 * i] >>> 0);
    const pointer = 0xf_ffff_ffff_f000n;
    expect(recorded.ste.map((_, i) => qword(ste, i) & ~pointer)).toEqual(recorded.ste.map((word) => BigInt(`0x${word}`) & ~pointer));
    if (recorded.cd !== undefined) {
      const cd = await kernel.memory.readWords(Number(qword(ste, 0) & pointer), 16);
      const [word0, , , mair] = recorded.cd.map((word) => BigInt(`0x${word}`));
      expect(qword(cd, 0)).toBe(word0);
      // Linux extends the sign of its MAIR into the four attributes that it does not use.
      expect(qword(cd, 3)).toBe(mair & 0xffff_ffffn);
    }

    const domain = nvme.domain!;
    const iovas = recorded.unbind.filter((text) => text !== "sync").map((text) => BigInt(`0x${text.split(" ")[1]}`) & ~0xfffn);
    const ram = kernel.memory.allocate(0x1_0000);
    const page = 2 ** granule;
    for (const [i, iova] of iovas.entries()) {
      await domain.map(iova, ram, pages[i] * page, { read: true, write: true });
    }
    const unmapped = await commandsOf(kernel, async () => {
      for (const [i, iova] of iovas.entries()) {
        await domain.unmap(iova, pages[i] * page);
      }
    });
    expect(unmapped).toEqual(recorded.unbind);

    const freeOld = async (): Promise<void> => {
      await domain.destroy();
      nvme.domain = null;
    };
    expect(await commandsOf(kernel, () => nvme.master!.attachIdentity().then(freeOld))).toEqual(recorded.identity);
    expect(await commandsOf(kernel, () => kernel.useOwnDomain(nvme))).toEqual(recorded.dma);
    expect(await commandsOf(kernel, () => kernel.removeDevice(nvme))).toEqual(recorded.remove);
  });

  it("writes one stream's entry for a function below a conventional bridge", async () => {
    const bridges = "-device pcie-pci-bridge,id=br -device edu,bus=br,addr=1";
    const { port } = watched(`-M virt,iommu=smmuv3,gic-version=3 -m 1G -nodefaults ${bridges}`, 0x905_0000);
    const kernel = new Kernel(port, { granule: 12, firmware: "dt" });
    await kernel.readFirmware();
    await kernel.probeIommus();
    await kernel.enumerate();
    const commands = await commandsOf(kernel, async () => {
      for (const device of kernel.devices) {
        await kernel.useOwnDomain(device);
      }
    });
    // Linux writes those of the host bridge, the bridge, and the bridge's secondary bus, not of 01:01.0.
    const words = commands.filter((text) => text !== "sync").map((text) => BigInt(`0x${text.split(" ")[0]}`));
    const streams = words.filter((word) => (word & 0xffn) === BigInt(OP.CFGI_STE)).map((word) => Number(word >> 32n));
    expect([...new Set(streams)]).toEqual(RECORDED.bridge);
  });
});
