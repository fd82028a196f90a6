/**
 * QEMU's options: which take an argument, which have no effect here and why, which are refused and why, which are
 * others' short forms (qemu-system-aarch64 and -x86_64 11.1, -help), and which QEMU has no more (QEMU's "Removed
 * features", docs/about/removed-features.rst, from 2.12 on; those of qemu-kvm that old logs have; and what is not among the recorded options of 7.2 or 11.1).
 */
import { splitCommas } from "./option-string.js";

export interface OptionRule {
  readonly name: string;
  /** Takes one argument. */
  readonly argument: boolean;
  /** Accepted; the account has a line with this reason. Null: accepted without a word, for it asks for what is so anyway. Left out: it is parsed by arguments.ts. */
  readonly note?: string | null;
  /** Refused with this reason, and what to say instead. */
  readonly refused?: { readonly reason: string; readonly instead: string };
  /** Arguments for which nothing need be said. */
  readonly silentFor?: RegExp;
  /** QEMU 11.1 has it no more: the version that was the first without it, and what replaced it. */
  readonly gone?: { readonly since: string; readonly instead: string };
  /** The options that it stands for, by name and argument. */
  readonly becomes?: (value: string) => ReadonlyArray<readonly [option: string, value: string]>;
}

export type OptionFate = "taken" | "noted" | "gone" | "refused";

/** What becomes of an option. */
export function optionFate(rule: OptionRule): OptionFate {
  return rule.refused !== undefined ? "refused" : rule.gone !== undefined ? "gone" : rule.note === undefined || rule.note === null ? "taken" : "noted";
}

const handled = (names: string): OptionRule[] => names.split(" ").map((name) => ({ name, argument: true }));
const noted = (names: string, note: string | null, options: Partial<OptionRule> = {}): OptionRule[] =>
  names.split(" ").map((name) => ({ name, argument: true, note, ...options }));
const flags = (names: string, note: string | null): OptionRule[] => names.split(" ").map((name) => ({ name, argument: false, note }));
const refusedOption = (names: string, reason: string, instead: string, argument = true): OptionRule[] =>
  names.split(" ").map((name) => ({ name, argument, refused: { reason, instead } }));
const short = (name: string, becomes: NonNullable<OptionRule["becomes"]>, argument = true): OptionRule => ({ name, argument, becomes });
/** Gone, with what it stands for; without, it has no effect here. */
const gone = (names: string, since: string, instead: string, options: { readonly argument?: boolean; readonly becomes?: OptionRule["becomes"] } = {}): OptionRule[] =>
  names.split(" ").map((name) => ({ name, argument: options.argument ?? false, gone: { since, instead }, ...(options.becomes === undefined ? {} : { becomes: options.becomes }) }));

const REAL_GUEST = "only a real guest needs it: the guest here is a program (--guest)";
const disk = (options: string) => (file: string) => [["drive", `${options},file=${file.replaceAll(",", ",,")}`]] as const;

/** `-virtfs local,path=P,mount_tag=T`: a backend and a virtio-9p-pci. */
function virtfs(value: string): ReadonlyArray<readonly [string, string]> {
  const parts = splitCommas(value);
  const of = (key: string): string | undefined => parts.find((part) => part.startsWith(`${key}=`))?.slice(key.length + 1);
  const tag = of("mount_tag") ?? "";
  return [["device", `virtio-9p-pci,fsdev=${of("id") ?? tag},mount_tag=${tag}`]];
}

const SOUND: Readonly<Record<string, readonly string[]>> = {
  hda: ["intel-hda", "hda-duplex"],
  ac97: ["AC97"],
  es1370: ["ES1370"],
  sb16: ["sb16"],
  adlib: ["adlib"],
  cs4231a: ["cs4231a"],
  gus: ["gus"],
  virtio: ["virtio-sound-pci"],
  "usb-audio": ["usb-audio"],
};

/** Devices of a card's name, as -device has them. */
export function soundDevices(card: string): readonly string[] {
  return SOUND[card] ?? [];
}

