/**
 * PCI functions that other options than -device ask for: -vga, -nic, -net nic, -audio, -machine usb=on. QEMU makes most
 * of them with the machine, before those of -device (seen by `info pci` of QEMU 11.1).
 */
import { Refusal } from "../../support/index.js";
import { type BoardKind, boardTraits } from "./boards.js";
import { soundDevices } from "./other-options.js";
import { parseOptionString, scalar } from "./option-string.js";

/** When QEMU makes a device: the lower the earlier; equal ones in the order of the command line. */
export const MADE = {
  display: 0,
  network: 1,
  sound: 2,
  usb: 3,
  /** -device name,property=value. */
  said: 4,
  /** -drive if=virtio: behind all of that form. */
  drive: 5,
  /** -device {"driver":...}: QEMU has a list of its own for them. */
  json: 6,
} as const;

const DISPLAYS: Readonly<Record<string, string>> = { std: "VGA", cirrus: "cirrus-vga", vmware: "vmware-svga", qxl: "qxl-vga", virtio: "virtio-vga" };

/** The argument of -device that -vga stands for; null: none. @throws Refusal in QEMU's words */
export function displayDevice(value: string, board: BoardKind, notes: string[]): string | null {
  const kind = value.split(",")[0];
  if (kind === "none") {
    return null;
  }
  if (!Object.hasOwn(DISPLAYS, kind)) {
    throw new Refusal(`invalid argument '${kind}' for -vga`, { found: `-vga ${value}`, wouldWork: [...Object.keys(DISPLAYS), "none"].join(", ") });
  }
  if (board === "virt") {
    notes.push(`-vga ${value}: A -vga option was passed but this machine type does not use that option; No VGA device has been created`);
    return null;
  }
  return DISPLAYS[kind];
}

/** The argument of -device that -nic and -net nic stand for; null: a backend alone, or none. @throws Refusal */
export function networkDevice(option: "nic" | "net", value: string, board: BoardKind, notes: string[]): string | null {
  const { values } = parseOptionString(`-${option}`, value, "type");
  const type = values.get("type");
  if (type === "none") {
    return null;
  }
  if (option === "net" && type !== "nic") {
    notes.push(`-net ${value}: no backend is opened here`);
    return null;
  }
  const text = (key: string): string | undefined => (values.has(key) ? scalar(key, values.get(key)!) : undefined);
  const model = text("model") ?? boardTraits[board].defaultNic;
  const mac = text("mac") ?? text("macaddr");
  const said = [
    model === "virtio" ? "virtio-net-pci" : model,
    ...(mac === undefined ? [] : [`mac=${mac}`]),
    ...["addr", "vectors"].flatMap((key) => (values.has(key) ? [`${key}=${text(key)!}`] : [])),
  ];
  if (option === "nic") {
    notes.push(`-nic ${value}: no backend is opened here`);
  }
  return said.join(",");
}

/** Arguments of -device that `-audio driver,model=CARD` stands for. */
export function audioDevices(value: string, notes: string[]): readonly string[] {
  const { values } = parseOptionString("-audio", value, "driver");
  if (values.get("driver") !== "none") {
    notes.push(`-audio ${value}: no backend is opened here`);
  }
  const model = values.get("model");
  const devices = model === undefined ? [] : soundDevices(String(model));
  if (model !== undefined && devices.length === 0) {
    throw new Refusal(`Unknown sound card '${String(model)}'`, { found: `-audio ${value}`, wouldWork: "model=hda, ac97, es1370, virtio" });
  }
  return devices;
}

/** Arguments of -device that -machine usb=on stands for (hw/usb/hcd-ehci-pci.c, ehci_create_ich9_with_companions); virt has none. */
export function usbControllers(board: BoardKind): readonly string[] {
  return board === "virt" ? [] : ["ich9-usb-ehci1,addr=1d.7,multifunction=on", ...[1, 2, 3].map((n) => `ich9-usb-uhci${n},addr=1d.${n - 1},multifunction=on`)];
}
