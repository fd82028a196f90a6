/** One row of the time line in full: its words, what it followed from, what followed. */
import type { TimelineRow } from "../../report/index.js";
import { Name } from "./parts.js";
import { count, hex, seconds } from "./numbers-in-words.js";
import { MARKS } from "./timeline-list.js";
import { tidy, type ViewProps } from "./view.js";

/** Followers that are listed. */
const LISTED = 40;

/** The walk of the request that a row tells of, by what its words name; null: they name none. */
export function requestIn(row: TimelineRow): { readonly function: string; readonly iova: string; readonly pasid: string; readonly access: string } | null {
  const iova = row.kind === "event" || row.kind === "dma" ? /\b(?:iova|addr)\b\W{0,3}(0x[0-9a-f]+)/i.exec(row.words)?.[1].toLowerCase() : undefined;
  if (row.function === null || iova === undefined) {
    return null;
  }
  return { function: row.function, iova, pasid: /\bpasid[ =](\d+)/.exec(row.words)?.[1] ?? "", access: /\b(?:is_write=1|write 1|write iova)\b/.test(row.words) ? "write" : "" };
}

export function RowDetails({ row, causes, followers, choose, href }: { readonly row: TimelineRow; readonly causes: readonly TimelineRow[]; readonly followers: readonly TimelineRow[]; choose(number: number): void; readonly href: ViewProps["href"] }) {
  // An event says less of its request than the row that it follows from.
  const request = [row, ...causes].map(requestIn).find((one) => one !== null) ?? null;
  return (
    <section class="vw-card vw-detail" aria-label="The chosen row">
      <h2><span aria-hidden="true">{MARKS[row.kind]}</span> {row.number}. {row.name}</h2>
      <p class="vw-full"><Name>{row.words}</Name></p>
      <dl class="vw-pairs">
        <dt>Time</dt><dd>{seconds(row.time)} s</dd>
        <dt>Kind</dt><dd>{row.kind}</dd>
        {row.iommu !== null && <><dt>IOMMU</dt><dd><Name>{row.iommu}</Name></dd></>}
        {row.function !== null && <><dt>Function</dt><dd><Name>{row.function}</Name></dd></>}
        {row.streamId !== null && <><dt>Stream</dt><dd>{hex(row.streamId)}</dd></>}
      </dl>
      <p class="vw-links">
        {request !== null && <a href={href("walk", tidy(request))}>Walk of {request.iova}</a>}{" "}
        {row.iommu !== null && (row.kind === "command" || row.kind === "event") && <a href={href("queues", tidy({ iommu: row.iommu }))}>Queues</a>}{" "}
        {row.function !== null && <a href={href("caches", tidy({ function: row.function }))}>Cached entries</a>}
      </p>
      {causes.length > 0 && (
        <>
          <h3>Follows from</h3>
          <ol class="vw-chain">{causes.map((cause) => <Linked row={cause} from={row} choose={choose} />)}</ol>
        </>
      )}
      <h3>{followers.length === 0 ? "Nothing followed that is known" : `What followed: ${count(followers.length)}`}</h3>
      {followers.length > 0 && <ol class="vw-chain">{followers.slice(0, LISTED).map((follower) => <Linked row={follower} from={row} choose={choose} />)}</ol>}
      {followers.length > LISTED && <p class="vw-quiet">and {count(followers.length - LISTED)} more</p>}
    </section>
  );
}

function Linked({ row, from, choose }: { readonly row: TimelineRow; readonly from: TimelineRow; choose(number: number): void }) {
  return (
    <li>
      <button type="button" class="vw-flat vw-linked" onClick={() => choose(row.number)}>
        <span aria-hidden="true">{MARKS[row.kind]}</span> {row.number} <b>{row.name}</b> <Name>{row.words}</Name>
      </button>
      <span class="vw-quiet"> {row.time < from.time ? "−" : "+"}{count(Math.abs(row.time - from.time))} µs</span>
    </li>
  );
}