const rules: readonly OptionRule[] = [
  ...handled("machine M cpu accel smp m numa object device trace global name uuid drive blockdev nic net qtest qtest-log chardev qmp qmp-pretty mon monitor action d D msg kernel initrd append serial vga audio readconfig set"),
  short("enable-kvm", () => [["accel", "kvm"]], false),
  { name: "no-user-config", argument: false, note: null },
  { name: "nodefaults", argument: false },
  { name: "nographic", argument: false, note: null },
  ...["S", "no-shutdown", "no-reboot"].map((name) => ({ name, argument: false })),
  short("hda", disk("index=0,media=disk")),
  short("hdb", disk("index=1,media=disk")),
  short("hdc", disk("index=2,media=disk")),
  short("hdd", disk("index=3,media=disk")),
  short("cdrom", disk("index=2,media=cdrom")),
  short("fda", disk("if=floppy,index=0")),
  short("fdb", disk("if=floppy,index=1")),
  short("sd", disk("if=sd")),
  short("mtdblock", disk("if=mtd")),
  short("pflash", disk("if=pflash")),
  short("virtfs", virtfs),
  short("usb", () => [["machine", "usb=on"]], false),
  short("usbdevice", (value) => [["machine", "usb=on"], ["device", value === "keyboard" ? "usb-kbd" : value === "wacom-tablet" ? "usb-wacom-tablet" : `usb-${value.split(":")[0]}`]]),
  ...noted("display parallel", "there is no such device here", { silentFor: /^none(?:,|$)/ }),
  ...noted("bios dtb shim option-rom", REAL_GUEST),
  ...noted("netdev fsdev audiodev tpmdev iscsi vnc spice k rtc boot smbios acpitable fw_cfg watchdog-action", "no backend is opened here"),
  ...noted("debugcon", "there is no such device here"),
  ...noted("sandbox overcommit run-with compat add-fd pidfile dfilter seed L mem-path echr semihosting-config id", "it has no effect here"),
  ...noted("plugin icount gdb", "there is no processor here whose instructions could be seen"),
  ...flags("s", "there is no processor here whose instructions could be seen"),
  ...flags("daemonize snapshot full-screen mem-prealloc only-migratable semihosting enable-sync-profile perfmap jitdump no-fd-bootchk win2k-hack", "it has no effect here"),
  ...refusedOption("incoming loadvm dump-vmstate", "Migration not supported with SMMUv3 accelerator mode enabled", "starting the machine anew"),
  ...refusedOption("xen-domid", "there is no Xen", "leaving it out"),
  ...refusedOption("preconfig xen-attach xen-domid-restrict", "there is no Xen and no machine without its devices", "leaving it out", false),
  ...refusedOption("h help version", "it asks QEMU, not viommu", "viommu --help, viommu devices, viommu --version", false),

  ...gone("no-acpi", "9.0", "-machine acpi=off", { becomes: () => [["machine", "acpi=off"]] }),
  ...gone("no-hpet", "9.0", "-machine hpet=off", { becomes: () => [["machine", "hpet=off"]] }),
  ...gone("no-kvm", "5.2", "-accel tcg", { becomes: () => [["accel", "tcg"]] }),
  ...gone("no-kvm-irqchip", "3.0", "-machine kernel-irqchip=off", { becomes: () => [["machine", "kernel-irqchip=off"]] }),
  ...gone("no-kvm-pit", "2.12", "-machine kernel-irqchip=split"),
  ...gone("no-kvm-pit-reinjection", "3.0", "-global kvm-pit.lost_tick_policy=discard"),
  ...gone("tdf", "2.12", "-global kvm-pit.lost_tick_policy=delay"),
  ...gone("rtc-td-hack", "3.1", "-rtc driftfix=slew"),
  ...gone("watchdog", "7.2", "-device NAME", { argument: true, becomes: (name) => [["device", name]] }),
  ...gone("soundhw", "7.2", "-device, with an -audiodev", { argument: true, becomes: (cards) => cards.split(",").flatMap((card) => soundDevices(card).map((device) => ["device", device] as const)) }),
  ...gone("balloon", "3.1", "-device virtio-balloon-pci", { argument: true, becomes: (value) => (value.startsWith("virtio") ? [["device", value.replace(/^virtio/, "virtio-balloon-pci")]] : []) }),
  ...gone("realtime", "6.0", "-overcommit mem-lock=on|off", { argument: true }),
  ...gone("localtime", "3.1", "-rtc base=localtime"),
  ...gone("startdate", "3.1", "-rtc base=DATE", { argument: true }),
  ...gone("nodefconfig", "3.1", "-no-user-config"),
  ...gone("hdachs", "2.12", "-device ide-hd,drive=ID,cyls=C,heads=H,secs=S", { argument: true }),
  ...gone("bootp redir smb tftp", "3.1", "-netdev user,id=ID and its properties", { argument: true }),
  ...gone("tb-size", "6.0", "-accel tcg,tb-size=N", { argument: true }),
  ...gone("show-cursor", "6.0", "-display sdl,show-cursor=on"),
  ...gone("no-frame", "5.0", "-display sdl"),
  ...gone("no-quit", "7.0", "-display sdl,window-close=off"),
  ...gone("alt-grab ctrl-grab sdl curses", "7.2", "-display"),
  ...gone("rotate", "9.0", "-display", { argument: true }),
  ...gone("portrait", "9.0", "-display"),
  ...gone("enable-fips", "7.1", "a library of cryptography that is certified"),
  ...gone("writeconfig", "7.1", "the command line itself", { argument: true }),
  ...gone("enable-hax", "8.2", "-accel kvm"),
  ...gone("singlestep", "9.0", "-accel tcg,one-insn-per-tb=on"),
  ...gone("async-teardown", "9.0", "-run-with async-teardown=on"),
  ...gone("chroot", "9.0", "-run-with chroot=DIR", { argument: true }),
  ...gone("runas", "11.1", "-run-with user=USER", { argument: true }),
  ...gone("virtioconsole", "3.0", "-device virtconsole", { argument: true }),
  ...gone("bt clock", "5.0", "nothing", { argument: true }),
  ...gone("old-param", "11.1", "a kernel that takes a device tree"),
  ...gone("audio-help", "8.2", "-audiodev help"),
  ...gone("no-kvm-nesting", "1.3", "-cpu"),
];

export const optionRules: ReadonlyMap<string, OptionRule> = new Map(rules.map((rule) => [rule.name, rule]));
