/**
 * QEMU's command line as a description of a machine: nothing is made here, and nothing of the host is asked.
 * What cannot be is refused with QEMU's words first.
 */
import { errorFindings, type Finding, type Place, Refusal, RefusalCollector } from "../../support/index.js";
import { BOARD_KINDS, boardTraits } from "./boards.js";
import { type BootArguments, BootOptions } from "./boot.js";
import { type ControlArguments, ControlOptions } from "./control.js";
import { currentProperties, type DeviceArgument, deviceLabel, type GlobalProperty, MULTIPLE_IOMMUS, parseDevice, setProperty, textProperty } from "./device.js";
import { Drives } from "./drive.js";
import { applyAccelOption } from "./common-options.js";
import { applyMachineOption, lastOptions, type MachineOptions, startOptions } from "./machine-options.js";
import { DEFAULT_RAM, type MemoryArguments, parseMemory } from "./memory.js";
import { type NumaArguments, parseNuma } from "./numa.js";
import { numberExpanders } from "./expander-numbers.js";
import { collectOptions, type GivenOption } from "./given-options.js";
import { audioDevices, displayDevice, MADE, networkDevice, usbControllers } from "./implied-devices.js";
import { noteLateIommus } from "./late-iommus.js";
import { type LocatedWord, locateWords, placeOf } from "./located-words.js";
import { type ObjectArgument, parseObject } from "./object.js";
import { describeArgument, located, parseOptionString } from "./option-string.js";
import { optionRules } from "./other-options.js";
import { deviceCatalogue } from "./catalogue/record.js";
import { deviceModels } from "./device-table.js";
import { type CommandHead, commandHead, dropProgram } from "./program.js";
import { cpuLevels, ONE_PROCESSOR, parseSmp, type SmpArguments } from "./smp.js";
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
  /** IDs of devices that were refused: what names one of them is not told of again. Left out: none was. */
  readonly refusedIds?: ReadonlySet<string>;
  /** Options that were accepted and have no effect, or were taken for others, a line each. */
  readonly notes: readonly string[];
}

/** What is read of an input, and all that there is to tell of it. */
export interface ReadArguments {
  /** Null: there are errors among the findings. */
  readonly arguments: MachineArguments | null;
  /** What could be read, errors or not, for who looks what else is wrong; null: not enough for a machine. */
  readonly partial: MachineArguments | null;
  /** In the order of the input; what is about no word of it comes last. */
  readonly findings: readonly Finding[];
}

/** Words as a shell gives them, or that know where they stand; a leading program name is dropped. */
export type ArgumentWords = ReadonlyArray<string | LocatedWord>;

/** Words with what there is to tell of how they were read. */
export interface ArgumentInput {
  readonly words: ArgumentWords;
  readonly findings: readonly Finding[];
}

/**
 * Parses a machine's arguments.
 * @throws Refusal of everything that is wrong with them
 */
export function parseArguments(words: ArgumentWords | ArgumentInput): MachineArguments {
  const { args, refusals } = new ArgumentReader().read(words);
  refusals.throwAll();
  return args!;
}

/** Reads a machine's arguments, and tells all that is wrong with them, and each note with its place. */
export function readArguments(words: ArgumentWords | ArgumentInput): ReadArguments {
  const { args, refusals, findings } = new ArgumentReader().read(words);
  const at = ({ place }: Finding): number => place?.word ?? Number.POSITIVE_INFINITY;
  const all = [...refusals.parts.flatMap((one) => errorFindings(one)), ...findings];
  return { arguments: refusals.any ? null : args, partial: args, findings: all.sort((a, b) => (at(a) === at(b) ? 0 : at(a) - at(b))) };
}

/** Reads one input. What cannot be read does not hide what is wrong with the rest. */
class ArgumentReader {
  readonly refusals = new RefusalCollector();
  private readonly notes: string[] = [];
  private readonly notePlaces = new Map<number, Place>();
  private options: readonly GivenOption[] = [];

