/** Queues of IOMMUs: where producer and consumer are, what is in them, what went to the host, where an error stands. */
import { useState } from "preact/hooks";
import type { QueueEntryReport, QueueReport } from "../../report/index.js";
import { Choice, Fields, Hex, Name, Problem, Section, Sign, Tick, Wide, Words, useAnswer } from "./parts.js";
import { count } from "./numbers-in-words.js";
import { tidy, type ViewProps } from "./view.js";

/** Entries of a queue that are shown at first: so many that are done, and behind them what waits. */
const DONE = 12;
const WAITING = 36;
/** Entries that are shown more when it is asked for. */
const MORE = 64;

export function QueuesView({ client, query, go, map, moment }: ViewProps) {
  const { answer, error } = useAnswer(client, "x-viommu-queues", tidy({ iommu: query.iommu }), moment);
  const set = (name: string) => (value: string) => go("queues", tidy({ ...query, [name]: value }), true);
  const iommus = [...new Set([...(map?.functions ?? []).flatMap((one) => one.iommu ?? []), ...(answer?.queues ?? []).map((queue) => queue.iommu)])];
  const queues = (answer?.queues ?? []).filter((queue) => query.all === "1" || queue.enabled);
  return (
    <div class="vw-view">
      <form class="vw-bar" aria-label="Which queues" onSubmit={(event) => event.preventDefault()}>
        <Choice label="IOMMU" value={query.iommu ?? ""} all="all" options={iommus.map((id) => ({ value: id, text: id }))} onChange={set("iommu")} />
        <Tick label="also queues that are off" checked={query.all === "1"} onChange={(on) => set("all")(on ? "1" : "")} />
      </form>
      {error !== null && <Problem>{error}</Problem>}
      {answer !== null && queues.length === 0 && <p class="vw-empty">{answer.queues.length === 0 ? "No IOMMU with queues." : `${count(answer.queues.length)} ${answer.queues.length === 1 ? "queue" : "queues"}, none of them on.`}</p>}
      {queues.map((queue) => <Queue key={`${queue.iommu} ${queue.name}`} queue={queue} />)}
    </div>
  );
}

function Queue({ queue }: { readonly queue: QueueReport }) {
  const [more, setMore] = useState({ before: 0, after: 0 });
  const waiting = waitingOf(queue);
  const stopped = queue.entries.some((entry) => entry.error !== null);
  const undone = queue.entries.findIndex((entry) => entry.state !== "done");
  const middle = undone < 0 ? queue.entries.length : undone;
  const from = Math.max(middle - DONE - more.before, 0);
  const to = Math.min(middle + WAITING + more.after, queue.entries.length);
  return (
    <section class="vw-card" aria-label={`${queue.name} queue of ${queue.iommu}`}>
      <div class="vw-head">
        <h2><Name>{queue.iommu}</Name> {queue.name} queue</h2>
        {!queue.enabled ? <Sign kind="quiet">off</Sign> : stopped ? <Sign kind="bad">stopped at an error</Sign> : queue.full ? <Sign kind="warn">full</Sign> : <Sign kind="good">on</Sign>}
        <span class="vw-quiet">at <Hex>{queue.base}</Hex></span>
      </div>
      <Positions queue={queue} waiting={waiting} />
      {queue.error !== undefined && <p class="vw-problem"><span aria-hidden="true" class="vw-mark">✕</span> <Name>{queue.error}</Name></p>}
      <Batch queue={queue} />
      {from > 0 && <button type="button" class="vw-flat" onClick={() => setMore({ ...more, before: more.before + MORE })}>▴ {count(Math.min(MORE, from))} earlier of {count(from)}</button>}
      {queue.entries.length > 0 && (
        <Wide label={`Entries of the ${queue.name} queue of ${queue.iommu}`}>
          <table class="vw-rows">
            <thead><tr><th scope="col">Index</th><th scope="col">State</th><th scope="col">Entry</th><th scope="col">Says</th><th scope="col"><span class="vw-hidden">More</span></th></tr></thead>
            <tbody>{queue.entries.slice(from, to).map((entry) => <Entry key={entry.index} entry={entry} queue={queue} />)}</tbody>
          </table>
        </Wide>
      )}
      {queue.entries.length > to && <button type="button" class="vw-flat" onClick={() => setMore({ ...more, after: more.after + MORE })}>▾ {count(Math.min(MORE, queue.entries.length - to))} more of {count(queue.entries.length - to)}</button>}
    </section>
  );
}

