/** A text that is changed by and by, and where each of its characters stood at first. */

export interface TextEdit {
  /** Offsets of the text as it is; the end is the first that stays. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export class EditedText {
  private constructor(
    readonly text: string,
    /** Of each character, and of the end, the offset in the first text; -1: it was put in. */
    private readonly origins: Int32Array,
  ) {}

  static of(text: string): EditedText {
    return new EditedText(text, Int32Array.from({ length: text.length + 1 }, (_unused, at) => at));
  }

  /** Offset in the first text; null: what stands there was put in. */
  originOf(offset: number): number | null {
    const origin = this.origins[Math.min(Math.max(offset, 0), this.text.length)];
    return origin < 0 ? null : origin;
  }

  /** With the edits done, of which no two overlap; several at one place are done in their order. */
  with(edits: readonly TextEdit[]): EditedText {
    const ordered = edits.map((edit, index) => ({ edit, index })).sort((a, b) => a.edit.start - b.edit.start || a.edit.end - b.edit.end || a.index - b.index);
    const origins: number[] = [];
    let text = "";
    let at = 0;
    const keep = (end: number): void => {
      text += this.text.slice(at, end);
      for (; at < end; at++) {
        origins.push(this.origins[at]);
      }
    };
    for (const { edit } of ordered) {
      if (edit.start < at) {
        continue;
      }
      keep(edit.start);
      text += edit.text;
      origins.push(...Array.from(edit.text, () => -1));
      at = edit.end;
    }
    keep(this.text.length);
    origins.push(this.origins[this.text.length]);
    return new EditedText(text, Int32Array.from(origins));
  }
}

/** Line and column of an offset, both from 1; columns count UTF-16 units. */
export function lineAndColumn(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  const line = before.split("\n").length;
  return { line, column: offset - (before.lastIndexOf("\n") + 1) + 1 };
}

/** The offset of a line and column. */
export function offsetOf(text: string, line: number, column: number): number {
  let start = 0;
  for (let n = 1; n < line; n++) {
    const next = text.indexOf("\n", start);
    if (next < 0) {
      return text.length;
    }
    start = next + 1;
  }
  return Math.min(start + column - 1, text.length);
}
