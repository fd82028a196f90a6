/**
 * QEMU's command line as a description of a machine: nothing is made here, and nothing of the host is asked.
 * What cannot be is refused with QEMU's words first.
 */
import { Refusal } from "../../support/index.js";
import { dropProgram } from "./argument-file.js";
import { boardTraits } from "./boards.js";
import { type BootArguments, BootOptions } from "./boot.js";
import { type ControlArguments, ControlOptions } from "./control.js";
import { currentProperties, type DeviceArgument, type GlobalProperty, MULTIPLE_IOMMUS, parseDevice, setProperty, textProperty } from "./device.js";
import { Drives } from "./drive.js";
import { applyAccelOption } from "./common-options.js";
import { applyMachineOption, type MachineOptions, startOptions } from "./machine-options.js";
import { type MemoryArguments, parseMemory, parseNuma, type NumaArguments } from "./memory.js";
import { numberExpanders } from "./expander-numbers.js";
import { nearest } from "./nearest.js";
import { type ObjectArgument, parseObject } from "./object.js";
import { describeArgument, located, parseOptionString } from "./option-string.js";
import { optionRules } from "./other-options.js";
import { deviceModels } from "./device-table.js";
import { parseSmp, type SmpArguments } from "./smp.js";
import { type TraceArguments, TraceOptions } from "./trace.js";

/** Of a machine, or of one board's. */
export interface MachineArguments<Options extends MachineOptions = MachineOptions> {
  readonly machine: Options;
  readonly memory: MemoryArguments;
  readonly numa: NumaArguments;
  /** Recorded; null: not said. */
  readonly cpu: string | null;
  readonly smp: SmpArguments;
  readonly objects: readonly ObjectArgument[];
  /** In the order of the command line, which is the order in which they are made. */
  readonly devices: readonly DeviceArgument[];
  /** What -drive and -blockdev describe. */
  readonly drives: Drives;
  readonly globals: readonly GlobalProperty[];
  readonly trace: TraceArguments;
  readonly name: string | null;
  readonly uuid: string | null;
  readonly control: ControlArguments;
  readonly boot: BootArguments;
  /** Options that were accepted and have no effect, or were taken for others, a line each. */
  readonly notes: readonly string[];
}

/**
 * Parses a machine's arguments.
 * @param words as a shell gives them; a leading program name is dropped
 * @throws Refusal
 */
