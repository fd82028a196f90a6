/** What several views are made of. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { FieldReport } from "../../report/index.js";
import type { Questions, ViewClient } from "./view.js";
import { groups } from "./numbers-in-words.js";

export interface Answer<T> {
  /** The last that came; stays while a newer one is waited for. */
  readonly answer: T | null;
  /** The monitor's words. */
  readonly error: string | null;
  readonly waiting: boolean;
}

/** The answer to a question, asked again when the question or `moment` changes. Null as `given`: nothing is asked. */
export function useAnswer<K extends keyof Questions>(client: ViewClient, execute: K, given: Questions[K]["arguments"] | null, moment: number | string): Answer<Questions[K]["answer"]> {
  const [state, setState] = useState<Answer<Questions[K]["answer"]>>({ answer: null, error: null, waiting: given !== null });
  const key = given === null ? null : JSON.stringify(given);
  useEffect(() => {
    if (given === null) {
      setState({ answer: null, error: null, waiting: false });
      return;
    }
    let asked = true;
    setState((before) => ({ ...before, waiting: true }));
    client.ask(execute, given).then(
      (answer) => asked && setState({ answer, error: null, waiting: false }),
      (error: unknown) => asked && setState({ answer: null, error: error instanceof Error ? error.message : String(error), waiting: false }),
    );
    return () => {
      asked = false;
    };
  }, [client, execute, key, moment]);
  return state;
}

/** Text of a user, a host or a device: never markup, and its direction is its own. */
export function Name({ children }: { readonly children: string }) {
  return <bdi class="vw-name">{children}</bdi>;
}

/** A number of the specification's world: fixed width, digits in fours to read, and whole to copy, for what is between them is no text. */
export function Hex({ children }: { readonly children: string }) {
  const digits = groups(children);
  return <span class="vw-hex">{digits === null ? children : <>0x{digits.map((four) => <span>{four}</span>)}</>}</span>;
}

/** A state as a sign and a word, so that colour says nothing alone. */
export function Sign({ kind, children }: { readonly kind: "good" | "bad" | "warn" | "quiet"; readonly children: ComponentChildren }) {
  return (
    <span class={`vw-sign vw-${kind}`}>
      <span aria-hidden="true" class="vw-mark">{{ good: "✓", bad: "✕", warn: "▲", quiet: "·" }[kind]}</span>
      {children}
    </span>
  );
}

export function Problem({ children }: { readonly children: string }) {
  return (
    <p role="alert" class="vw-problem">
      <span aria-hidden="true" class="vw-mark">✕</span> <Name>{children}</Name>
    </p>
  );
}

export function Unknown({ lines }: { readonly lines: readonly string[] }) {
  return lines.length === 0 ? null : (
    <section class="vw-unknown">
      <h3>Not to be seen here</h3>
      <ul>
        {lines.map((line) => <li><Name>{line}</Name></li>)}
      </ul>
    </section>
  );
}

export function Section({ children }: { readonly children: string }) {
  return children === "" ? null : <span class="vw-section">{children}</span>;
}

/** A part of the page that scrolls sideways, also by keys. */
export function Wide({ label, children }: { readonly label: string; readonly children: ComponentChildren }) {
  return <div class="vw-wide" tabIndex={0} role="region" aria-label={label}>{children}</div>;
}

/** Raw 64-bit words, each with the bits that it holds. */
export function Words({ words }: { readonly words: readonly string[] }) {
  return words.length === 0 ? null : (
    <ol class="vw-words" aria-label="raw words">
      {words.map((word, at) => (
        <li>
          <span class="vw-bits">{at * 64 + 63}:{at * 64}</span> <Hex>{`0x${word.replace(/^0x/, "").padStart(16, "0")}`}</Hex>
        </li>
      ))}
    </ol>
  );
}