  /** args is null where it cannot be told what machine it is. */
  read(input: ArgumentWords | ArgumentInput): { args: MachineArguments | null; refusals: RefusalCollector; findings: Finding[] } {
    const { words, findings: told } = "words" in input ? input : { words: input, findings: [] };
    const all = locateWords(words);
    this.notes.push(...told.map((one) => one.words));
    const head = commandHead(all.map(({ text }) => text));
    if (head.wrapper !== "") {
      this.notePlaces.set(this.notes.length, placeOf(all[0]));
      this.notes.push(`${head.wrapper}: what starts QEMU has no effect here`);
    }
    const rest = this.refusals.attempt(() => dropProgram(all), { rule: "unknown-program", ...(all.length === 0 ? {} : { place: placeOf(all[0]) }) });
    const args = rest === undefined ? null : this.readOptions(head, rest);
    const notes = this.notes.map((text, index): Finding => told[index] ?? { level: "note", rule: "note", words: text, place: this.notePlaces.get(index) ?? this.placeOfText(text) ?? null });
    return { args, refusals: this.refusals, findings: notes };
  }

  /** Runs what reads one option: its refusals and notes are of its place. @returns undefined where it is refused */
  private at<T>({ option, where, place }: Pick<GivenOption, "option" | "where" | "place">, body: () => T): T | undefined {
    const before = this.notes.length;
    const result = this.refusals.attempt(() => located(where, body), { rule: `invalid-${option}`, place });
    for (let index = before; index < this.notes.length; index++) {
      this.notePlaces.set(index, place);
    }
    return result;
  }

  /** Runs what reads several options at once: refusals tell which of them they are about. */
  private together<T>(rule: string, body: () => T): T | undefined {
    const those = new RefusalCollector();
    const result = those.attempt(body);
    for (const refusal of those.parts) {
      const place = this.options.find(({ where }) => where === refusal.where)?.place;
      this.refusals.attempt(() => {
        throw refusal;
      }, { rule, ...(place === undefined ? {} : { place }) });
    }
    return result;
  }

  /** The place of the option that a text begins with. */
  private placeOfText(text: string): Place | undefined {
    return this.options.find(({ where }) => text.startsWith(where))?.place;
  }