export function parseArguments(words: readonly string[]): MachineArguments {
  const rest = dropProgram(words);
  const options = collect(rest);
  const notes: string[] = [];
  let cpu: string | null = null;
  let smp: SmpArguments = { cpus: 1, maxCpus: 1 };
  let memoryText: string | null = null;
  let name: string | null = null;
  let uuid: string | null = null;
  const numaTexts: string[] = [];
  const deviceTexts: string[] = [];
  const objects: ObjectArgument[] = [];
  const globals: GlobalProperty[] = [];
  const trace = new TraceOptions();
  const control = new ControlOptions();
  const boot = new BootOptions();
  const drives = new Drives();
  let nodefaults = false;
  const intelIommu = options.some(({ option, value }) => option === "device" && isIntelIommu(value));
  const machine = startOptions(
    options.flatMap(({ option, value }) => {
      const where = describeArgument(`-${option}`, value);
      return isMachine(option) && !isHelp(value) ? [{ where, parsed: located(where, () => parseOptionString(`-${option}`, value, "type")) }] : [];
    }),
    intelIommu,
  );

  for (const { option, value } of options) {
    const where = describeArgument(`-${option}`, value);
    located(where, () => {
      if (isHelp(value) && option !== "trace") {
        throw new Refusal(`-${option} ${value} asks QEMU for a list`, { wouldWork: "viommu devices, viommu device NAME, viommu hosts" });
      }
      if (control.take(option, value) || boot.take(option, value) || drives.take(option, value, machine.board, notes) || trace.take(option, value, notes)) {
        return;
      }
      switch (option) {
        case "machine":
        case "M":
          applyMachineOption(machine, parseOptionString(`-${option}`, value, "type"), notes);
          break;
        case "accel":
          applyAccelOption(machine, parseOptionString("-accel", value, "accel"), notes);
          break;
        case "enable-kvm":
          machine.accelerator = "kvm";
          break;
        case "cpu":
          cpu = parseCpu(value);
          break;
        case "smp":
          smp = parseSmp(value);
          break;
        case "m":
          memoryText = value;
          break;
        case "numa":
          numaTexts.push(value);
          break;
        case "object":
          objects.push(parseObject(value, notes));
          break;
        case "device":
          deviceTexts.push(value);
          break;
        case "global":
          globals.push(parseGlobal(value, notes));
          break;
        case "name":
          name = parseName(value);
          break;
        case "uuid":
          uuid = parseUuid(value);
          break;
        case "nodefaults":
          nodefaults = true;
          break;
        case "nic":
        case "net":
          nodefaults ||= value === "none";
          parseNic(option, value, notes);
          break;
        default:
          noteOption(option, value, notes);
      }
    });
  }
  const limit = boardTraits[machine.board].maxCpus;
  if (machine.type !== "" && smp.maxCpus > limit) {
    throw new Refusal(`Invalid SMP CPUs ${smp.maxCpus}. The max CPUs supported by machine '${machine.type}' is ${limit}`, { wouldWork: `-smp ${limit}` });
  }
  if (machine.type === "") {
    throw new Refusal("No machine specified, and there is no default", { found: options.length === 0 ? "no arguments" : "no -machine", wouldWork: "-machine virt, -machine q35" });
  }
  if (!nodefaults) {
    notes.push(`QEMU adds ${boardTraits[machine.board].defaultDevices} where -nodefaults is not said; viommu makes what is asked for and no more`);
  }
  const { board, version } = machine;
  let devices = deviceTexts.map((text) => parseDevice("-device", text, { globals, version, board, intelIommu, notes }));
  checkIds(devices, objects);
  checkSingleIommu(devices);
  devices = numberExpanders(devices, machine.board === "q35" || (machine.highmem && machine.highmemEcam) ? 256 : 16, notes);
  drives.finish(new Set(devices.filter(({ model }) => model.name === "nvme").map((device) => textProperty(device, "drive"))), notes);
  const kvm = machine.accelerator === "kvm";
  const controls = control.finish(notes, boot.chardevIds, kvm && boot.hasKernel, kvm && boot.consoleIsMonitor(!nodefaults));
  return {
    machine,
    memory: parseMemory(memoryText),
    numa: parseNuma(numaTexts, smp.maxCpus),
    cpu,
    smp,
    objects,
    devices,
    drives,
    globals,
    trace: trace.finish(),
    name,
    uuid,
    control: controls,
    boot: boot.finish(controls.chardevs, { kvm, board: machine.board, devices: !nodefaults }, notes),
    notes,
  };
}

/** The options in order, each with its argument ("" for a flag). */
function collect(words: readonly string[]): Array<{ option: string; value: string }> {
  const options: Array<{ option: string; value: string }> = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (!word.startsWith("-") || word === "-") {
      throw new Refusal(`'${word}' is not an option`, {
        found: i === 0 ? "it stands first" : `it stands after ${words[i - 1]}`,
        wouldWork: "options start with '-'; a disk image is said with -device virtio-blk-pci",
      });
    }
    const option = word.replace(/^--?/, "");
    const rule = optionRules.get(option);
    if (rule === undefined) {
      const near = nearest(option, optionRules.keys());
      throw new Refusal(`${word}: invalid option`, {
        found: near === null ? "an option that neither QEMU nor viommu has" : `did you mean -${near}?`,
        wouldWork: "-machine -cpu -smp -m -numa -object -device -global -trace",
      });
    }
    if (rule.refused !== undefined) {
      throw new Refusal(`${word}: not possible here`, { found: rule.refused.reason, wouldWork: rule.refused.instead });
    }
    if (!rule.argument) {
      options.push({ option, value: "" });
    } else if (i + 1 >= words.length) {
      throw new Refusal(`${word}: requires an argument`, { found: "it is the last word" });
    } else {
      options.push({ option, value: words[++i] });
    }
  }
  return options;
}