export function waitingOf(queue: Pick<QueueReport, "producer" | "consumer" | "size" | "full">): number {
  return queue.full ? queue.size : (queue.producer - queue.consumer + queue.size) % Math.max(queue.size, 1);
}

/** The queue from its first index to its last: hatched what waits, a mark under it for each position. */
function Positions({ queue, waiting }: { readonly queue: QueueReport; readonly waiting: number }) {
  const size = Math.max(queue.size, 1);
  const at = (index: number): number => (index / size) * 100;
  // Below a part in 250 nothing would be seen of it.
  const wide = waiting === 0 ? 0 : Math.max(at(waiting), 0.4);
  const start = waiting * 250 < size ? Math.min(at(queue.consumer), 100 - wide) : at(queue.consumer);
  const pieces = [[start, Math.min(wide, 100 - start)], [0, Math.max(start + wide - 100, 0)]].filter(([, width]) => width > 0);
  const mark = (index: number, second: boolean, word: string) => (
    <span style={at(index) > 75 ? { right: `${100 - at(index)}%` } : { left: `${at(index)}%` }} class={second ? "vw-second" : undefined}>{at(index) > 75 ? `${word} ${index} ▲` : `▲ ${word} ${index}`}</span>
  );
  return (
    <figure class="vw-positions">
      <div class="vw-track" aria-hidden="true">{pieces.map(([left, width]) => <div class="vw-waiting" style={{ left: `${left}%`, width: `${width}%` }} />)}</div>
      <div class="vw-marks" aria-hidden="true">
        {mark(queue.consumer, false, "consumer")}
        {mark(queue.producer, true, "producer")}
      </div>
      <figcaption>producer {queue.producer}, consumer {queue.consumer}: {count(waiting)} of {count(queue.size)} waiting{queue.full ? ", full" : ""}</figcaption>
    </figure>
  );
}

function Batch({ queue: { batch } }: { readonly queue: QueueReport }) {
  return batch === null ? null : (
    <p class="vw-batch">
      The last batch to the host: {count(batch.entries)} {batch.entries === 1 ? "entry" : "entries"}{batch.first !== null && <> from index {batch.first}</>}, of which it took {count(batch.handled)}.{" "}
      {batch.error !== null ? <Sign kind="bad"><Name>{batch.error}</Name></Sign> : batch.handled === batch.entries && <Sign kind="good">all</Sign>}
    </p>
  );
}

const STATES = { waiting: { kind: "warn", word: "waiting" }, done: { kind: "quiet", word: "done" }, current: { kind: "bad", word: "stopped here" } } as const;

function Entry({ entry, queue: { batch, size } }: { readonly entry: QueueEntryReport; readonly queue: QueueReport }) {
  const [open, setOpen] = useState(false);
  const sent = batch !== null && batch.first !== null && (entry.index - batch.first + size) % size < batch.entries;
  return (
    <>
      <tr class={entry.error !== null ? "vw-failed" : undefined}>
        <td class="vw-index">{entry.index}</td>
        <td><Sign kind={STATES[entry.state].kind}>{STATES[entry.state].word}</Sign>{sent && <span class="vw-quiet" title="in the last batch to the host"> ⇢ host</span>}</td>
        <th scope="row">{entry.name}</th>
        <td>{entry.summary}{entry.error !== null && <p class="vw-problem"><span aria-hidden="true" class="vw-mark">✕</span> <Name>{entry.error}</Name></p>}</td>
        <td class="vw-do"><button type="button" class="vw-flat" aria-expanded={open} onClick={() => setOpen(!open)}><span aria-hidden="true">{open ? "▾" : "▸"} </span>more<span class="vw-hidden"> of entry {entry.index}</span></button></td>
      </tr>
      {open && (
        <tr class="vw-under">
          <td />
          <td colSpan={4}><Section>{entry.section}</Section><Words words={entry.words} /><Fields fields={entry.fields} label={`Fields of entry ${entry.index}`} /></td>
        </tr>
      )}
    </>
  );
}