  /** @param head what stands before the options */
  private readOptions(head: CommandHead, words: readonly LocatedWord[]): MachineArguments | null {
    const { notes, refusals } = this;
    const options = collectOptions(words, refusals, (text, place) => {
      this.notePlaces.set(notes.length, place);
      notes.push(text);
    });
    this.options = options;
    let cpu: string | null = null;
    let smp: SmpArguments | undefined = ONE_PROCESSOR;
    let memoryText: string | null = null;
    let name: string | null = null;
    let uuid: string | null = null;
    const numaTexts: Array<{ readonly text: string; readonly place: Place }> = [];
    const deviceOptions: Array<GivenOption & { readonly made: number }> = [];
    const objects: ObjectArgument[] = [];
    const globals: GlobalProperty[] = [];
    const trace = new TraceOptions();
    const control = new ControlOptions();
    const boot = new BootOptions();
    const drives = new Drives();
    let nodefaults = false;
    let nics = false;
    let chardevs = true;
    const intelIommu = options.some(({ option, value }) => option === "device" && isIntelIommu(value));
    let usb: GivenOption | null = null;
    const given = new Map(
      options.flatMap((one) => {
        const parsed = isMachine(one.option) && !isHelp(one.value) ? this.at(one, () => parseOptionString(`-${one.option}`, one.value, "type")) : undefined;
        return parsed === undefined ? [] : [[one, parsed] as const];
      }),
    );
    const machine = this.together("unsupported-machine", () => startOptions([...given].map(([{ where }, parsed]) => ({ where, parsed })), intelIommu, notes)) ?? guessOptions(head, intelIommu);
    for (const one of options) {
      const { option, value } = one;
      const done = this.at(one, () => {
        if (isHelp(value) && option !== "trace") {
          throw new Refusal(`-${option} ${value} asks QEMU for a list`, { wouldWork: "viommu devices, viommu device NAME, viommu hosts" });
        }
        if (control.take(option, value) || boot.take(option, value) || drives.take(option, value, machine.board, notes) || trace.take(option, value, notes)) {
          deviceOptions.push(...drives.functions.splice(0).map((text) => ({ ...one, value: text, made: MADE.drive })));
          return true;
        }
        const imply = (made: number, ...texts: readonly string[]): void => void deviceOptions.push(...texts.map((text) => ({ ...one, value: text, made })));
        switch (option) {
          case "machine":
          case "M": {
            const parsed = given.get(one);
            const before = machine.usb;
            if (parsed !== undefined) {
              applyMachineOption(machine, parsed, notes);
            }
            usb = machine.usb && !before ? one : machine.usb ? usb : null;
            break;
          }
          case "accel":
            applyAccelOption(machine, parseOptionString("-accel", value, "accel"), notes);
            break;
          case "cpu":
            cpu = parseCpu(value);
            break;
          case "smp":
            smp = undefined;
            smp = parseSmp(value, machine.board, machine.version);
            break;
          case "m":
            memoryText = value;
            break;
          case "numa":
            numaTexts.push({ text: value, place: one.place });
            break;
          case "object":
            objects.push(parseObject(value, notes));
            break;
          case "device":
            imply(value.trimStart().startsWith("{") ? MADE.json : MADE.said, value);
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
            nics = true;
            imply(MADE.network, ...[networkDevice(option, value, machine.board, notes)].filter((text) => text !== null));
            break;
          case "vga":
            imply(MADE.display, ...[displayDevice(value, machine.board, notes)].filter((text) => text !== null));
            break;
          case "audio":
            imply(MADE.sound, ...audioDevices(value, notes));
            break;
          default:
            noteOption(option, value, notes);
        }
        return true;
      });
      chardevs &&= option !== "chardev" || done === true;
    }
    // What cannot be told without what has been refused is not told of.
    const { maxCpus } = smp ?? { maxCpus: null };
    const limit = boardTraits[machine.board].maxCpus;
    if (machine.type !== "" && maxCpus !== null && maxCpus > limit) {
      this.together("too-many-cpus", () => {
        throw new Refusal(`Invalid SMP CPUs ${maxCpus}. The max CPUs supported by machine '${machine.type}' is ${limit}`, { wouldWork: `-smp ${limit}`, where: options.findLast(({ option }) => option === "smp")?.where });
      });
    }
    if (machine.type === "") {
      this.together("no-machine", () => {
        if (!options.some(({ option, value }) => isMachine(option) && isHelp(value))) {
          throw new Refusal("No machine specified, and there is no default", { found: options.length === 0 ? "no arguments" : "no -machine", wouldWork: "-machine virt, -machine q35" });
        }
      });
      return null;
    }
    const added = boardTraits[machine.board].defaultDevices.filter(({ unless }) => !nodefaults && !(unless === "nic" ? nics : options.some(({ option }) => option === unless))).map(({ what }) => what);
    if (added.length > 0) {
      notes.push(`QEMU adds ${added.length === 1 ? added[0] : `${added.slice(0, -1).join(", ")} and ${added.at(-1)!}`} where -nodefaults is not said; viommu makes what is asked for and no more`);
    }
    const { board, version } = machine;
    if (usb !== null) {
      const option: GivenOption = usb;
      deviceOptions.push(...usbControllers(board).map((text) => ({ ...option, value: text, made: MADE.usb })));
    }
    const refusedIds = new Set<string>();
    const devices = deviceOptions.sort((a, b) => a.made - b.made).flatMap((one) => {
      const device = this.at(one, () => parseDevice("-device", one.value, { globals, version, board, intelIommu, notes }));
      if (device === undefined) {
        refusedIds.add(/(?:^|,)id=([^,]+)|"id"\s*:\s*"([^"]+)"/.exec(one.value)?.slice(1).find((id) => id !== undefined) ?? "");
        return [];
      }
      return [{ ...device, place: one.place }];
    });
    noteUnmodelled(devices, notes);
    this.checkIds(devices, objects);
    this.checkSingleIommu(devices);
    noteLateIommus(devices, notes);
    const made = numberExpanders(devices, machine.board === "q35" || (machine.highmem && machine.highmemEcam) ? 256 : 16, notes);
    const kvm = machine.accelerator === "kvm";
    drives.finish(new Set(made.filter(({ model }) => model.name === "nvme").map((device) => textProperty(device, "drive"))), notes, !(kvm && boot.hasKernel));
    const controls = chardevs ? this.together("invalid-monitor", () => control.finish(notes, boot.chardevIds, kvm && boot.hasKernel, kvm && boot.consoleIsMonitor(!nodefaults))) : undefined;
    const boots = controls === undefined ? undefined : this.together("invalid-serial", () => boot.finish(controls.chardevs, { kvm, board: machine.board, devices: !nodefaults }, notes));
    const memory = this.together("invalid-m", () => parseMemory(memoryText));
    const numa =
      smp === undefined || memory === undefined
        ? undefined
        : this.together("invalid-numa", () =>
            parseNuma(numaTexts, {
              smp: smp!,
              levels: cpuLevels[machine.board],
              hmat: machine.hmat,
              initiators: new Set(objects.flatMap(({ initiator }) => initiator?.node ?? [])),
              growing: memory.slots > 0 || memory.maxSize > (memory.size ?? objects.find(({ id }) => id === machine.memoryBackend)?.size ?? DEFAULT_RAM),
            }),
          );
    if (smp === undefined || memory === undefined || numa === undefined || controls === undefined || boots === undefined) {
      return null;
    }
    return { machine, memory, numa, cpu, smp, objects, devices: made, drives, globals, trace: trace.finish(), name, uuid, control: controls, boot: boots, ...(refusedIds.size > 0 ? { refusedIds } : {}), notes };
  }

  private checkSingleIommu(devices: ReadonlyArray<DeviceArgument & { readonly place: Place }>): void {
    const [first, ...others] = devices.filter((device) => device.model.name === "intel-iommu");
    for (const { where, place } of others) {
      this.refusals.attempt(() => {
        throw new Refusal(MULTIPLE_IOMMUS, { found: `${first.where}, and ${where}`, wouldWork: "one intel-iommu: it covers every root bus that does not bypass it" });
      }, { rule: "multiple-iommus", place });
    }
  }

  /** Ids of devices are unique, and so are ids of objects. */
  private checkIds(devices: ReadonlyArray<DeviceArgument & { readonly place: Place }>, objects: readonly ObjectArgument[]): void {
    const seen = new Map<string, string>();
    const check = (kind: "device" | "object", id: string, where: string, place: Place | undefined): void => {
      if (id === "") {
        return;
      }
      const other = seen.get(`${kind}:${id}`);
      this.refusals.attempt(() => {
        if (other !== undefined) {
          throw new Refusal(`Duplicate ID '${id}' for ${kind}`, { found: `${other}, and ${where}`, wouldWork: "another id" });
        }
      }, { rule: "duplicate-id", ...(place === undefined ? {} : { place }) });
      seen.set(`${kind}:${id}`, other ?? where);
    };
    objects.forEach((object) => check("object", object.id, object.where, this.options.findLast(({ where }) => where === object.where)?.place));
    devices.forEach((device) => check("device", device.id, device.where, device.place));
  }
}

/** Tells in a line each which devices have nothing behind them here. */
function noteUnmodelled(devices: readonly DeviceArgument[], notes: string[]): void {
  const tell = (category: "placed" | "other", words: string): void => {
    const those = devices.filter(({ model }) => model.category === category);
    if (those.length > 0) {
      notes.push(`${words}: ${those.map(deviceLabel).join(", ")}`);
    }
  };
  tell("placed", "placed, with configuration space and BARs as QEMU has them, and not modelled");
  tell("other", "taken, of buses that are not modelled, and without effect");
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
    // One that is placed looks for itself when it is made.
    if (deviceCatalogue().find(driver) !== null) {
      return { driver, name, value: given };
    }
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

/** The options of a machine whose type is none: of the program's architecture, so that the rest can be read. */
function guessOptions({ program, architecture }: CommandHead, intelIommu: boolean): MachineOptions {
  const ofProgram = BOARD_KINDS.find((kind) => boardTraits[kind].architecture === architecture);
  return lastOptions(ofProgram ?? (program !== null || intelIommu ? "q35" : "virt"));
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
