/** The arguments that say from where a machine is played and controlled: -qtest, -qmp, -mon, -monitor, -chardev, -S, -no-shutdown and the like. */
import type { ChardevSpec } from "../../chardev/index.js";
import { Refusal } from "../../support/index.js";
import { type ChardevArgument, chardevId, parseChardev, parseChardevShort } from "./chardev.js";
import { describeArgument, located, parseOptionString, scalar } from "./option-string.js";
import { parseBool } from "./property.js";

export interface MonitorArgument {
  /** Of its character device: the user's id, or compat_monitorN. */
  readonly label: string;
  readonly spec: ChardevSpec;
  /** control: QMP; readline: commands for people. */
  readonly mode: "control" | "readline";
  /** Answers in lines. */
  readonly pretty: boolean;
}

export type PanicAction = "pause" | "shutdown" | "exit-failure" | "none";

export interface ControlArguments {
  /** The socket that plays the machine in place of a guest; null: none. */
  readonly qtest: ChardevSpec | null;
  /** A file, or "none"; null: standard error, as in QEMU. */
  readonly qtestLog: string | null;
  /** -S: timers stand still. */
  readonly stopped: boolean;
  /** -no-shutdown: a guest that has ended leaves its machine. */
  readonly noShutdown: boolean;
  /** -no-reboot: a reset ends the machine. */
  readonly noReboot: boolean;
  /** -action panic=: what a guest's panic, told by a pvpanic, leads to. */
  readonly onPanic: PanicAction;
  readonly monitors: readonly MonitorArgument[];
  readonly chardevs: ReadonlyMap<string, ChardevArgument>;
}

/** What `-action` takes; there is no watchdog to act. */
const ACTIONS: Readonly<Record<string, readonly string[]>> = {
  panic: ["pause", "shutdown", "exit-failure", "none"],
  reboot: ["reset", "shutdown"],
  shutdown: ["poweroff", "pause"],
  watchdog: ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"],
};

interface MonitorOption {
  readonly option: string;
  /** As the user wrote it. */
  readonly value: string;
  /** Its short form, or `chardev:ID`. */
  readonly device: string;
  readonly mode: MonitorArgument["mode"];
  readonly pretty: boolean;
}

/** Gathers them: a -chardev may stand after the option that names it. */
export class ControlOptions {
  private readonly chardevs = new Map<string, ChardevArgument>();
  private readonly texts = new Map<string, string>();
  private qtest: { option: string; value: string } | null = null;
  private log: string | null = null;
  private stopped = false;
  private noShutdown = false;
  private noReboot = false;
  private onPanic: PanicAction = "shutdown";
  private readonly monitors: MonitorOption[] = [];

  /** @returns false where the option is none of these. @throws Refusal */
  take(option: string, value: string): boolean {
    switch (option) {
      case "qtest":
        this.takeQtest({ option: "-qtest", value });
        return true;
      case "qtest-log":
        this.log = value;
        return true;
      case "S":
        this.stopped = true;
        return true;
      case "no-shutdown":
        this.noShutdown = true;
        return true;
      case "no-reboot":
        this.noReboot = true;
        return true;
      case "action":
        this.takeAction(value);
        return true;
      case "qmp":
      case "qmp-pretty":
        this.monitors.push({ option: `-${option}`, value, device: value, mode: "control", pretty: option === "qmp-pretty" });
        return true;
      case "monitor":
        if (value !== "none") {
          this.monitors.push({ option: "-monitor", value, device: value, mode: "readline", pretty: false });
        }
        return true;
      case "mon":
        this.monitors.push(parseMon(value));
        return true;
      case "chardev": {
        const chardev = parseChardev(value);
        if (this.chardevs.has(chardev.id)) {
          throw new Refusal(`Duplicate ID '${chardev.id}' for chardev`, { wouldWork: "another id" });
        }
        this.chardevs.set(chardev.id, chardev);
        this.texts.set(chardev.id, describeArgument("-chardev", value));
        return true;
      }
      case "object": {
        const { values } = parseOptionString("-object", value, "qom-type");
        if (values.get("qom-type") !== "qtest") {
          return false;
        }
        if (!values.has("chardev")) {
          throw new Refusal("No backend specified", { wouldWork: "-object qtest,id=NAME,chardev=ID" });
        }
        this.takeQtest({ option: "-object qtest", value: `chardev:${String(values.get("chardev"))}` });
        this.log = values.has("log") ? String(values.get("log")) : this.log;
        return true;
      }
      default:
        return false;
    }
  }