function noteOption(option: string, value: string, notes: string[]): void {
  const rule = optionRules.get(option)!;
  if (rule.note !== null && rule.note !== undefined && rule.silentFor?.test(value) !== true) {
    notes.push(`${describeArgument(`-${option}`, value).trimEnd()}: ${rule.note}`);
  }
}

function parseCpu(value: string): string {
  const model = value.split(",")[0];
  if (!/^[A-Za-z0-9._-]+$/.test(model)) {
    throw new Refusal(`unable to find CPU model '${model}'`, { wouldWork: "-cpu host, -cpu max, -cpu neoverse-v2" });
  }
  return value;
}

function parseGlobal(value: string, notes: string[]): GlobalProperty {
  const short = /^([^.=,]+)\.([^=]+)=(.*)$/s.exec(value);
  const { values } = short === null ? parseOptionString("-global", value, null) : { values: new Map(Object.entries({ driver: short[1], property: short[2], value: short[3] })) };
  const driver = values.get("driver");
  const name = values.get("property");
  const given = values.get("value");
  if (typeof driver !== "string" || typeof name !== "string" || typeof given !== "string") {
    throw new Refusal("Invalid 'global' option", { found: value, wouldWork: "-global driver.property=value" });
  }
  const model = deviceModels.get(driver);
  if (model === undefined) {
    notes.push(`-global ${driver}.${name}: no device here has that driver`);
  } else {
    currentProperties(model, name, given, []).forEach(([today, its]) => setProperty(model, today, its));
  }
  return { driver, name, value: given };
}

function parseName(value: string): string {
  const { values } = parseOptionString("-name", value, "guest");
  for (const key of values.keys()) {
    if (!["guest", "process", "debug-threads"].includes(key)) {
      throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "-name [guest=]NAME[,process=NAME][,debug-threads=on|off]" });
    }
  }
  return String(values.get("guest") ?? "");
}

function parseUuid(value: string): string {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(value)) {
    throw new Refusal("failed to parse UUID string: wrong format", { found: value, wouldWork: "8-4-4-4-12 hexadecimal digits" });
  }
  return value.toLowerCase();
}

function parseNic(option: string, value: string, notes: string[]): void {
  const kind = value.split(",")[0];
  if (kind === "none") {
    return;
  }
  if (option === "nic" || kind === "nic") {
    throw new Refusal(`-${option} would make a network card in a place of QEMU's choice`, { wouldWork: "-device virtio-net-pci,bus=pcie.0" });
  }
  notes.push(`${describeArgument(`-${option}`, value)}: no backend is opened here`);
}

function isMachine(option: string): boolean {
  return option === "machine" || option === "M";
}

function isHelp(value: string): boolean {
  return value === "help" || value === "?";
}

/** The argument of a -device is of an intel-iommu; one that cannot be parsed is told of later. */
function isIntelIommu(text: string): boolean {
  return /^\s*(?:driver=)?intel-iommu(?:,|$)|^\s*\{[^]*"driver"\s*:\s*"intel-iommu"/.test(text);
}

/** @throws Refusal in QEMU's words */
function checkSingleIommu(devices: readonly DeviceArgument[]): void {
  const [first, second] = devices.filter((device) => device.model.name === "intel-iommu");
  if (second !== undefined) {
    throw new Refusal(MULTIPLE_IOMMUS, { found: `${first.where}, and ${second.where}`, wouldWork: "one intel-iommu: it covers every root bus that does not bypass it" });
  }
}

/** Ids of devices are unique, and so are ids of objects. */
function checkIds(devices: readonly DeviceArgument[], objects: readonly ObjectArgument[]): void {
  const seen = new Map<string, string>();
  const check = (kind: "device" | "object", id: string, where: string): void => {
    if (id === "") {
      return;
    }
    const other = seen.get(`${kind}:${id}`);
    if (other !== undefined) {
      throw new Refusal(`Duplicate ID '${id}' for ${kind}`, { found: `${other}, and ${where}`, wouldWork: "another id" });
    }
    seen.set(`${kind}:${id}`, where);
  };
  objects.forEach((object) => check("object", object.id, object.where));
  devices.forEach((device) => check("device", device.id, device.where));
}