/** A structure's fields, as the specification names them. Fields that are zero and say nothing are told last, in a line. */
export function Fields({ fields, label }: { readonly fields: readonly FieldReport[]; readonly label: string }) {
  const told = fields.filter((field) => !isZero(field.value) || field.meaning !== null);
  const zero = fields.filter((field) => isZero(field.value) && field.meaning === null);
  return fields.length === 0 ? null : (
    <>
      {told.length > 0 && (
        <table class="vw-fields">
          <caption class="vw-hidden">{label}</caption>
          <thead>
            <tr><th scope="col">Bits</th><th scope="col">Field</th><th scope="col">Value</th><th scope="col">Says</th></tr>
          </thead>
          <tbody>
            {told.map((field) => (
              <tr>
                <td class="vw-bits">{bitsOf(field)}</td>
                <th scope="row">{field.name}</th>
                <td><Hex>{field.value}</Hex></td>
                <td>{field.meaning}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {zero.length > 0 && <p class="vw-zero">Zero: {zero.map((field, at) => <>{at > 0 && ", "}<span title={`bits ${bitsOf(field)}`}>{field.name}</span></>)}.</p>}
    </>
  );
}

function isZero(value: string): boolean {
  return /^0x0*$/.test(value);
}

export function bitsOf(field: { readonly high: number; readonly low: number }): string {
  return field.high === field.low ? `${field.high}` : `${field.high}:${field.low}`;
}

/** A labelled choice among names. The first is "all" or what stands for none. */
export function Choice({ label, value, options, all, problem, onChange }: {
  readonly label: string;
  readonly value: string;
  readonly options: readonly { readonly value: string; readonly text: string }[];
  readonly all?: string;
  readonly problem?: string | null;
  onChange(value: string): void;
}) {
  const id = useId();
  const known = value === "" || options.some((option) => option.value === value);
  return (
    <Labelled id={id} label={label} problem={problem}>
      <select id={id} value={value} aria-invalid={problem ? true : undefined} aria-describedby={problem ? `${id}-problem` : undefined} onChange={(event) => onChange(event.currentTarget.value)}>
        {all !== undefined && <option value="">{all}</option>}
        {!known && <option value={value}>{value}</option>}
        {options.map((option) => <option value={option.value}>{option.text}</option>)}
      </select>
    </Labelled>
  );
}

export function TextBox({ label, value, hint, width, problem, onInput }: {
  readonly label: string;
  readonly value: string;
  readonly hint?: string;
  /** In characters. */
  readonly width: number;
  readonly problem?: string | null;
  onInput(value: string): void;
}) {
  const id = useId();
  return (
    <Labelled id={id} label={label} problem={problem}>
      <input id={id} type="text" spellcheck={false} autocomplete="off" placeholder={hint} style={{ width: `${width + 2}ch` }} value={value}
        aria-invalid={problem ? true : undefined} aria-describedby={problem ? `${id}-problem` : undefined} onInput={(event) => onInput(event.currentTarget.value)} />
    </Labelled>
  );
}

export function Tick({ label, checked, onChange }: { readonly label: string; readonly checked: boolean; onChange(checked: boolean): void }) {
  return (
    <label class="vw-tick">
      <input type="checkbox" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} /> {label}
    </label>
  );
}

function Labelled({ id, label, problem, children }: { readonly id: string; readonly label: string; readonly problem?: string | null; readonly children: ComponentChildren }) {
  return (
    <div class="vw-labelled">
      <label for={id}>{label}</label>
      {children}
      {problem && <p id={`${id}-problem`} role="alert" class="vw-problem"><span aria-hidden="true" class="vw-mark">✕</span> <Name>{problem}</Name></p>}
    </div>
  );
}

/** Calls `again` every `milliseconds` while `on` and the page is seen; one call at a time. */
export function useEvery(milliseconds: number, on: boolean, again: () => Promise<void>): void {
  const call = useRef(again);
  call.current = again;
  useEffect(() => {
    if (!on) {
      return;
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const next = (): void => {
      timer = setTimeout(() => {
        if (document.hidden) {
          next();
        } else {
          void call.current().finally(() => over || next());
        }
      }, milliseconds);
    };
    next();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [on, milliseconds]);
}

/** Choices made of a map. */
export function functionChoices(map: { readonly functions: readonly { readonly function: string; readonly bdf: string; readonly label: string }[] } | null): { value: string; text: string }[] {
  return (map?.functions ?? []).map((one) => ({ value: one.function, text: one.function === one.bdf ? `${one.bdf}  ${one.label}` : `${one.function}  ${one.bdf}` }));
}
