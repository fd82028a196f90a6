/** JSON values, and their text as QEMU writes it: a space after ':' and ',', everything beyond ASCII escaped. */
export type Json = string | number | bigint | boolean | null | Json[] | { [key: string]: Json };

/** @param pretty -qmp-pretty: an indented line for each member */
export function formatJson(value: Json, pretty = false): string {
  return format(value, pretty ? "\n" : null);
}

function format(value: Json, indent: string | null): string {
  if (typeof value === "string") {
    return quote(value);
  }
  if (value === null || typeof value !== "object") {
    return String(value);
  }
  const inner = indent === null ? null : `${indent}    `;
  const isArray = Array.isArray(value);
  const parts = isArray ? value.map((one) => format(one, inner)) : Object.keys(value).map((key) => `${quote(key)}: ${format(value[key], inner)}`);
  const [open, close] = isArray ? "[]" : "{}";
  if (parts.length === 0) {
    return open + close;
  }
  return inner === null ? open + parts.join(", ") + close : open + inner + parts.join(`,${inner}`) + indent + close;
}

function quote(text: string): string {
  return JSON.stringify(text).replace(/[\x7f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()}`);
}
