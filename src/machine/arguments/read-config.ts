/** -readconfig: options in a file, as QEMU writes and reads them (util/qemu-config.c). */
import { readTextFile, Refusal } from "../../support/index.js";

export interface ConfigOption {
  /** Without its dash. */
  readonly option: string;
  readonly value: string;
  /** Of the section's heading, from 1. */
  readonly line: number;
}

/** Sections by the option that they are. Others have the option's own name. */
const SECTIONS: Readonly<Record<string, string>> = { memory: "m", "smp-opts": "smp", "boot-opts": "boot", "add-fd": "add-fd" };

/** Options of a file's text. @throws Refusal in QEMU's words */
export function parseConfig(text: string, name: string): ConfigOption[] {
  const options: Array<{ option: string; id: string | null; keys: string[]; line: number }> = [];
  text.split("\n").forEach((whole, index) => {
    const line = whole.trim();
    if (line === "" || line.startsWith("#")) {
      return;
    }
    const section = /^\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]/.exec(line);
    const setting = /^([\w.-]+)\s*=\s*"(.*)"\s*$/.exec(line);
    if (section !== null) {
      options.push({ option: SECTIONS[section[1]] ?? section[1], id: section[2] ?? null, keys: [], line: index + 1 });
    } else if (setting === null) {
      throw new Refusal("parse error", { found: `${name}:${index + 1}: ${line}`, wouldWork: '[group "id"], name = "value", # a comment' });
    } else if (options.length === 0) {
      throw new Refusal("no group defined", { found: `${name}:${index + 1}: ${line}`, wouldWork: '[device "id"] before it' });
    } else {
      options.at(-1)!.keys.push(`${setting[1]}=${setting[2].replaceAll(",", ",,")}`);
    }
  });
  // A first part without `=` is what the option is of; those with it may stand anywhere.
  return options.map(({ option, id, keys, line }) => ({ option, value: [...(id === null ? [] : [`id=${id}`]), ...keys].join(","), line }));
}

/** Options of a file; Proxmox's own are known where they are not. @throws Refusal */
export function readConfig(path: string): { options: ConfigOption[]; note: string | null } {
  try {
    return { options: parseConfig(readTextFile(path, "a file of options"), path), note: null };
  } catch (error) {
    const known = /(?:^|\/)(pve-q35(?:-4\.0)?)\.cfg$/.exec(path);
    if (known === null || !(error instanceof Refusal) || error.words === "parse error" || error.words === "no group defined") {
      throw error;
    }
    return { options: PROXMOX_Q35.map(([id, rest], index) => ({ option: "device", value: `${rest},id=${id}`, line: index + 1 })), note: `-readconfig ${path}: the file is not here; the functions that Proxmox VE's pve-q35-4.0.cfg has are taken` };
  }
}

const usb = (controller: number, slot: string, first: number): Array<readonly [string, string]> => [
  [controller === 1 ? "ehci" : "ehci-2", `ich9-usb-ehci${controller},multifunction=on,bus=pcie.0,addr=${slot}.7`],
  ...[0, 1, 2].map((n) => [`uhci-${first + n}`, `ich9-usb-uhci${first + n},multifunction=on,bus=pcie.0,addr=${slot}.${n},masterbus=${controller === 1 ? "ehci" : "ehci-2"}.0,firstport=${2 * n}`] as const),
];

/** What Proxmox VE's q35 machines have from version 4.0 on: USB of an ICH9, sound, four root ports, four conventional bridges. */
const PROXMOX_Q35: ReadonlyArray<readonly [id: string, device: string]> = [
  ...usb(1, "1d", 1),
  ...usb(2, "1a", 4),
  ["audio0", "ich9-intel-hda,bus=pcie.0,addr=1b.0"],
  ...[0, 1, 2, 3].map((n) => [`ich9-pcie-port-${n + 1}`, `pcie-root-port,x-speed=16,x-width=32,multifunction=on,bus=pcie.0,addr=1c.${n},port=${n + 1},chassis=${n + 1}`] as const),
  ["pcidmi", "i82801b11-bridge,bus=pcie.0,addr=1e.0"],
  ...[0, 1, 2, 3].map((n) => [`pci.${n}`, `pci-bridge,bus=pcidmi,addr=${n + 1}.0,chassis_nr=${n + 1}`] as const),
];
