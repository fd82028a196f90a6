/** The time line: a row for each store, command, host call, event, interrupt; linked from cause to effect. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { TimelineRow } from "../../report/index.js";
import { Choice, Problem, Sign, TextBox, Tick, functionChoices, useEvery } from "./parts.js";
import { count } from "./numbers-in-words.js";
import { RowDetails } from "./timeline-details.js";
import { KINDS, RowList } from "./timeline-list.js";
import { TimelineRows, placeOf, type RowFilter } from "./timeline-rows.js";
import { tidy, type ViewClient, type ViewProps } from "./view.js";

/** Rows of an answer, at most. */
const BATCH = 1000;

/** Rows of each client: they stay while other views are looked at. */
const kept = new WeakMap<ViewClient, TimelineRows>();

export function TimelineView({ client, query, href, go, map, moment }: ViewProps) {
  let rows = kept.get(client);
  if (rows === undefined) {
    kept.set(client, rows = new TimelineRows());
  }
  const store = rows;
  const [, redraw] = useState(0);
  const [on, setOn] = useState<boolean | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [follow, setFollow] = useState(client.live && !query.row);
  const asking = useRef(false);
  const { recording } = client;

  const more = async (): Promise<void> => {
    if (asking.current) {
      return;
    }
    asking.current = true;
    try {
      for (;;) {
        const report = await client.ask("x-viommu-timeline", { since: store.last, limit: BATCH });
        setOn(report.on);
        setError(null);
        if (store.add(report)) {
          redraw((before) => before + 1);
        }
        if (report.rows.length === 0 || store.last >= report.last) {
          return;
        }
      }
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      asking.current = false;
    }
  };
  useEffect(() => void more(), [client, recording === null ? moment : 0]);
  useEvery(500, client.live && on !== false && query.still !== "1", more);

  const filter: RowFilter = { kinds: new Set(query.kind ? query.kind.split(".") : KINDS.map(({ kind }) => kind)), iommu: query.iommu ?? "", function: query.function ?? "", text: query.text ?? "" };
  const matched = store.matching(filter);
  // A recording's row is its position: what an address names is gone to, and the address follows who moves it elsewhere.
  const going = useRef(0);
  const chosen = recording === null || (going.current > 0 && query.row) ? Number(query.row ?? 0) : recording.row;
  useEffect(() => {
    if (recording !== null && query.row && Number(query.row) !== recording.row) {
      going.current++;
      void recording.at(Number(query.row)).finally(() => {
        going.current--;
        redraw((before) => before + 1);
      });
    }
  }, [query.row]);
  useEffect(() => {
    if (recording !== null && going.current === 0 && query.row && Number(query.row) !== recording.row) {
      go("timeline", { ...query, row: String(recording.row) }, true);
    }
  }, [recording?.row]);
  const row = store.row(chosen);
  const set = (name: string) => (value: string) => go("timeline", tidy({ ...query, [name]: value }), true);
  const choose = (number: number): void => {
    setFollow(false);
    go("timeline", tidy({ ...query, row: String(number) }), true);
  };
  const iommus = [...new Set((map?.functions ?? []).flatMap((one) => one.iommu ?? []))];
  return (
    <div class="vw-view vw-timeline">
      <form class="vw-bar" aria-label="Which rows" onSubmit={(event) => event.preventDefault()}>
        <fieldset class="vw-kinds">
          <legend>Kinds</legend>
          {KINDS.map(({ kind, mark }) => (
            <Tick label={`${mark} ${kind}`} checked={filter.kinds.has(kind)} onChange={(want) => set("kind")(listOf(KINDS.map((one) => one.kind).filter((one) => (one === kind ? want : filter.kinds.has(one)))))} />
          ))}
        </fieldset>
        <Choice label="Function" value={filter.function} all="all" options={functionChoices(map)} onChange={set("function")} />
        <Choice label="IOMMU" value={filter.iommu} all="all" options={iommus.map((id) => ({ value: id, text: id }))} onChange={set("iommu")} />
        <TextBox label="Words" value={filter.text} hint="any" width={18} onInput={set("text")} />
        {client.live && <Tick label="follow the newest" checked={follow} onChange={setFollow} />}
        {client.live && on !== null && (
          <button type="button" aria-pressed={on} onClick={() => void client.ask("x-viommu-timeline-set", { on: !on }).then(more, (problem: unknown) => setError(String(problem)))}>{on ? "Stop keeping" : "Keep rows"}</button>
        )}
      </form>
      {error !== null && <Problem>{error}</Problem>}
      <p role="status" class="vw-count">
        {on === false && client.live ? <Sign kind="quiet">the time line is off: nothing is kept</Sign> : on === true && client.live ? <Sign kind="good">on</Sign> : null}{" "}
        <span class="vw-quiet">{matched.length === store.length ? count(store.length) : `${count(matched.length)} of ${count(store.length)}`} rows</span>
      </p>
      {store.length > 0 && (
        <div class="vw-split vw-time">
          <RowList rows={matched} chosen={chosen} follow={follow} position={recording?.row ?? null} choose={choose} unfollow={() => setFollow(false)}
            around={(by) => {
              const at = placeOf(matched, chosen);
              return matched[Math.min(Math.max(matched[at]?.number === chosen || by < 0 ? at + by : at, 0), matched.length - 1)]?.number ?? 0;
            }}
            cause={(number) => store.row(number)?.cause ?? null} effect={(number) => store.followers(number)[0] ?? null} />
          {row !== null ? <RowDetails row={row} causes={store.causes(row)} followers={followersOf(store, row)} choose={choose} href={href} /> : <p class="vw-empty">Choose a row: what it followed from, and what followed from it.</p>}
        </div>
      )}
    </div>
  );
}

/** Kinds in an address: none of them for all, so that it is short. */
function listOf(kinds: readonly string[]): string {
  return kinds.length === KINDS.length ? "" : kinds.length === 0 ? "none" : kinds.join(".");
}

function followersOf(store: TimelineRows, row: TimelineRow): TimelineRow[] {
  return store.followers(row.number).flatMap((number) => store.row(number) ?? []);
}
