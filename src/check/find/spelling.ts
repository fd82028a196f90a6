/** Spellings of other versions, files that may not be there. */
import { currentProperties, deviceLabel, textProperty } from "../../machine/arguments/index.js";
import type { Change } from "../line.js";
import type { Raised, Subject } from "../subject.js";
import { atLeast, qemuOf } from "./version.js";

const TODAY: readonly [number, number] = [11, 1];

/** Properties by names that QEMU has no more. */
export function olderSpellings(subject: Subject): Raised[] {
  const { args, line } = subject;
  const version = qemuOf(line.text.text);
  if (version !== null && !atLeast(version, TODAY)) {
    return [];
  }
  return args.devices.flatMap((device) => {
    const option = subject.optionOf(device);
    return [...new Set(line.properties(option))].flatMap((name): Raised[] => {
      if (!device.model.older.has(name)) {
        return [];
      }
      const value = line.said(option, name) ?? "";
      const json = value === "true" || value === "false" ? value === "true" : value === "" ? "on" : value;
      const now = currentProperties(device.model, name, json, []).map(([today, its]) => [today, typeof its === "boolean" ? (its ? "on" : "off") : String(its)] as const);
      const set = now.map(([property, its]): Change => ({ kind: "set", option, property, value: its }));
      return [
        {
          rule: "older-spelling",
          words: `Property '${device.model.name}.${name}' not found`,
          found: `${name}=${value === "" ? "on" : value}, as QEMU had it before 11.1`,
          wouldWork: now.length === 0 ? `leaving ${name} out` : now.map(([property, its]) => `${property}=${its}`).join(","),
          spot: { option, property: name },
          // One name for another at its place; several behind it.
          mend: now.length === 1 && line.said(option, now[0][0]) === undefined && now[0][1] === (value === "" ? "on" : value === "true" ? "on" : value === "false" ? "off" : value) ? [{ kind: "rename", option, property: name, to: now[0][0] }] : [{ kind: "unset", option, property: name }, ...set],
        },
      ];
    });
  });
}

/** Expansion ROMs of files: whether they are there is seen on the host alone. */
export function romFiles(subject: Subject): Raised[] {
  return subject.topology.passedThrough.flatMap((fn): Raised[] => {
    const file = textProperty(fn, "romfile");
    return file === "" ? [] : [{ rule: "rom-file", words: `${deviceLabel(fn)} shows the guest the expansion ROM of ${file}`, found: "QEMU ends where the file is not there or longer than romsize; an empty romfile= shows none", spot: subject.spotOf(fn, "romfile") }];
  });
}
