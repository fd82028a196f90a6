/** One word of a shell's line where it stands: what it says, where each of its characters is, how to write others beside them. */

type Quote = "" | "'" | '"';

export interface ShellWord {
  /** What it says. */
  readonly value: string;
  readonly start: number;
  /** The first offset behind it. */
  readonly end: number;
  /** Of each character of `value`, where it begins and where it ends in the text. */
  readonly places: readonly number[];
  readonly ends: readonly number[];
  /** In which quotes each stands. */
  readonly quotes: readonly Quote[];
}

/** The word that starts at `start`, by the rules of `splitWords`. An unclosed quote ends with the text. */
export function shellWordAt(text: string, start: number): ShellWord {
  let value = "";
  const places: number[] = [];
  const ends: number[] = [];
  const quotes: Quote[] = [];
  let quote: Quote = "";
  let at = start;
  let lastEnd = start;
  const take = (from: number, c: string, escaped = false): void => {
    value += c;
    places.push(from);
    ends.push(from + (escaped ? 2 : 1));
    quotes.push(quote);
  };
  for (; at < text.length; at++) {
    const c = text[at];
    const next = text[at + 1];
    if (quote === "'") {
      if (c === "'") {
        quote = "";
      } else {
        take(at, c);
      }
    } else if (c === "\\" && (quote === "" || (next !== undefined && '"\\$`\n'.includes(next)))) {
      if (next === "\n" || (next === "\r" && text[at + 2] === "\n")) {
        // A line that goes on: it ends no word, and is no part of one that ends here.
        at += next === "\r" ? 2 : 1;
        continue;
      }
      if (next !== undefined) {
        take(at, next, true);
        at++;
      }
    } else if (quote === '"') {
      if (c === '"') {
        quote = "";
      } else {
        take(at, c);
      }
    } else if (c === "'" || c === '"') {
      quote = c;
    } else if (/\s/.test(c)) {
      break;
    } else {
      take(at, c);
    }
    lastEnd = at + 1;
  }
  return { value, start, end: lastEnd, places, ends, quotes };
}

/** What stands between two offsets of the word's value is replaced by `plain`: where in the text, and how it is written there. */
export function replacement(word: ShellWord, start: number, end: number, plain: string): { start: number; end: number; text: string } {
  // What is put in follows the character before it, in its quotes.
  const place = start < end ? { start: word.places[start], end: word.ends[end - 1] } : start > 0 ? { start: word.ends[start - 1], end: word.ends[start - 1] } : { start: word.start, end: word.start };
  return { ...place, text: writtenIn(word.quotes[start < end ? start : Math.max(start - 1, 0)] ?? "", plain) };
}

function writtenIn(quote: Quote, plain: string): string {
  if (quote === "'") {
    return plain.replaceAll("'", `'\\''`);
  }
  return quote === '"' ? plain.replace(/["\\$`]/g, "\\$&") : plain.replace(/[\s"'\\$`#&;|<>(){}*?[\]~!]/g, "\\$&");
}

/** A word of its own, in quotes where it needs them. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
