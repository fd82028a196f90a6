/** Configuration space of all functions of a machine, as a guest reads and writes it. */
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { atLeast } from "../find-qemu.js";

/** ECAM where the machines of this suite have it. */
const ECAM = { aarch64: 0x40_1000_0000, x86_64: 0xb000_0000 };
const BUS = 0x10_0000;
const FUNCTION = 0x1000;

export interface Placement {
  readonly name: string;
  readonly architecture: "aarch64" | "x86_64";
  readonly arguments: readonly string[];
}

/** A number of the form that the suite shows. */
const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");

/** Registers of which a guest learns what a function is: each dword of the header after reset, sizes of BARs, and the capabilities. */
export async function readSpaces(driver: Driver, { architecture }: Placement, whole: boolean): Promise<Observation> {
  const base = ECAM[architecture];
  if (architecture === "x86_64") {
    // PCIEXBAR: 256 MiB at its place, enabled.
    driver.writePort(0xcf8, 4, 0x8000_0060);
    driver.writePort(0xcfc, 4, base + 1);
  }
  const out: Record<string, string> = {};
  let nextBus = 1;
  const visit = async (bus: number): Promise<void> => {
    for (let devfn = 0; devfn < 256; devfn++) {
      const at = base + bus * BUS + devfn * FUNCTION;
      const ids = Number(await driver.read(at, 4));
      if (ids === 0xffff_ffff) {
        continue;
      }
      const name = `${bus.toString(16).padStart(2, "0")}:${(devfn >> 3).toString(16).padStart(2, "0")}.${devfn & 7}`;
      const header = Number(await driver.read(at + 0x0e, 1));
      await readFunction(driver, at, name, ids, whole, out);
      if ((header & 0x7f) === 1) {
        const secondary = nextBus++;
        driver.write(at + 0x18, 4, (0xff << 16) | (secondary << 8) | bus);
        await visit(secondary);
        driver.write(at + 0x1a, 1, nextBus - 1);
      } else if ((devfn & 7) === 0 && (header & 0x80) === 0) {
        devfn += 7;
      }
    }
  };
  await visit(0);
  return out;
}

async function readFunction(driver: Driver, at: number, name: string, ids: number, whole: boolean, out: Record<string, string>): Promise<void> {
  const dword = async (offset: number): Promise<number> => Number(await driver.read(at + offset, 4));
  const put = (what: string, value: number): void => {
    out[`${name} ${hex(ids)} ${what}`] = hex(value);
  };
  put("class", await dword(8));
  put("header", (await dword(0x0c)) & 0x00ff_0000);
  put("pin", (await dword(0x3c)) & 0xff00);
  const isBridge = (((await dword(0x0c)) >> 16) & 0x7f) === 1;
  if (!isBridge) {
    put("subsystem", await dword(0x2c));
  }
  for (let offset = 0x10; offset < (isBridge ? 0x18 : 0x28); offset += 4) {
    const before = await dword(offset);
    driver.write(at + offset, 4, 0xffff_ffff);
    put(`BAR at ${offset.toString(16)}`, await dword(offset));
    driver.write(at + offset, 4, before);
  }
  for (let next = ((await dword(4)) & 0x10_0000) === 0 ? 0 : (await dword(0x34)) & 0xfc, hops = 0; next !== 0 && hops < 48; hops++) {
    const head = await dword(next);
    // MSI and MSI-X: how many, and where; PCI Express: which type.
    const kept = { 0x05: 0x018e_00ff, 0x11: 0x07ff_00ff, 0x10: 0x00f0_00ff }[head & 0xff] ?? 0xff;
    put(`capability ${hex(head & 0xff)}`, head & kept);
    if ((head & 0xff) === 0x11) {
      put("MSI-X table", await dword(next + 4));
      put("MSI-X pending bits", await dword(next + 8));
    }
    next = (head >> 8) & 0xfc;
  }
  for (let offset = 0x40; whole && !isBridge && offset < 0x100; offset += 4) {
    put(`at ${offset.toString(16)}`, await dword(offset));
  }
}

/** Machines with functions that are placed, on each kind of bus, and devices of other buses. */
export function placements(architecture: "aarch64" | "x86_64", version: readonly [number, number]): Placement[] {
  const board = architecture === "x86_64" ? ["-machine", "q35"] : ["-machine", "virt,gic-version=3", "-cpu", "max"];
  const common = [...board, "-m", "256M", "-nodefaults"];
  const device = (text: string): string[] => ["-device", text];
  const root = ["qemu-xhci,id=usb", "usb-ehci", "ich9-intel-hda,id=hda", "virtio-scsi-pci,id=scsi", "virtio-serial-pci,id=serial", "virtio-balloon-pci", "virtio-rng-pci", "VGA,vgamem_mb=32", "e1000", "rtl8139", "i6300esb", "ich9-ahci,id=sata", "sdhci-pci,id=sd", "pvscsi", "megasas"];
  const ports = ["qemu-xhci", "virtio-scsi-pci", "virtio-serial-pci,vectors=3", "virtio-keyboard-pci", "virtio-gpu-pci", "nec-usb-xhci", "bochs-display,vgamem=8M", "vmxnet3", "pcnet", "lsi53c895a", ...(atLeast(version, 8, 0) ? ["igb"] : [])];
  const conventional = ["e1000-82545em", "i82559c", "AC97,audiodev=a0", "tulip", "secondary-vga", "am53c974", "virtio-rng-pci-transitional"];
  const audio = ["-audiodev", "none,id=a0"];
  const others = ["usb-tablet,id=tablet,bus=usb.0", "usb-hub,bus=usb.0", "scsi-cd,bus=scsi0.0", "virtserialport,bus=serial.0", "hda-duplex,bus=hda.0,audiodev=a0", "ide-cd,bus=sata.0"];
  return [
    { name: "on the root bus", architecture, arguments: [...common, ...root.flatMap(device)] },
    { name: "in slots of ports", architecture, arguments: [...common, ...ports.flatMap((text, n) => [...device(`pcie-root-port,id=rp${n},chassis=${n + 1}`), ...device(`${text},bus=rp${n}`)])] },
    {
      name: "on conventional PCI",
      architecture,
      arguments: [...common, ...audio, ...device("pcie-pci-bridge,id=old"), ...conventional.flatMap((text, n) => device(`${text},bus=old,addr=${n + 1}`))],
    },
    {
      name: "with devices of other buses, several in a slot",
      architecture,
      arguments: [...common, ...audio, ...device("qemu-xhci,id=usb,addr=4.0,multifunction=on"), ...device("ich9-intel-hda,id=hda,addr=4.1"), ...device("ich9-ahci,id=sata,addr=4.2"), ...device("virtio-scsi-pci,id=scsi0,addr=5"), ...device("virtio-serial-pci,id=serial"), ...others.flatMap(device)],
    },
  ];
}
