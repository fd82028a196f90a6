/** A tree by keys (WAI-ARIA APG, tree view): one row has the focus, arrows move it, what it is on is chosen. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

export interface TreeItem<T> {
  readonly key: string;
  readonly name: string;
  readonly children: readonly T[];
}

export interface TreeProps<T extends TreeItem<T>> {
  readonly label: string;
  readonly nodes: readonly T[];
  readonly closed: ReadonlySet<string>;
  readonly selected: string | null;
  /** Rows that stand out beside the selected one. */
  readonly joined: ReadonlySet<string>;
  onClose(key: string, closed: boolean): void;
  onSelect(node: T): void;
  row(node: T): ComponentChildren;
}

interface Row<T> {
  readonly node: T;
  readonly level: number;
  readonly at: number;
  readonly of: number;
  readonly parent: string | null;
}

function rowsOf<T extends TreeItem<T>>(nodes: readonly T[], closed: ReadonlySet<string>, level = 1, parent: string | null = null): Row<T>[] {
  return nodes.flatMap((node, at) => [{ node, level, at: at + 1, of: nodes.length, parent }, ...(closed.has(node.key) ? [] : rowsOf(node.children, closed, level + 1, node.key))]);
}

export function Tree<T extends TreeItem<T>>({ label, nodes, closed, selected, joined, onClose, onSelect, row }: TreeProps<T>) {
  const rows = rowsOf(nodes, closed);
  const box = useRef<HTMLDivElement>(null);
  /** The row that the keyboard has moved to: it gets the focus when it is there. */
  const wanted = useRef<string | null>(null);
  const typed = useRef({ text: "", at: 0 });
  const stop = rows.some(({ node }) => node.key === selected) ? selected : (rows[0]?.node.key ?? null);
  useLayoutEffect(() => {
    if (wanted.current !== null) {
      rowElement(box.current, wanted.current)?.focus();
      wanted.current = null;
    }
  });
  const moveTo = (target: Row<T> | undefined): void => {
    if (target !== undefined) {
      wanted.current = target.node.key;
      onSelect(target.node);
      rowElement(box.current, target.node.key)?.focus();
    }
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey) {
      return;
    }
    const key = (event.target as Element).closest("[data-key]")?.getAttribute("data-key");
    const at = rows.findIndex(({ node }) => node.key === key);
    if (at < 0) {
      return;
    }
    const { node, parent } = rows[at];
    const open = node.children.length > 0 && !closed.has(node.key);
    const moves: Readonly<Record<string, () => void>> = {
      ArrowDown: () => moveTo(rows[at + 1]),
      ArrowUp: () => moveTo(rows[at - 1]),
      Home: () => moveTo(rows[0]),
      End: () => moveTo(rows.at(-1)),
      ArrowRight: () => (open ? moveTo(rows[at + 1]) : onClose(node.key, false)),
      ArrowLeft: () => (open ? onClose(node.key, true) : moveTo(rows.find((one) => one.node.key === parent))),
      Enter: () => moveTo(rows[at]),
      " ": () => moveTo(rows[at]),
    };
    const move = moves[event.key];
    if (move !== undefined) {
      event.preventDefault();
      move();
    } else if (event.key.length === 1) {
      const now = event.timeStamp;
      const text = (now - typed.current.at < 700 ? typed.current.text : "") + event.key.toLowerCase();
      typed.current = { text, at: now };
      const from = text.length > 1 ? at : at + 1;
      moveTo([...rows.slice(from), ...rows.slice(0, from)].find((one) => one.node.name.toLowerCase().startsWith(text)));
    }
  };
  return (
    <div class="tree" role="tree" aria-label={label} ref={box} onKeyDown={onKeyDown}>
      {rows.map(({ node, level, at, of }) => {
        const inner = node.children.length > 0;
        const isClosed = closed.has(node.key);
        return (
          <div key={node.key} role="treeitem" data-key={node.key} class={`tree-row${node.key === selected ? " tree-selected" : joined.has(node.key) ? " tree-joined" : ""}`}
            aria-level={level} aria-posinset={at} aria-setsize={of} aria-expanded={inner ? !isClosed : undefined} aria-selected={node.key === selected}
            tabIndex={node.key === stop ? 0 : -1} style={{ paddingInlineStart: `${(level - 1) * 0.7 + 0.1}rem` }} onClick={() => onSelect(node)}>
            <span class="tree-twist" aria-hidden="true" onClick={(event) => { if (inner) { event.stopPropagation(); onClose(node.key, !isClosed); } }}>{inner ? (isClosed ? "▸" : "▾") : ""}</span>
            {row(node)}
          </div>
        );
      })}
    </div>
  );
}

function rowElement(box: Element | null, key: string): HTMLElement | null {
  return box?.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`) ?? null;
}
