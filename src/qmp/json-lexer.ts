/**
 * Tokens of JSON out of bytes as they come, with the places that QEMU's monitor tells in its messages: lines
 * from 1 over a connection's life, columns from 1. After bytes that are no token it goes on at the next
 * structural or control character (QEMU's docs/interop/qmp-spec.rst, "Resynchronization").
 */
export type TokenKind = "{" | "}" | "[" | "]" | ":" | "," | "string" | "number" | "keyword" | "error";

export interface Token {
  readonly kind: TokenKind;
  /** As it was sent, each byte one character; strings with their quotes. */
  readonly text: string;
  readonly line: number;
  readonly column: number;
}

/** Longest token in bytes. */
export const TOKEN_LIMIT = 1 << 18;

const enum State {
  Start,
  DoubleQuoted,
  DoubleQuotedEscape,
  SingleQuoted,
  SingleQuotedEscape,
  Sign,
  Zero,
  Digits,
  Point,
  Fraction,
  Exponent,
  ExponentSign,
  ExponentDigits,
  Keyword,
  Recovery,
}

const STRUCTURAL = new Set("{}[]:,");

export class JsonLexer {
  private state = State.Start;
  private text = "";
  private line = 1;
  private column = 0;
  private startLine = 1;
  private startColumn = 0;
  /** 1 while a byte is looked at again: QEMU counts the column of a token that such a byte begins one too high. */
  private again = 0;

  constructor(private readonly emit: (token: Token) => void) {}

  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) {
      at = this.plain(bytes, at);
      if (at < bytes.length) {
        this.byte(bytes[at]);
      }
    }
  }

  /** Takes the ordinary characters of a string at once, as far as they go; returns where they end. */
  private plain(bytes: Uint8Array, from: number): number {
    if (this.state !== State.DoubleQuoted) {
      return from;
    }
    const limit = Math.min(bytes.length, from + TOKEN_LIMIT - this.text.length);
    let end = from;
    while (end < limit && bytes[end] >= 0x20 && bytes[end] <= 0xfd && bytes[end] !== 0x22 && bytes[end] !== 0x5c) {
      end++;
    }
    this.text += Buffer.from(bytes.buffer, bytes.byteOffset + from, Math.max(end - from, 0)).toString("latin1");
    this.column += Math.max(end - from, 0);
    return Math.max(end, from);
  }

  private byte(byte: number): void {
    if (byte === 0x0a) {
      this.line++;
      this.column = 0;
    } else {
      this.column++;
    }
    const char = String.fromCharCode(byte);
    // A byte that ends a token without being part of it is looked at again.
    this.again = 0;
    while (!this.take(byte, char)) {
      this.again = 1;
    }
  }

  /** Returns false where the byte is to be looked at again. */
  private take(byte: number, char: string): boolean {
    switch (this.state) {
      case State.Start:
        this.start(byte, char);
        return true;
      case State.DoubleQuoted:
      case State.SingleQuoted:
        return this.quoted(byte, char);
      case State.DoubleQuotedEscape:
      case State.SingleQuotedEscape:
        if (byte < 0x20 || byte > 0xfd) {
          return this.stray(char);
        }
        this.state = this.state === State.DoubleQuotedEscape ? State.DoubleQuoted : State.SingleQuoted;
        return this.append(char);
      case State.Keyword:
        return char >= "a" && char <= "z" ? this.append(char) : this.finish("keyword", byte, char);
      case State.Recovery:
        return this.recover(byte, char);
      default:
        return this.number(byte, char);
    }
  }

  private start(byte: number, char: string): void {
    this.text = "";
    if (char === " " || char === "\t" || char === "\r" || char === "\n") {
      return;
    }
    // An error token that ends in a line's end belongs to the line where it began.
    this.startLine = byte === 0x0a ? this.line - 1 : this.line;
    this.startColumn = this.column + this.again;
    if (STRUCTURAL.has(char)) {
      this.text = char;
      this.token(char as TokenKind);
      return;
    }
    this.append(char);
    if (char === '"') {
      this.state = State.DoubleQuoted;
    } else if (char === "'") {
      this.state = State.SingleQuoted;
    } else if (char === "-") {
      this.state = State.Sign;
    } else if (char === "0") {
      this.state = State.Zero;
    } else if (char >= "1" && char <= "9") {
      this.state = State.Digits;
    } else if (char >= "a" && char <= "z") {
      this.state = State.Keyword;
    } else {
      this.text = "";
      this.stray(char);
    }
  }

  private quoted(byte: number, char: string): boolean {
    const double = this.state === State.DoubleQuoted;
    if (byte < 0x20 || byte > 0xfd) {
      return this.stray(char);
    }
    this.append(char);
    if (char === "\\") {
      this.state = double ? State.DoubleQuotedEscape : State.SingleQuotedEscape;
    } else if (char === (double ? '"' : "'")) {
      this.token("string");
    }
    return true;
  }

  private number(byte: number, char: string): boolean {
    const digit = char >= "0" && char <= "9";
    const to = (state: State): boolean => {
      this.state = state;
      return this.append(char);
    };
    const exponent = char === "e" || char === "E";
    switch (this.state) {
      case State.Sign:
        return digit ? to(char === "0" ? State.Zero : State.Digits) : this.stray(char);
      case State.Zero:
      case State.Digits:
        if (digit) {
          return this.state === State.Zero ? this.stray(char) : this.append(char);
        }
        return char === "." ? to(State.Point) : exponent ? to(State.Exponent) : this.finish("number", byte, char);
      case State.Point:
        return digit ? to(State.Fraction) : this.stray(char);
      case State.Fraction:
        return digit ? this.append(char) : exponent ? to(State.Exponent) : this.finish("number", byte, char);
      case State.Exponent:
        return digit ? to(State.ExponentDigits) : char === "-" || char === "+" ? to(State.ExponentSign) : this.stray(char);
      case State.ExponentSign:
        return digit ? to(State.ExponentDigits) : this.stray(char);
      default:
        return digit ? this.append(char) : this.finish("number", byte, char);
    }
  }

  private recover(byte: number, char: string): boolean {
    if (!STRUCTURAL.has(char) && (char === "\t" || (byte >= 0x20 && byte < 0xfe))) {
      return true;
    }
    this.state = State.Start;
    // A control character only ends the recovery.
    return !STRUCTURAL.has(char);
  }

  private append(char: string): true {
    if (this.text.length < TOKEN_LIMIT) {
      this.text += char;
    } else {
      this.text = "";
      this.state = State.Recovery;
      this.emit({ kind: "error", text: "token size limit", line: this.startLine, column: this.startColumn });
    }
    return true;
  }

  /** The token ends before this byte. */
  private finish(kind: TokenKind, byte: number, char: string): boolean {
    if (byte > 0x7f) {
      return this.stray(char);
    }
    this.token(kind);
    return false;
  }

  private stray(char: string): true {
    this.text += char;
    const { text } = this;
    this.state = State.Recovery;
    this.text = "";
    this.emit({ kind: "error", text, line: this.startLine, column: this.startColumn });
    return true;
  }

  private token(kind: TokenKind): void {
    const { text } = this;
    this.state = State.Start;
    this.text = "";
    this.emit({ kind, text, line: this.startLine, column: this.startColumn });
  }
}
