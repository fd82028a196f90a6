/** The text of a JSON string token: escapes and UTF-8, with QEMU's errors. */
const ESCAPES: Readonly<Record<string, string>> = { '"': '"', "'": "'", "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export type StringResult = { readonly value: string; readonly error?: undefined } | { readonly error: string };

/** @param token with its quotes, each byte one character */
export function jsonString(token: string): StringResult {
  let value = "";
  let at = 1;
  while (at < token.length - 1) {
    const escape = token.indexOf("\\", at);
    const end = escape < 0 ? token.length - 1 : escape;
    const plain = utf8(token.slice(at, end));
    if (plain === null) {
      return { error: "invalid UTF-8 sequence in string" };
    }
    value += plain;
    at = end;
    if (escape < 0) {
      break;
    }
    if (token[at + 1] === "u") {
      const unicode = codePoint(token, at);
      if (unicode === null) {
        return { error: `${printable(token.slice(at, at + 6))} is not a valid Unicode character` };
      }
      value += unicode.text;
      at = unicode.end;
    } else if (Object.hasOwn(ESCAPES, token[at + 1])) {
      value += ESCAPES[token[at + 1]];
      at += 2;
    } else {
      return { error: "invalid escape sequence in string" };
    }
  }
  return { value };
}

/** `\uXXXX`, or two of them that are a surrogate pair. */
function codePoint(token: string, at: number): { text: string; end: number } | null {
  const first = unit(token, at);
  if (first === null || (first >= 0xdc00 && first < 0xe000)) {
    return null;
  }
  if (first < 0xd800 || first >= 0xe000) {
    return first >= 0xfdd0 && (first <= 0xfdef || (first & 0xfffe) === 0xfffe) ? null : { text: String.fromCharCode(first), end: at + 6 };
  }
  const second = unit(token, at + 6);
  return second === null || second < 0xdc00 || second > 0xdfff ? null : { text: String.fromCharCode(first, second), end: at + 12 };
}

function unit(token: string, at: number): number | null {
  const match = /^\\u([0-9a-fA-F]{4})$/.exec(token.slice(at, at + 6));
  return match === null ? null : Number.parseInt(match[1], 16);
}

function utf8(bytes: string): string | null {
  if (/^[\x20-\x7e]*$/.test(bytes)) {
    return bytes;
  }
  try {
    return decoder.decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
  } catch {
    return null;
  }
}

function printable(bytes: string): string {
  return utf8(bytes) ?? bytes;
}
