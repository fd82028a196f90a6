/** Breaks at spaces; a continued line is two columns shorter, for its indent. A word that is too long stays whole. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/ +/).filter((one) => one !== "")) {
    const room = lines.length === 0 ? width : width - 2;
    if (line !== "" && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines;
}

/** `1 call`, `2 calls`. */
export function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Bytes with the largest unit that leaves at least one. */
export function byteText(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Something in a tree of text: its title, and in sections below it further lines, each with what is behind it; a section without a title has that alone. */
export interface TreeNode {
  readonly title: string;
  readonly sections: ReadonlyArray<{ readonly title: string; readonly children: readonly TreeNode[] }>;
}

/** Lines of at most `width` columns; what does not fit goes to lines of its own below. */
export function drawTree(nodes: readonly TreeNode[], width: number, indent = ""): string[] {
  return nodes.flatMap(({ title, sections }, index) => {
    const last = index === nodes.length - 1;
    const below = `${indent}${last ? "   " : "|  "}`;
    const [first, ...rest] = wrap(title, width - indent.length - 3);
    return [
      `${indent}${last ? "`- " : "|- "}${first}`,
      ...rest.map((line) => `${below}  ${line}`),
      ...sections.flatMap((section) => [...(section.title === "" ? [] : indented(section.title, width, below)), ...drawTree(section.children, width, below)]),
    ];
  });
}

/** A text behind an indent, its further lines two columns more. */
export function indented(text: string, width: number, indent = ""): string[] {
  return wrap(text, width - indent.length).map((line, index) => `${indent}${index === 0 ? "" : "  "}${line}`);
}