  /** `-action [panic=..][,reboot=..][,shutdown=..][,watchdog=..]` (qapi/run-state.json). @throws Refusal */
  private takeAction(value: string): void {
    for (const [name, given] of parseOptionString("-action", value, null).values) {
      const values = ACTIONS[name];
      const said = scalar(name, given);
      if (values === undefined) {
        throw new Refusal(`Invalid parameter '${name}'`, { found: `-action ${value}`, wouldWork: Object.keys(ACTIONS).join(", ") });
      }
      if (!values.includes(said)) {
        throw new Refusal(`Parameter '${name}' does not accept value '${said}'`, { found: `-action ${value}`, wouldWork: values.join(", ") });
      }
      switch (name) {
        case "panic":
          this.onPanic = said as PanicAction;
          break;
        case "reboot":
          this.noReboot = said === "shutdown";
          break;
        case "shutdown":
          this.noShutdown = said === "pause";
          break;
      }
    }
  }

  private takeQtest(qtest: { option: string; value: string }): void {
    if (this.qtest !== null) {
      throw new Refusal("Only one instance of qtest can be created", { found: `${describeArgument(this.qtest.option, this.qtest.value)} too` });
    }
    this.qtest = qtest;
  }

  /**
   * @param notes takes a line for each -chardev that nothing here uses
   * @param elsewhere ids of those that other options use
   * @param resets a guest's reset is the machine's, as a kernel's is
   * @param console a console is a monitor too (`mon:`)
   * @throws Refusal where a chardev that is named does not exist
   */
  finish(notes: string[], elsewhere: readonly string[], resets: boolean, console: boolean): ControlArguments {
    const { qtest, chardevs, noShutdown, noReboot, onPanic } = this;
    const find = (option: string, value: string, device: string): ChardevSpec =>
      located(describeArgument(option, value), () => parseChardevShort(option, device, chardevs));
    const spec = qtest === null ? null : find(qtest.option, qtest.value, qtest.value);
    // A monitor on a descriptor that a management program holds, as in libvirt's logs, is one that nobody speaks to.
    const [closed, open] = [true, false].map((wanted) => this.monitors.filter(({ device }) => (chardevs.get(chardevId(device) ?? "")?.spec === null) === wanted));
    closed.forEach(({ option, value }) => notes.push(`${describeArgument(option, value)}: its character device is not opened here, there is no such monitor`));
    const monitors = open.map(({ option, value, device, mode, pretty }, index) => ({
      label: chardevId(device) ?? `compat_monitor${index}`,
      spec: find(option, value, device),
      mode,
      pretty,
    }));
    const used = [...monitors.map(({ label }) => label), chardevId(qtest?.value ?? "")];
    used.push(...elsewhere);
    checkUsedOnce(used);
    const controlled = qtest !== null || monitors.length > 0 || console;
    if (this.stopped && !controlled) {
      notes.push("-S: the guest starts at once, for there is no monitor to say cont");
    }
    if (noReboot && !resets && monitors.length === 0) {
      notes.push("-no-reboot: only a monitor's system_reset heeds it, and there is no monitor");
    }
    for (const [id, text] of this.texts) {
      if (!used.includes(id)) {
        notes.push(`${text}: no backend is opened here`);
      }
    }
    return { qtest: spec, qtestLog: this.log, stopped: this.stopped && controlled, noShutdown, noReboot, onPanic, monitors, chardevs };
  }
}

/** `-mon [chardev=]ID[,mode=readline|control][,pretty=on|off]`. */
function parseMon(value: string): MonitorOption {
  const { values } = parseOptionString("-mon", value, "chardev");
  for (const key of values.keys()) {
    if (!["chardev", "mode", "pretty", "id"].includes(key)) {
      throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "-mon [chardev=]ID,mode=control" });
    }
  }
  const chardev = values.get("chardev");
  if (chardev === undefined) {
    throw new Refusal("Parameter 'chardev' is missing", { wouldWork: "-mon chardev=ID,mode=control" });
  }
  const mode = values.get("mode") ?? "readline";
  if (mode !== "control" && mode !== "readline") {
    throw new Refusal(`Parameter 'mode' does not accept value '${String(mode)}'`, { wouldWork: "control, readline" });
  }
  const pretty = values.has("pretty") && parseBool("pretty", String(values.get("pretty")));
  if (pretty && mode === "readline") {
    throw new Refusal("'pretty' is not compatible with HMP monitors", { wouldWork: "mode=control" });
  }
  return { option: "-mon", value, device: `chardev:${String(chardev)}`, mode, pretty };
}

/** A character device has one user (QEMU's qemu_chr_fe_init). */
function checkUsedOnce(labels: ReadonlyArray<string | null>): void {
  const twice = labels.find((label, index) => label !== null && labels.indexOf(label) !== index);
  if (twice !== undefined && twice !== null) {
    throw new Refusal(`chardev '${twice}' is already in use`, { wouldWork: "a -chardev for each" });
  }
}
