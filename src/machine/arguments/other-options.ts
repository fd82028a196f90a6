/**
 * QEMU's options besides those that make the machine: which take an argument, which have no effect here and
 * why, which are refused and why (qemu-system-aarch64 11.1, -help).
 */
export interface OptionRule {
  readonly name: string;
  /** Takes one argument. */
  readonly argument: boolean;
  /** None of the following: it is parsed by arguments.ts. Accepted; the account has a line with this reason. Null: accepted without a word, for it asks for what is so anyway. */
  readonly note?: string | null;
  /** Refused with this reason, and what to say instead. */
  readonly refused?: { readonly reason: string; readonly instead: string };
  /** Arguments for which nothing need be said. */
  readonly silentFor?: RegExp;
}

const handled = (names: string): OptionRule[] => names.split(" ").map((name) => ({ name, argument: true }));
const noted = (names: string, note: string | null, options: Partial<OptionRule> = {}): OptionRule[] =>
  names.split(" ").map((name) => ({ name, argument: true, note, ...options }));
const flags = (names: string, note: string | null): OptionRule[] => names.split(" ").map((name) => ({ name, argument: false, note }));
const refusedOption = (names: string, reason: string, instead: string, argument = true): OptionRule[] =>
  names.split(" ").map((name) => ({ name, argument, refused: { reason, instead } }));

const REAL_GUEST = "only a real guest needs it: the guest here is a program (--guest)";

const rules: readonly OptionRule[] = [
  ...handled("machine M cpu accel smp m numa object device trace global name uuid drive blockdev nic net qtest qtest-log chardev qmp qmp-pretty mon monitor action d D msg kernel initrd append serial"),
  { name: "enable-kvm", argument: false },
  { name: "no-user-config", argument: false, note: null },
  { name: "nodefaults", argument: false },
  { name: "nographic", argument: false, note: null },
  ...["S", "no-shutdown", "no-reboot"].map((name) => ({ name, argument: false })),
  ...noted("display vga audio parallel", "there is no such device here", { silentFor: /^none(?:,|$)/ }),
  ...noted("bios dtb shim pflash mtdblock", REAL_GUEST),
  ...noted("netdev fsdev audiodev tpmdev iscsi vnc spice k rtc boot smbios fw_cfg watchdog-action", "no backend is opened here"),
  ...noted("debugcon", "there is no such device here"),
  ...noted("sandbox overcommit run-with compat add-fd pidfile dfilter seed L mem-path echr semihosting-config", "it has no effect here"),
  ...flags("daemonize snapshot full-screen mem-prealloc only-migratable semihosting enable-sync-profile perfmap jitdump usb", "it has no effect here"),
  ...refusedOption("fda fdb hda hdb hdc hdd cdrom sd virtfs", "it would make a device in a place of QEMU's choice", "-drive if=none,id=ID and -device nvme,drive=ID,serial=S"),
  ...refusedOption("usbdevice", "there is no USB", "-device with one of the models that `viommu devices` lists"),
  ...refusedOption("incoming loadvm dump-vmstate", "Migration not supported with SMMUv3 accelerator mode enabled", "starting the machine anew"),
  ...refusedOption("readconfig set", "options come from the command line alone", "viommu run FILE.args, or -global driver.property=value"),
  ...refusedOption("gdb icount plugin option-rom xen-domid", "there is no processor to run a guest's instructions", "--guest NAME|FILE, --trace PATTERN"),
  ...refusedOption("s preconfig xen-attach xen-domid-restrict", "there is no processor to run a guest's instructions", "--guest NAME|FILE, --trace PATTERN", false),
  ...refusedOption("h help version", "it asks QEMU, not viommu", "viommu --help, viommu devices, viommu --version", false),
];

export const optionRules: ReadonlyMap<string, OptionRule> = new Map(rules.map((rule) => [rule.name, rule]));
