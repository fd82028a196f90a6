/**
 * JSON values out of bytes as they come, with QEMU's errors, its second kind of quotes, and bounds: a peer's
 * input is never trusted.
 */
import { JsonLexer, type Token } from "./json-lexer.js";
import type { Json } from "./json.js";
import { jsonString } from "./json-string.js";

/** QEMU's MAX_NESTING. */
export const NESTING_LIMIT = 1024;
/** Tokens and bytes of one value. */
export const TOKEN_COUNT_LIMIT = 1 << 16;
export const VALUE_BYTES_LIMIT = 1 << 20;

/** What is wrong with the input, in QEMU's words. */
export class JsonError extends Error {}

interface Open {
  readonly value: { [key: string]: Json } | Json[];
  key: string | null;
  state: "first" | "key" | "colon" | "value" | "next";
}

export class JsonInput {
  private readonly lexer = new JsonLexer((token) => this.token(token));
  private stack: Open[] = [];
  private tokens = 0;
  private bytes = 0;
  /** Brackets that are open of a value that is wrong: the rest of it is passed over. */
  private skipping = 0;

  constructor(
    private readonly onValue: (value: Json) => void,
    private readonly onError: (error: JsonError) => void,
  ) {}

  feed(bytes: Uint8Array): void {
    this.lexer.feed(bytes);
  }

  private token(token: Token): void {
    if (token.kind === "error") {
      this.reset();
      this.fail(token, token.text === "token size limit" ? "token size limit exceeded" : `stray '${token.text}'`, 0);
      return;
    }
    if (this.skipping > 0) {
      this.skip(token);
      return;
    }
    this.tokens++;
    this.bytes += token.text.length;
    const depth = this.stack.length;
    if (this.tokens > TOKEN_COUNT_LIMIT || this.bytes > VALUE_BYTES_LIMIT) {
      const what = this.tokens > TOKEN_COUNT_LIMIT ? "count" : "size";
      this.reset();
      this.onError(new JsonError(`JSON token ${what} limit exceeded`));
    } else if ((token.kind === "{" || token.kind === "[") && depth >= NESTING_LIMIT) {
      this.reset();
      this.onError(new JsonError("JSON nesting depth limit exceeded"));
    } else {
      const wrong = this.accept(token);
      if (wrong !== null) {
        this.fail(token, wrong, depth + (token.kind === "{" || token.kind === "[" ? 1 : token.kind === "}" || token.kind === "]" ? -1 : 0));
      }
    }
  }

  /** @param open brackets whose ends are still to come */
  private fail(token: Token, text: string, open: number): void {
    this.reset();
    this.skipping = Math.max(open, 0);
    this.onError(new JsonError(`${token.line}:${token.column}: JSON parse error, ${text}`));
  }

  private skip(token: Token): void {
    if (token.kind === "{" || token.kind === "[") {
      this.skipping++;
    } else if (token.kind === "}" || token.kind === "]") {
      this.skipping--;
    }
  }

  private reset(): void {
    this.stack = [];
    this.tokens = 0;
    this.bytes = 0;
    this.skipping = 0;
  }

  /** Takes the next token; returns what is wrong with it, or null. */
  private accept(token: Token): string | null {
    const open = this.stack.at(-1);
    if (open === undefined || open.state === "value") {
      return this.value(token);
    }
    const isObject = !Array.isArray(open.value);
    switch (open.state) {
      case "first":
        if (token.kind === (isObject ? "}" : "]")) {
          return this.close();
        }
        if (!isObject) {
          return this.value(token);
        }
        return this.key(open, token);
      case "key":
        return this.key(open, token);
      case "colon":
        if (token.kind !== ":") {
          return "expecting ':'";
        }
        open.state = "value";
        return null;
      default:
        if (token.kind === ",") {
          open.state = isObject ? "key" : "value";
          return null;
        }
        return token.kind === (isObject ? "}" : "]") ? this.close() : `expected ',' or '${isObject ? "}" : "]"}'`;
    }
  }

  private key(open: Open, token: Token): string | null {
    if (token.kind !== "string") {
      return "expecting key";
    }
    const key = jsonString(token.text);
    if (key.error !== undefined) {
      return key.error;
    }
    open.key = key.value;
    open.state = "colon";
    return null;
  }

  private value(token: Token): string | null {
    switch (token.kind) {
      case "{":
        this.stack.push({ value: Object.create(null) as { [key: string]: Json }, key: null, state: "first" });
        return null;
      case "[":
        this.stack.push({ value: [], key: null, state: "first" });
        return null;
      case "string": {
        const text = jsonString(token.text);
        return text.error !== undefined ? text.error : this.done(text.value);
      }
      case "number":
        return this.done(jsonNumber(token.text));
      case "keyword":
        if (token.text === "true" || token.text === "false") {
          return this.done(token.text === "true");
        }
        return token.text === "null" ? this.done(null) : `invalid keyword '${token.text}'`;
      default:
        return "expecting value";
    }
  }

  private close(): string | null {
    return this.done(this.stack.pop()!.value);
  }

  private done(value: Json): string | null {
    const open = this.stack.at(-1);
    if (open === undefined) {
      this.reset();
      this.onValue(value);
      return null;
    }
    if (Array.isArray(open.value)) {
      open.value.push(value);
    } else if (Object.hasOwn(open.value, open.key!)) {
      return "duplicate key";
    } else {
      open.value[open.key!] = value;
    }
    open.state = "next";
    return null;
  }
}

/** Whole numbers are exact up to 64 bits; beyond, and with a fraction, they are doubles. */
function jsonNumber(text: string): number | bigint {
  if (/^-?\d+$/.test(text)) {
    const exact = BigInt(text);
    if (exact >= -(2n ** 63n) && exact < 2n ** 64n) {
      return Number.isSafeInteger(Number(exact)) ? Number(exact) : exact;
    }
  }
  return Number(text);
}
