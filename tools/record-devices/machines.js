/** The two machines that devices are recorded on, and the places in them where a PCI function is looked at. */

export const MACHINES = {
  virt: { architecture: "aarch64", words: ["-machine", "virt,gic-version=3,highmem-mmio-size=1T", "-cpu", "max", "-m", "256M,slots=32,maxmem=16G"], ecam: 0x40_1000_0000 },
  q35: { architecture: "x86_64", words: ["-machine", "q35", "-cpu", "max,phys-bits=46", "-m", "256M,slots=32,maxmem=16G"], ecam: 0xb000_0000 },
};

/** Makes configuration space be at its place, as firmware does (Q35's PCIEXBAR). */
export async function mapConfigSpace(qemu, board) {
  if (board === "q35") {
    await qemu.qtest("outl 0xcf8 0x80000060");
    await qemu.qtest("outl 0xcfc 0xb0000001");
  }
}

/** Controllers whose buses devices of other kinds go on: their words, for a machine that has nothing else. */
export function controllers(board) {
  const all = [
    { driver: "qemu-xhci", id: "usb", p2: 15, p3: 15 },
    { driver: "virtio-scsi-pci", id: "scsi" },
    { driver: "virtio-serial-pci", id: "serial" },
    { driver: "intel-hda", id: "hda" },
    { driver: "sdhci-pci", id: "sd" },
    { driver: "nvme", id: "nvm", serial: "1" },
    { driver: "ufs", id: "ufs", serial: "1" },
    { driver: "tpci200", id: "pack" },
    { driver: "usb-ccid", id: "ccid", bus: "usb.0" },
    { driver: "ich9-ahci", id: "sata" },
    ...(board === "q35" ? [{ driver: "isa-fdc", id: "floppy" }] : []),
  ];
  return all.flatMap((device) => ["-device", JSON.stringify(device)]);
}

/** Where functions are looked at: on the root bus, in the slot of a port, behind a bridge to conventional PCI. */
export const PLACES = {
  root: { words: () => [], device: (n) => ({ bus: "pcie.0", addr: (n + 2).toString(16) }), address: (n) => (n + 2) << 15, bridges: () => [] },
  port: {
    words: (count) => Array.from({ length: count }, (_, n) => ["-device", JSON.stringify({ driver: "pcie-root-port", id: `port${n}`, chassis: n + 1, bus: "pcie.0", addr: `${((n >> 3) + 2).toString(16)}.${n & 7}`, multifunction: true })]).flat(),
    device: (n) => ({ bus: `port${n}`, addr: "0" }),
    address: (n) => (n + 1) << 20,
    bridges: (n) => [{ at: ((((n >> 3) + 2) << 3) | (n & 7)) << 12, secondary: n + 1 }],
  },
  conventional: {
    words: () => ["-device", JSON.stringify({ driver: "pcie-pci-bridge", id: "bridge", bus: "pcie.0", addr: "2" })],
    device: (n) => ({ bus: "bridge", addr: (n + 1).toString(16) }),
    address: (n) => (1 << 20) | ((n + 1) << 15),
    bridges: () => [{ at: 2 << 15, secondary: 1 }],
  },
};
