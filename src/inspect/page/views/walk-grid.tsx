/** A walk on two axes: structures and stage 1 down, stage 2 across. */
import { useEffect, useRef } from "preact/hooks";
import type { FetchReport, WalkReport } from "../../report/index.js";
import { Hex, Wide } from "./parts.js";

/** The fetch that is shown: the address's, a number or `end`; else of a walk that ends early the one that decided, of others the first. From 1; 0: there is none. */
export function stepOf(report: WalkReport, asked: string | undefined): number {
  const last = report.fetches.length;
  const given = asked === "end" ? last : Number(asked);
  if (asked !== undefined && Number.isInteger(given)) {
    return Math.min(Math.max(given, Math.min(1, last)), last);
  }
  return report.end.outcome === "translated" || report.end.outcome === "bypassed" ? Math.min(1, last) : last;
}

interface Layout {
  /** Headings of columns: of stage 2 by level, then of the rows' own fetches. */
  readonly columns: readonly string[];
  readonly rows: readonly { readonly heading: string; readonly cells: readonly (FetchReport | null)[] }[];
}

/** Places of fetches. A row's own fetch is in the last column, whatever was read on the way to it. */
export function layOut(fetches: readonly FetchReport[]): Layout {
  const across = new Map<number, number | null>();
  for (const fetch of fetches) {
    if (fetch.stage === 2 && !across.has(fetch.column)) {
      across.set(fetch.column, fetch.level);
    }
  }
  const columns = [...across.keys()].sort((one, other) => one - other);
  const own = fetches.some((fetch) => fetch.stage !== 2);
  const rows = [...new Set(fetches.map((fetch) => fetch.row))].sort((one, other) => one - other).map((row) => {
    const inRow = fetches.filter((fetch) => fetch.row === row);
    const itself = inRow.find((fetch) => fetch.stage !== 2) ?? null;
    const cells = columns.map((column) => inRow.find((fetch) => fetch.stage === 2 && fetch.column === column) ?? null);
    return { heading: itself?.name ?? (own ? "output" : "stage 2"), cells: own ? [...cells, itself] : cells };
  });
  return { columns: [...columns.map((column) => `stage 2, level ${across.get(column) ?? column}`), ...(own ? [columns.length > 0 ? "the entry itself" : "entry"] : [])], rows };
}

export function WalkGrid({ report, step, choose }: { readonly report: WalkReport; readonly step: number; choose(number: number): void }) {
  const { columns, rows } = layOut(report.fetches);
  const chosen = useRef<HTMLButtonElement | null>(null);
  const byKey = useRef(false);
  useEffect(() => {
    if (byKey.current) {
      byKey.current = false;
      chosen.current?.focus();
    }
  }, [step]);
  const failed = report.end.outcome === "aborted" || report.end.outcome === "read-as-zero" ? report.fetches.length : 0;
  const move = (event: KeyboardEvent): void => {
    const to = { ArrowRight: step + 1, ArrowLeft: step - 1, Home: 1, End: report.fetches.length, ArrowDown: vertical(rows, step, 1), ArrowUp: vertical(rows, step, -1) }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    if (to >= 1 && to <= report.fetches.length && to !== step) {
      byKey.current = true;
      choose(to);
    }
  };
  return (
    <div class="vw-grid-box">
      <p class="vw-quiet">
        {report.fetches.length} {report.fetches.length === 1 ? "fetch" : "fetches"}, in the order of their numbers: {columns.length > 1 ? "each row is an entry that is wanted; stage 2 goes across on the way to it" : "each row is an entry that is read"}.
      </p>
      <Wide label="Fetches on two axes">
        <table class="vw-grid" aria-label="Fetches" onKeyDown={move}>
          <thead>
            <tr>
              <td />
              {columns.map((heading) => <th scope="col">{heading}</th>)}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr>
                <th scope="row">{row.heading}</th>
                {row.cells.map((fetch) => (
                  <td>
                    {fetch !== null && (
                      <button type="button" ref={fetch.number === step ? chosen : undefined} tabIndex={fetch.number === step ? 0 : -1}
                        class={`vw-fetch vw-stage-${fetch.stage} ${fetch.number === step ? "vw-now" : fetch.number < step ? "vw-before" : "vw-after"}`}
                        aria-current={fetch.number === step ? "step" : undefined}
                        onClick={() => choose(fetch.number)}>
                        <span class="vw-number">
                          {fetch.number === step && <span aria-hidden="true">▶ </span>}
                          {fetch.number}
                          {fetch.number === failed && <span aria-hidden="true"> ✕</span>}
                        </span>
                        <span class="vw-hidden">{fetch.name}{fetch.number === failed ? ", ends the walk," : ","} at </span>
                        <Hex>{fetch.address}</Hex>
                      </button>
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </Wide>
    </div>
  );
}

/** The fetch above or below `step` in its column; `step` itself where there is none. */
function vertical(rows: Layout["rows"], step: number, by: 1 | -1): number {
  const at = rows.findIndex((row) => row.cells.some((cell) => cell?.number === step));
  const column = at < 0 ? -1 : rows[at].cells.findIndex((cell) => cell?.number === step);
  for (let row = at + by; at >= 0 && row >= 0 && row < rows.length; row += by) {
    const cell = rows[row].cells[column];
    if (cell) {
      return cell.number;
    }
  }
  return step;
}
