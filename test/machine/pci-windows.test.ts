import { describe, expect, it } from "vitest";
import { crowdedWindows, splitWindows } from "../../src/machine/pci-windows.js";
import { build, VFIO } from "./build.js";

const GIB = 2 ** 30;
const WIDE = { base: 512 * GIB, size: 512 * GIB };
const EXPANDERS = `-M virt,accel=kvm -m 64 -nodefaults ${VFIO} -device pxb-pcie,id=p1,bus_nr=16 -device pcie-root-port,id=r1,bus=p1,chassis=1 -device pxb-pcie,id=p2,bus_nr=32 -device pcie-root-port,id=r2,bus=p2,chassis=2`;
const gpu = (n: number): string => `-device vfio-pci,host=${["0008", "0009", "0018", "0019"][n]}:01:00.0,id=gpu${n},bus=r${n + 1},iommufd=iommufd0`;

function shares(line: string): number[][] {
  const { machine } = build(line);
  try {
    return splitWindows([WIDE], machine.board.pci.rootBuses()).map(([{ base, size }]) => [base / GIB, size / GIB]);
  } finally {
    machine.shutdown();
  }
}

describe("windows of host bridges", () => {
  it("are equal powers of two where those do, the rest with pcie.0", () => {
    expect(shares(EXPANDERS)).toEqual([
      [512, 256],
      [768, 128],
      [896, 128],
    ]);
  });

  it("go by what BARs want where a root bus has large ones", () => {
    expect(shares(`${EXPANDERS} ${gpu(0)} ${gpu(1)}`)).toEqual([
      [512, 64],
      [576, 224],
      [800, 224],
    ]);
    expect(shares(`${EXPANDERS} ${gpu(1)}`)).toEqual([
      [512, 32],
      [544, 32],
      [576, 448],
    ]);
  });

  it("are told where BARs want more, with what would do", () => {
    const { machine } = build(`${EXPANDERS} ${gpu(0)} ${gpu(1)}`);
    const roots = machine.board.pci.rootBuses();
    expect(crowdedWindows([WIDE], roots, () => "")).toEqual([]);
    expect(crowdedWindows([{ base: 512 * GIB, size: 128 * GIB }], roots, (bytes) => `${bytes / GIB} GiB`)).toEqual([
      "BARs below p1 want 128.1 GiB of 64-bit memory, and their host bridge has 56 GiB: a kernel leaves some of them without an address; would work: 512 GiB",
      "BARs below p2 want 128.1 GiB of 64-bit memory, and their host bridge has 56 GiB: a kernel leaves some of them without an address; would work: 512 GiB",
    ]);
    machine.shutdown();
  });
});
