/**
 * What devices need to be realized, besides a bus: words of the command line and properties. `N` stands for a
 * number of the device's own. Each entry is tried only where the device does not come to be without.
 */

const chardev = (...names) => ({
  words: names.flatMap((_, i) => ["-chardev", `null,id=chN-${i}`]),
  properties: Object.fromEntries(names.map((name, i) => [name, `chN-${i}`])),
});
const drive = (properties = {}) => ({ words: ["-blockdev", "null-co,node-name=bN,size=67108864,read-zeroes=on"], properties: { drive: "bN", ...properties } });
const memory = (property, size = "1M", properties = {}) => ({ words: ["-object", `memory-backend-ram,id=mN,size=${size}`], properties: { [property]: "mN", ...properties } });
const audio = { words: ["-audiodev", "none,id=aN"], properties: { audiodev: "aN" } };
const bmc = { words: ["-device", "ipmi-bmc-sim,id=bmcN"], properties: { bmc: "bmcN" } };
const can = (...names) => ({ words: ["-object", "can-bus,id=canN"], properties: Object.fromEntries(names.map((name) => [name, "canN"])) });
const vhostUser = (properties = {}) => ({ vhostUser: true, words: ["-chardev", "socket,id=chN,path=SOCKET"], properties: { chardev: "chN", ...properties } });

/** The first whose pattern a name fits. */
const NEEDS = [
  [/^pci-serial-4x$/, chardev("chardev1", "chardev2", "chardev3", "chardev4")],
  [/^pci-serial-2x$/, chardev("chardev1", "chardev2")],
  [/^(pci-serial|isa-serial|isa-parallel|isa-debugcon|usb-serial|usb-redir|ccid-card-passthru|usb-braille|ipmi-bmc-extern)$/, chardev("chardev")],
  [/^(pci|isa|smbus)-ipmi/, bmc],
  [/^smbus-ipmi$/, bmc],
  [/^nvme$/, { words: [], properties: { serial: "1" } }],
  [/^ufs$/, { words: [], properties: { serial: "1" } }],
  [/^nvme-subsys$/, { words: [], properties: { nqn: "s" } }],
  [/^vhost-user-blk/, vhostUser()],
  [/^vhost-user-fs/, vhostUser({ tag: "t" })],
  [/^vhost-user-test-device/, vhostUser({ "virtio-id": 26, num_vqs: 1, config_size: 16 })],
  [/^vhost-user-/, vhostUser()],
  [/^(virtio-blk-|scsi-hd|scsi-cd|scsi-block|scsi-generic|ide-|usb-storage|floppy|ufs-lu|nvme-ns|sd-card|emmc|xen-disk|xen-cdrom)/, drive()],
  [/^virtio-9p/, { words: ["-fsdev", "local,id=fN,path=/tmp,security_model=none"], properties: { fsdev: "fN", mount_tag: "t" } }],
  [/^virtio-crypto/, { words: ["-object", "cryptodev-backend-builtin,id=cN"], properties: { cryptodev: "cN" } }],
  [/^(AC97|ES1370|hda-|usb-audio|virtio-sound|sb16|adlib|gus|cs4231a)/, audio],
  [/^ivshmem-plain$/, memory("memdev", "4M")],
  [/^(virtio-mem|virtio-pmem)/, memory("memdev", "128M")],
  [/^acpi-erst$/, memory("memdev", "64K")],
  [/^(pc-dimm|nvdimm|sp-mem)$/, memory("memdev", "128M")],
  [/^usb-mtp$/, { words: [], properties: { rootdir: "/tmp" } }],
  [/^loader$/, { words: [], properties: { addr: 0, data: 1, "data-len": 4 } }],
  [/^ctucan_pci$/, can("canbus0", "canbus1")],
  [/^kvaser_pci$/, can("canbus")],
  [/^(mioe3680_pci|pcm3680_pci)$/, can("canbus0", "canbus1")],
  // What only a host has: the properties are what is told.
  [/^tpm-/, { words: [], properties: { tpmdev: "none" }, hopeless: true }],
  [/^vhost-scsi/, { words: [], properties: { wwpn: "naa.5000000000000001" }, hopeless: true }],
  [/^virtio-input-host/, { words: [], properties: { evdev: "/dev/input/event0" }, hopeless: true }],
  [/^vhost-vsock/, { words: [], properties: { "guest-cid": 3 }, hopeless: true }],
  [/^vhost-vdpa-device/, { words: [], properties: { vhostdev: "/dev/vhost-vdpa-0" }, hopeless: true }],
  [/^ivshmem-doorbell$/, { words: [], properties: { chardev: "server" }, hopeless: true }],
  [/^pci-bridge/, { words: [], properties: { chassis_nr: "NUMBER" } }],
];

/** Properties that a device is given from the start: they say its place. */
const ALWAYS = [
  [/^(pcie-root-port|ioh3420|xio3130-downstream|cxl-rp|cxl-downstream)$/, (n) => ({ chassis: 100 + n })],
  [/^pxb-(pcie|cxl)$/, (n) => ({ bus_nr: 100 + 4 * n })],
  // Serial numbers are made of it.
  [/^(vmxnet3|e1000e|igb)$/, () => ({ mac: "52:54:00:12:34:56" })],
  [/^ide-/, (n) => ({ bus: `sata.${n % 6}` })],
  [/^isa-applesmc$/, () => ({ osk: "0123456789012345678901234567890123456789012345678901234567890123" })],
];

/** One of these is in a machine at most, stands first in it, or takes more places than its own (virtual functions). */
export const ALONE = /^(qxl-vga|virtio-balloon-.*|igb|vmware-svga)$/;

export function alwaysOf(name, number) {
  return ALWAYS.find(([pattern]) => pattern.test(name))?.[1](number) ?? {};
}

/** @returns words and properties with `number` in them; null: nothing is known to be needed */
export function needsOf(name, number, socket) {
  const found = NEEDS.find(([pattern]) => pattern.test(name))?.[1];
  if (found === undefined) {
    return null;
  }
  const fill = (value) => (value === "NUMBER" ? number : typeof value === "string" ? value.replace(/N(?=-|$|,)/, String(number)).replace("SOCKET", socket ?? "") : value);
  return {
    vhostUser: found.vhostUser === true,
    /** What gives it is not at hand: that it is needed is all that can be told. */
    hopeless: found.hopeless === true,
    words: found.words.map((word) => word.replace(/(id=[a-z]+|node-name=b)N/, `$1${number}`).replace("SOCKET", socket ?? "")),
    properties: Object.fromEntries(Object.entries(found.properties).map(([key, value]) => [key, fill(value)])),
  };
}
