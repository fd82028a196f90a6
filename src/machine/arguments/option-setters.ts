/** What takes the value of a -machine property: the pieces that boards' tables of properties are made of. */
import { Refusal } from "../../support/index.js";
import { parseBool } from "./property.js";

export type Setter<O> = (options: O, value: string, notes: string[]) => void;

export function boolean<O>(name: string, set: (options: O, value: boolean) => void): Setter<O> {
  return (options, value) => set(options, parseBool(name, value));
}

export function oneOf<O, T extends string>(name: string, values: readonly T[], hint: string, set: (options: O, value: T) => void): Setter<O> {
  return (options, value) => {
    const match = values.find((one) => one === value);
    if (match === undefined) {
      throw new Refusal(`Invalid ${name} value\nValid values are ${hint}`, { found: `${name}=${value}` });
    }
    set(options, match);
  };
}

/** A value that turns something on that is not here is refused; else there is nothing to say. */
export function onlyOff(name: string, reason: string, instead: string): Setter<unknown> {
  return (_options, value) => {
    if (parseBool(name, value)) {
      throw new Refusal(`${name}=on is not modelled`, { found: reason, wouldWork: instead });
    }
  };
}

export function notModelled(name: string): Setter<unknown> {
  return (_options, value) => {
    throw new Refusal(`${name} is not modelled`, { found: `${name}=${value}`, wouldWork: "leaving it out" });
  };
}

export function noEffect(name: string): Setter<unknown> {
  return (_options, value, notes) => {
    notes.push(`-machine ${name}=${value}: it has no effect here`);
  };
}

/** Properties, with spaces between them, that are taken and noted. */
export function withoutEffect(names: string): Record<string, Setter<unknown>> {
  return Object.fromEntries(names.split(" ").map((name) => [name, noEffect(name)]));
}

/** Text of so many bytes at the most, which is taken and noted. */
export function shortText(name: string, limit: number): Setter<unknown> {
  return (options, value, notes) => {
    if (value.length > limit) {
      throw new Refusal(`User specified ${name} value is bigger than ${limit} bytes in size`, { found: `${name}=${value}`, wouldWork: `up to ${limit} characters` });
    }
    noEffect(name)(options, value, notes);
  };
}
