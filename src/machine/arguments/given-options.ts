/** The options of a command line, one by one: those that stand for others as those, files of options read, -set carried out. */
import { type Place, Refusal, RefusalCollector } from "../../support/index.js";
import { type LocatedWord, placeOf } from "./located-words.js";
import { nearest } from "./nearest.js";
import { describeArgument, parseOptionString } from "./option-string.js";
import { optionRules } from "./other-options.js";
import { readConfig } from "./read-config.js";

export interface GivenOption {
  readonly option: string;
  /** "" for a flag. */
  readonly value: string;
  /** As the user wrote it, for messages: `-device edu,addr=1`. */
  readonly where: string;
  readonly place: Place;
}

/** Files that QEMU would take for a disk where no option stands before them. */
const IMAGE = /^\/|\.(?:img|qcow2?|raw|iso|vmdk|vdi|vhdx?|qed)$/i;

/**
 * Gathers the options in order.
 * @param note takes what there is to tell of one
 */
export function collectOptions(words: readonly LocatedWord[], refusals: RefusalCollector, note: (text: string, place: Place) => void): GivenOption[] {
  const options: GivenOption[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const { text } = word;
    refusals.attempt(() => {
      if (!text.startsWith("-") || text === "-") {
        if (IMAGE.test(text)) {
          const place = placeOf(word);
          note(`${text}: taken as -hda ${text}`, place);
          options.push(...expand("hda", text, text, place, note));
          return;
        }
        throw new Refusal(`'${text}' is not an option`, {
          found: i === 0 ? "it stands first" : `it stands after ${words[i - 1].text}`,
          wouldWork: "options start with '-'; a disk image is said with -device virtio-blk-pci",
        });
      }
      const option = text.replace(/^--?/, "");
      const rule = optionRules.get(option);
      if (rule === undefined) {
        // What follows and is no option would be its argument.
        i += words[i + 1]?.text.startsWith("-") === false ? 1 : 0;
        const near = nearest(option, optionRules.keys());
        throw new Refusal(`${text}: invalid option`, {
          found: near === null ? "an option that neither QEMU nor viommu has" : `did you mean -${near}?`,
          wouldWork: "-machine -cpu -smp -m -numa -object -device -global -trace",
        });
      }
      if (rule.argument && i + 1 >= words.length) {
        throw new Refusal(`${text}: requires an argument`, { found: "it is the last word" });
      }
      const value = rule.argument ? words[++i].text : "";
      const where = describeArgument(`-${option}`, value).trimEnd();
      options.push(...expand(option, value, where, placeOf(word, where), note));
    }, { rule: "invalid-option", place: placeOf(word) });
  }
  return carryOut(options, refusals);
}

/** The options that one comes to. @throws Refusal */
function expand(option: string, value: string, where: string, place: Place, note: (text: string, place: Place) => void): GivenOption[] {
  const rule = optionRules.get(option)!;
  if (rule.refused !== undefined) {
    throw new Refusal(`-${option}: not possible here`, { found: rule.refused.reason, wouldWork: rule.refused.instead });
  }
  const others = rule.becomes?.(value) ?? null;
  if (rule.gone !== undefined) {
    const taken = others === null || others.length === 0 ? "it has no effect here" : `taken as ${others.map(([name, its]) => describeArgument(`-${name}`, its)).join(" ")}`;
    note(`${where}: QEMU ${rule.gone.since} has it no more, ${rule.gone.instead} is in its place; ${taken}`, place);
  }
  if (option === "readconfig") {
    const { options, note: told } = readConfig(value);
    if (told !== null) {
      note(told, place);
    }
    const refusals = new RefusalCollector();
    const found = options.flatMap((one) => refusals.attempt(() => {
      if (!optionRules.has(one.option)) {
        throw new Refusal(`There is no option group '${one.option}'`, { found: `${value}:${one.line}`, wouldWork: "device, drive, object, machine, memory, ..." });
      }
      return expand(one.option, one.value, describeArgument(`-${one.option}`, one.value), told === null ? { ...place, source: value, line: one.line, column: 1 } : place, note);
    }) ?? []);
    refusals.throwAll();
    return found;
  }
  if (others === null) {
    return rule.gone === undefined ? [{ option, value, where, place }] : [];
  }
  return others.flatMap(([name, its]) => expand(name, its, where, place, note));
}

/** `-set group.id.property=value` changes an option that stands before it (system/vl.c, qemu_set_option). */
function carryOut(options: readonly GivenOption[], refusals: RefusalCollector): GivenOption[] {
  const done: GivenOption[] = [];
  for (const one of options) {
    if (one.option !== "set") {
      done.push(one);
      continue;
    }
    refusals.attempt(() => {
      const [, group, id, property, value] = /^([^.]+)\.([^.]+)\.([^=]+)=(.*)$/s.exec(one.value) ?? [];
      if (group === undefined) {
        throw new Refusal(`can't parse: "${one.value}"`, { found: one.where, wouldWork: "-set device.ID.property=value" });
      }
      const at = done.findIndex((other) => other.option === group && !other.value.trimStart().startsWith("{") && idOf(other) === id);
      if (at < 0) {
        throw new Refusal(`there is no ${group} "${id}" defined`, { found: one.where, wouldWork: `-${group} with id=${id}, in QEMU's name=value form, before it` });
      }
      done[at] = { ...done[at], value: `${done[at].value},${property}=${value.replaceAll(",", ",,")}` };
    }, { rule: "invalid-set", place: one.place });
  }
  return done;
}

function idOf({ option, value }: GivenOption): string | null {
  try {
    const id = parseOptionString(`-${option}`, value, "").values.get("id");
    return typeof id === "string" ? id : null;
  } catch {
    return null;
  }
}
