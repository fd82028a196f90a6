/** A list of which only the rows in sight are in the page. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { TimelineRow } from "../../report/index.js";
import { Name } from "./parts.js";
import { seconds } from "./numbers-in-words.js";
import { placeOf } from "./timeline-rows.js";

export const KINDS: readonly { readonly kind: TimelineRow["kind"]; readonly mark: string }[] = [
  { kind: "store", mark: "▸" }, { kind: "command", mark: "◆" }, { kind: "host", mark: "⇢" }, { kind: "event", mark: "▲" }, { kind: "interrupt", mark: "↯" }, { kind: "dma", mark: "⇄" }, { kind: "machine", mark: "●" },
];
export const MARKS = Object.fromEntries(KINDS.map(({ kind, mark }) => [kind, mark])) as Readonly<Record<TimelineRow["kind"], string>>;

/** Rows above and below what is seen that are there too, so that a fast wheel shows no gap. */
const MARGIN = 12;

export function RowList({ rows, chosen, follow, position, choose, unfollow, around, cause, effect }: {
  readonly rows: readonly TimelineRow[];
  /** Number of the chosen row; 0: none. */
  readonly chosen: number;
  readonly follow: boolean;
  /** The row of a recording whose state is shown; null: no recording. */
  readonly position: number | null;
  choose(number: number): void;
  unfollow(): void;
  /** Number of the row so many places away. */
  around(by: number): number;
  cause(number: number): number | null;
  effect(number: number): number | null;
}) {
  const box = useRef<HTMLDivElement | null>(null);
  const [view, setView] = useState({ top: 0, height: 600, row: 26 });
  const measure = (): void => {
    const node = box.current;
    if (node !== null) {
      const row = Number.parseFloat(getComputedStyle(node).getPropertyValue("font-size")) * 2;
      setView({ top: node.scrollTop, height: node.clientHeight, row });
    }
  };
  useEffect(() => {
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);
  // The newest row stays in sight while it is followed; a chosen one comes into sight.
  useLayoutEffect(() => {
    if (follow && box.current !== null) {
      box.current.scrollTop = rows.length * view.row;
    }
  }, [follow, rows.length, view.row]);
  useLayoutEffect(() => {
    const node = box.current;
    const at = placeOf(rows, chosen);
    if (node === null || chosen === 0 || follow || rows[at]?.number !== chosen) {
      return;
    }
    const top = at * view.row;
    if (top < node.scrollTop || top + view.row > node.scrollTop + node.clientHeight) {
      const near = Math.abs(top - node.scrollTop) < node.clientHeight * 1.5;
      node.scrollTop = near ? (top < node.scrollTop ? top : top + view.row * 2 - node.clientHeight) : top - node.clientHeight / 2;
    }
  }, [chosen, view.row, rows]);

  const from = Math.max(Math.floor(view.top / view.row) - MARGIN, 0);
  const to = Math.min(Math.ceil((view.top + view.height) / view.row) + MARGIN, rows.length);
  const onPage = Math.max(Math.floor(view.height / view.row) - 1, 1);
  const key = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey || rows.length === 0) {
      return;
    }
    const goTo = {
      ArrowDown: () => around(1), ArrowUp: () => around(-1), PageDown: () => around(onPage), PageUp: () => around(-onPage),
      Home: () => rows[0].number, End: () => rows[rows.length - 1].number, ArrowLeft: () => cause(chosen), ArrowRight: () => effect(chosen),
    }[event.key];
    if (goTo !== undefined) {
      event.preventDefault();
      const number = goTo();
      if (number !== null && number !== 0) {
        choose(number);
      }
    }
  };
  return (
    <div class="vw-list" role="grid" aria-label="Time line" aria-rowcount={rows.length} aria-colcount={6} tabIndex={0} ref={box}
      aria-activedescendant={chosen > 0 && rows[placeOf(rows, chosen)]?.number === chosen && placeOf(rows, chosen) >= from && placeOf(rows, chosen) < to ? `vw-row-${chosen}` : undefined}
      onScroll={() => {
        const node = box.current!;
        if (follow && node.scrollTop < view.top - 2 && node.scrollTop + node.clientHeight < rows.length * view.row - view.row) {
          unfollow();
        }
        measure();
      }}
      onKeyDown={key}>
      <div role="presentation" style={{ height: `${rows.length * view.row}px`, position: "relative" }}>
        {rows.slice(from, to).map((row, at) => (
          <div key={row.number} id={`vw-row-${row.number}`} role="row" aria-rowindex={from + at + 1} aria-selected={row.number === chosen}
            class={`vw-line${row.number === chosen ? " vw-now" : ""}${position !== null && row.number > position ? " vw-later" : ""}`}
            style={{ top: `${(from + at) * view.row}px`, height: `${view.row}px` }} onClick={() => choose(row.number)}>
            <span role="gridcell" class="vw-no">{row.number === chosen && <span aria-hidden="true">▶ </span>}{row.number}</span>
            <span role="gridcell" class="vw-at">{seconds(row.time)}</span>
            <span role="gridcell" class={`vw-kind vw-kind-${row.kind}`}><span aria-hidden="true">{MARKS[row.kind]}</span> {row.kind}</span>
            <span role="gridcell" class="vw-who"><Name>{row.function ?? row.iommu ?? ""}</Name></span>
            <span role="gridcell" class="vw-said"><b>{row.name}</b> <Name>{row.words}</Name></span>
            <span role="gridcell" class="vw-cause">{row.cause !== null && <button type="button" class="vw-flat" tabIndex={-1} aria-label={`follows from row ${row.cause}`} onClick={(event) => {
              event.stopPropagation();
              choose(row.cause!);
            }}>↖ {row.cause}</button>}</span>
          </div>
        ))}
      </div>
    </div>
  );
}
