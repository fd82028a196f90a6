/** JSON among a command line's words, as it comes out of terminals and mails. */

/** JSON with lines broken inside it: a newline in a string is none of the string. Other words stay as they are. */
export function mendJson(word: string): string {
  return /^\s*\{/.test(word) && word.includes("\n") ? word.replace(/\r?\n/g, "") : word;
}

/**
 * `{driver:vfio-pci,host:0000:01:00.0}`, which is what a shell leaves of JSON without quotes around it, as
 * name=value; null: the word is nothing like it.
 */
export function keysOfBareJson(word: string): string | null {
  if (!/^\{[A-Za-z][\w.-]*:/.test(word) || word.includes('"') || !word.endsWith("}")) {
    return null;
  }
  const reader = { text: word, at: 0 };
  const keys: string[] = [];
  return readObject(reader, "", keys) && reader.at === word.length ? keys.join(",") : null;
}

interface Reader {
  readonly text: string;
  at: number;
}

/** Reads `{name:value,...}` at the reader's place. @returns false where it is no such thing */
function readObject(reader: Reader, prefix: string, keys: string[]): boolean {
  reader.at++;
  for (;;) {
    const name = /^[A-Za-z][\w.-]*(?=:)/.exec(reader.text.slice(reader.at))?.[0];
    if (name === undefined) {
      return false;
    }
    reader.at += name.length + 1;
    if (reader.text[reader.at] === "{") {
      if (!readObject(reader, `${prefix}${name}.`, keys)) {
        return false;
      }
    } else {
      // A comma ends a value where a name follows it.
      const value = /^.*?(?=,[A-Za-z][\w.-]*:|\}|$)/s.exec(reader.text.slice(reader.at))![0];
      reader.at += value.length;
      keys.push(`${prefix}${name}=${value.replaceAll(",", ",,")}`);
    }
    const next = reader.text[reader.at++];
    if (next !== ",") {
      return next === "}";
    }
  }
}
