/** XML for people: a line for each element, by the DOM. */
import { DOMImplementation, type Document, type Element, XMLSerializer } from "@xmldom/xmldom";

export type XmlNode =
  | { readonly name: string; readonly attributes?: Readonly<Record<string, string | number | null>>; readonly children?: readonly XmlNode[]; readonly text?: string }
  | { readonly comment: string };

/** An element; attributes that are null are left out. */
export function element(name: string, attributes: Readonly<Record<string, string | number | null>> = {}, ...children: readonly XmlNode[]): XmlNode {
  return { name, attributes, children };
}

export function textElement(name: string, text: string | number, attributes: Readonly<Record<string, string | number | null>> = {}): XmlNode {
  return { name, attributes, text: String(text) };
}

export const comment = (text: string): XmlNode => ({ comment: text });

/** @param namespaces of the root, by their prefixes */
export function writeXml(root: Extract<XmlNode, { name: string }>, namespaces: Readonly<Record<string, string>>): string {
  const document = new DOMImplementation().createDocument(null, "", null);
  const namespaceOf = (name: string): string | null => namespaces[name.split(":")[0]] ?? null;
  const top = build(document, root, namespaceOf, "");
  for (const [prefix, address] of Object.entries(namespaces)) {
    top.setAttributeNS("http://www.w3.org/2000/xmlns/", `xmlns:${prefix}`, address);
  }
  document.appendChild(top);
  return `${new XMLSerializer().serializeToString(document)}\n`;
}

function build(document: Document, node: Extract<XmlNode, { name: string }>, namespaceOf: (name: string) => string | null, indent: string): Element {
  const namespace = node.name.includes(":") ? namespaceOf(node.name) : null;
  const made = document.createElementNS(namespace, node.name);
  for (const [name, value] of Object.entries(node.attributes ?? {})) {
    if (value !== null) {
      made.setAttribute(name, String(value));
    }
  }
  if (node.text !== undefined) {
    made.appendChild(document.createTextNode(node.text));
  }
  const children = node.children ?? [];
  for (const child of children) {
    made.appendChild(document.createTextNode(`\n${indent}  `));
    // Two dashes end no comment (XML 1.0, 2.5).
    made.appendChild("comment" in child ? document.createComment(` ${child.comment.replace(/--+/g, "-")} `) : build(document, child, namespaceOf, `${indent}  `));
  }
  if (children.length > 0) {
    made.appendChild(document.createTextNode(`\n${indent}`));
  }
  return made;
}
