/** Elements of an XML where they stand: tags and attributes by their offsets, for changes that leave all else as it is. */

export interface XmlTag {
  readonly name: string;
  /** Of the first tag's `<`. */
  readonly start: number;
  /** Behind the first tag. */
  readonly open: number;
  /** Of the last tag's `<`; of an element without content `open`. */
  readonly close: number;
  /** Behind the element. */
  readonly end: number;
  readonly children: readonly XmlTag[];
}

export interface XmlAttribute {
  readonly name: string;
  readonly value: string;
  readonly start: number;
  readonly end: number;
  readonly valueStart: number;
}

/** The text with comments, CDATA and instructions blanked out: all that is left of `<` begins a tag. */
export function withoutComments(text: string): string {
  return text.replace(/<!--[^]*?-->|<!\[CDATA\[[^]*?\]\]>|<\?[^]*?\?>|<![A-Za-z][^>]*>/g, (part) => " ".repeat(part.length));
}

/** The outermost element of a text that is well-formed; null: it has none. */
export function elementsOf(text: string): XmlTag | null {
  interface Open {
    readonly name: string;
    readonly start: number;
    readonly open: number;
    readonly children: XmlTag[];
  }
  const plain = withoutComments(text);
  const above: Open[] = [];
  for (const { index, 0: tag, groups } of plain.matchAll(/<(?<closing>\/)?(?<name>[\w:.-]+)(?:[^>"']|"[^"]*"|'[^']*')*>/g)) {
    const { closing, name } = groups!;
    const end = index + tag.length;
    if (closing === undefined && !tag.endsWith("/>")) {
      above.push({ name, start: index, open: end, children: [] });
      continue;
    }
    const one = closing === undefined ? { name, start: index, open: end, children: [] } : above.pop();
    if (one === undefined) {
      return null;
    }
    const element: XmlTag = { ...one, close: closing === undefined ? end : index, end };
    if (above.length === 0) {
      return element;
    }
    above.at(-1)!.children.push(element);
  }
  return null;
}

/** Attributes of the tag that begins at `start`. */
export function attributesAt(text: string, start: number): XmlAttribute[] {
  const tag = /^<[\w:.-]+(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*/.exec(text.slice(start))?.[0] ?? "";
  return [...tag.matchAll(/([\w:.-]+)(\s*=\s*)("[^"]*"|'[^']*')/g)].map((found) => ({
    name: found[1],
    value: found[3].slice(1, -1),
    start: start + found.index,
    end: start + found.index + found[0].length,
    valueStart: start + found.index + found[1].length + found[2].length + 1,
  }));
}

/** The element whose first tag begins there, and those around it, the outermost first. */
export function pathTo(root: XmlTag | null, start: number): XmlTag[] {
  if (root === null || start < root.start || start >= root.end) {
    return [];
  }
  if (root.start === start) {
    return [root];
  }
  const below = root.children.map((child) => pathTo(child, start)).find((path) => path.length > 0);
  return below === undefined ? [] : [root, ...below];
}

/** The first child of that name, as far down as the names say. */
export function childOf(element: XmlTag | undefined, ...names: readonly string[]): XmlTag | undefined {
  return names.reduce<XmlTag | undefined>((at, name) => at?.children.find((child) => child.name === name), element);
}
