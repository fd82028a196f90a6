/** The machines on which VT-d units are compared, and where their devices are. */
import type { VtdProperties } from "../../../src/vtd/index.js";
import type { Driver, MachineRequest } from "../driver.js";
import { atLeast, type QemuProgram } from "../find-qemu.js";

/** What a unit offers, as both are told. */
export type Offer = Pick<VtdProperties, "scalableMode" | "fsts" | "fs1gp" | "awBits" | "deviceIotlb" | "snoopControl" | "pasidBits" | "cachingMode">;

export interface VtdMachine extends MachineRequest {
  readonly name: string;
  readonly offer: Offer;
  /** The unit shows what can be compared of its registers alone, nothing that translates. */
  readonly registersOnly: boolean;
}

/** Guest-physical address of the unit's registers. */
export const UNIT = 0xfed9_0000;

/** Functions on bus 0; the first two are edu. One below 0x80 and one above: a scalable-mode root entry has a half for each. */
export const LOW_EDU_DEVFN = 0x18;
export const HIGH_EDU_DEVFN = 0x90;
export const TESTDEV_DEVFN = 0x28;

const slot = (devfn: number): string => `0x${(devfn >> 3).toString(16)}`;
const BOARD = ["-machine", "q35", "-m", "512"];
const EDUS = [LOW_EDU_DEVFN, HIGH_EDU_DEVFN].flatMap((devfn) => ["-device", `edu,addr=${slot(devfn)},dma_mask=0xffffffffffffffff`]);
const TESTDEV = ["-device", `iommu-testdev,addr=${slot(TESTDEV_DEVFN)}`];

const PLAIN: Offer = { scalableMode: false, fsts: false, fs1gp: true, awBits: 48, deviceIotlb: false, snoopControl: false, pasidBits: 0, cachingMode: false };

interface Wish extends Partial<Offer> {
  /** Properties beyond those of `Offer`. */
  readonly more?: string;
  readonly registersOnly?: true;
}

const WISHES: readonly Wish[] = [
  {},
  { awBits: 39 },
  { deviceIotlb: true, snoopControl: true },
  { scalableMode: true },
  { scalableMode: true, awBits: 39, registersOnly: true },
  { cachingMode: true, registersOnly: true },
  { more: "intremap=off,eim=off", registersOnly: true },
  { more: "dma-translation=off", registersOnly: true },
];

/** Those of QEMU from 10.0 on. */
const NEW_WISHES: readonly Wish[] = [
  { scalableMode: true, fsts: true },
  { scalableMode: true, fsts: true, fs1gp: false },
  { more: "intremap=on,eim=on", registersOnly: true },
  { scalableMode: true, pasidBits: 8, registersOnly: true },
  { scalableMode: true, fsts: true, pasidBits: 20, deviceIotlb: true, more: "svm=on", registersOnly: true },
];

export function isNew(program: QemuProgram): boolean {
  return atLeast(program.version, 11, 0);
}

export function vtdMachines(program: QemuProgram): VtdMachine[] {
  const recent = isNew(program);
  return [...WISHES, ...(recent ? NEW_WISHES : [])].map(({ more, registersOnly, ...wish }) => {
    const offer: Offer = { ...PLAIN, ...wish };
    const on = (name: string, value: boolean | undefined): string[] => (value === true ? [`${name}=on`] : []);
    const words = [
      `aw-bits=${offer.awBits}`,
      ...on(recent ? "scalable-mode" : "x-scalable-mode", offer.scalableMode),
      ...on("fsts", offer.fsts),
      ...(offer.fs1gp ? [] : ["fs1gp=off"]),
      ...(offer.pasidBits === 0 ? [] : [`pasid-bits=${offer.pasidBits}`]),
      ...on("device-iotlb", offer.deviceIotlb),
      ...on("snoop-control", offer.snoopControl),
      ...on("caching-mode", offer.cachingMode),
      ...(more === undefined ? [] : [more]),
    ].join(",");
    return { name: words, arguments: [...BOARD, "-device", `intel-iommu,${words}`, ...EDUS, ...(recent ? TESTDEV : [])], offer, registersOnly: registersOnly === true };
  });
}

/** What a QEMU cannot show, each with the reason. */
export function missingMachines(program: QemuProgram): string[] {
  return isNew(program)
    ? []
    : ["eim=on: it wants KVM", "first stage: it has second-stage translation alone", "pasid-bits: it has none", "svm: it has none", "accesses by iommu-testdev: it has none, edu alone makes them"];
}

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const PCI_BAR0 = 0x10;
const PCI_COMMAND = 0x04;
const MEMORY_AND_MASTER = 6;

/** Guest-physical addresses of the devices' registers, once `placeDevices` has put them there. */
export const BARS: Readonly<Record<number, number>> = { [LOW_EDU_DEVFN]: 0xe000_0000, [HIGH_EDU_DEVFN]: 0xe010_0000, [TESTDEV_DEVFN]: 0xe020_0000 };

/** Through the configuration ports: configuration space is mapped where firmware has been. */
export function placeDevices(driver: Driver, hasTestdev: boolean): void {
  for (const devfn of [LOW_EDU_DEVFN, HIGH_EDU_DEVFN, ...(hasTestdev ? [TESTDEV_DEVFN] : [])]) {
    for (const [offset, value] of [[PCI_BAR0, BARS[devfn]], [PCI_COMMAND, MEMORY_AND_MASTER]]) {
      driver.writePort(CONFIG_ADDRESS, 4, (0x8000_0000 | (devfn << 8) | offset) >>> 0);
      driver.writePort(CONFIG_DATA, 4, value);
    }
  }
}
