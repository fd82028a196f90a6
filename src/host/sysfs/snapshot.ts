/** Files, folders and links of a host as they were read, in memory. A link leads nowhere but to what is in there too. */

type Node = { readonly kind: "file"; readonly data: Uint8Array } | { readonly kind: "link"; readonly target: string } | { readonly kind: "folder"; readonly names: Set<string> };

/** Links that a path goes through at the most (Linux MAXSYMLINKS). */
const MOST_LINKS = 40;

export class Snapshot {
  private readonly nodes = new Map<string, Node>([["", { kind: "folder", names: new Set() }]]);

  /** How many files, folders and links there are. */
  get size(): number {
    return this.nodes.size;
  }

  /** Puts a file; nothing where something else is there, or where its folder is none. */
  file(path: string, data: Uint8Array | string): void {
    this.put(path, { kind: "file", data: typeof data === "string" ? Buffer.from(data, "latin1") : data });
  }

  /** Puts a symbolic link with its text. */
  link(path: string, target: string): void {
    this.put(path, { kind: "link", target });
  }

  folder(path: string): void {
    this.put(path, { kind: "folder", names: new Set() });
  }

  /** Names in a folder, in order; none where there is no folder. */
  names(path: string): string[] {
    const node = this.find(path);
    return node?.kind === "folder" ? [...node.names].sort() : [];
  }

  has(path: string): boolean {
    return this.find(path) !== undefined;
  }

  bytes(path: string): Uint8Array | null {
    const node = this.find(path);
    return node?.kind === "file" ? node.data : null;
  }

  /** A file's text without blanks around it; null: there is no such file. */
  text(path: string): string | null {
    const data = this.bytes(path);
    return data === null ? null : Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("latin1").trim();
  }

  /** The text of a link; null: it is none. */
  target(path: string): string | null {
    const real = this.resolve(path, false);
    const node = real === null ? undefined : this.nodes.get(real);
    return node?.kind === "link" ? node.target : null;
  }

  /** The last name in a link's text. */
  targetName(path: string): string | null {
    const name = this.target(path)?.split("/").pop();
    return name === undefined || name === "" ? null : name;
  }

  /** The path without links; null: it leads nowhere. */
  real(path: string): string | null {
    return this.resolve(path, true);
  }

  /** All that is in it but folders, by path. */
  *entries(): Generator<{ readonly path: string; readonly data: Uint8Array | null; readonly target: string | null }> {
    for (const [path, node] of [...this.nodes].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (node.kind !== "folder" || (node.names.size === 0 && path !== "")) {
        yield { path, data: node.kind === "file" ? node.data : null, target: node.kind === "link" ? node.target : null };
      }
    }
  }

  private put(path: string, node: Node): void {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) {
      return;
    }
    let at = "";
    for (const part of parts) {
      const folder = this.nodes.get(at);
      if (folder?.kind !== "folder") {
        return;
      }
      folder.names.add(part);
      at = at === "" ? part : `${at}/${part}`;
      if (!this.nodes.has(at)) {
        this.nodes.set(at, { kind: "folder", names: new Set() });
      }
    }
    const folder = this.nodes.get(at);
    const full = at === "" ? name : `${at}/${name}`;
    if (folder?.kind === "folder" && !this.nodes.has(full)) {
      folder.names.add(name);
      this.nodes.set(full, node);
    }
  }

  private find(path: string): Node | undefined {
    const real = this.resolve(path, true);
    return real === null ? undefined : this.nodes.get(real);
  }

  private resolve(path: string, followLast: boolean): string | null {
    const left = partsOf(path).reverse();
    let at: string[] = [];
    let links = 0;
    while (left.length > 0) {
      const part = left.pop()!;
      if (part === "..") {
        at.pop();
        continue;
      }
      const next = [...at, part];
      const node = this.nodes.get(next.join("/"));
      if (node === undefined) {
        return null;
      }
      if (node.kind !== "link" || (left.length === 0 && !followLast)) {
        at = next;
        continue;
      }
      if (++links > MOST_LINKS) {
        return null;
      }
      if (node.target.startsWith("/")) {
        at = [];
      }
      left.push(...partsOf(node.target).reverse());
    }
    return at.join("/");
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}
