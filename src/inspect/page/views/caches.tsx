/** What caches hold, and which of it the tables no longer say. */
import { useState } from "preact/hooks";
import type { CachedEntryReport } from "../../report/index.js";
import { Choice, Fields, Hex, Name, Problem, Sign, TextBox, Tick, Unknown, Wide, Words, functionChoices, useAnswer } from "./parts.js";
import { count, hex, rangeOf, sizeOfBits, typed } from "./numbers-in-words.js";
import { tidy, type Query, type ViewProps } from "./view.js";

const CACHES = [{ value: "configuration", text: "configuration" }, { value: "tlb", text: "TLB" }, { value: "device", text: "device (ATC, device TLB)" }];
const CACHE_WORDS = { configuration: "configuration", tlb: "TLB", device: "device" } as const;
/** Rows that are shown at once. */
const PAGE = 300;

/** Whether an entry is of what the address asks for besides function and IOMMU, which the monitor knows. */
export function wanted(entry: CachedEntryReport, query: Query): boolean {
  const iova = query.iova ? typed(query.iova) : null;
  const pasid = query.pasid ? typed(query.pasid) : null;
  if ((query.cache && entry.cache !== query.cache) || (query.stale === "1" && entry.agrees !== false)) {
    return false;
  }
  if (iova !== null) {
    const range = entry.iova === null || entry.pageBits === null ? null : rangeOf(entry.iova, entry.pageBits);
    if (range === null || iova < range.first || iova > range.last) {
      return false;
    }
  }
  return pasid === null || entry.pasid === null || BigInt(entry.pasid) === pasid;
}

export function CachesView({ client, query, href, go, map, moment }: ViewProps) {
  const { answer, error, waiting } = useAnswer(client, "x-viommu-caches", tidy({ iommu: query.iommu, function: query.function }), moment);
  const [shown, setShown] = useState(PAGE);
  const set = (name: string) => (value: string) => go("caches", tidy({ ...query, [name]: value }), true);
  const iommus = [...new Set([...(map?.functions ?? []).flatMap((one) => one.iommu ?? []), ...(map?.host.iommus ?? []).map((one) => one.id), ...(answer?.entries ?? []).map((one) => one.iommu)])];
  const entries = (answer?.entries ?? []).filter((entry) => wanted(entry, query)).sort((one, other) => Number(one.agrees !== false) - Number(other.agrees !== false));
  const stale = entries.filter((entry) => entry.agrees === false).length;
  const badIova = query.iova && typed(query.iova) === null ? `'${query.iova}' is not a number: 0x1000, or decimal` : null;
  return (
    <div class="vw-view">
      <form class="vw-bar" aria-label="Which entries" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Function" value={query.function ?? ""} all="all" options={functionChoices(map)} problem={error?.includes("function") ? error : null} onChange={set("function")} />
        <Choice label="IOMMU" value={query.iommu ?? ""} all="all" options={iommus.map((id) => ({ value: id, text: id }))} onChange={set("iommu")} />
        <Choice label="Cache" value={query.cache ?? ""} all="all" options={CACHES} onChange={set("cache")} />
        <TextBox label="Holds IOVA" value={query.iova ?? ""} hint="any" width={19} problem={badIova} onInput={set("iova")} />
        <TextBox label="PASID" value={query.pasid ?? ""} hint="any" width={7} onInput={set("pasid")} />
        <Tick label="only stale" checked={query.stale === "1"} onChange={(on) => set("stale")(on ? "1" : "")} />
      </form>
      {error !== null && !error.includes("function") && <Problem>{error}</Problem>}
      {answer !== null && (
        <>
          <p role="status" class="vw-count">
            {stale > 0 ? <Sign kind="warn">{count(stale)} of {count(entries.length)} {entries.length === 1 ? "entry" : "entries"} no longer {stale === 1 ? "agrees" : "agree"} with the tables</Sign>
              : entries.length > 0 ? <Sign kind="good">{count(entries.length)} {entries.length === 1 ? "entry" : "entries"}, none stale</Sign>
                : <span class="vw-quiet">{answer.entries.length === 0 ? "No cache holds anything." : `None of ${count(answer.entries.length)} entries is of this kind.`}</span>}
            {answer.more > 0 && <span class="vw-quiet"> {count(answer.more)} more are not told: choose a function.</span>}
            {waiting && <span class="vw-quiet"> asking …</span>}
          </p>
          {entries.length > 0 && (
            <Wide label="Cached entries">
              <table class="vw-rows">
                <thead>
                  <tr><th scope="col">State</th><th scope="col">Held by</th><th scope="col">Entry</th><th scope="col">For</th><th scope="col">Tags</th><th scope="col">IOVA</th><th scope="col">Leads to</th><th scope="col"><span class="vw-hidden">More</span></th></tr>
                </thead>
                <tbody>
                  {entries.slice(0, shown).map((entry) => <Entry key={keyOf(entry)} entry={entry} href={href} />)}
                </tbody>
              </table>
            </Wide>
          )}
          {entries.length > shown && <button type="button" onClick={() => setShown(shown + PAGE)}>Show {count(Math.min(PAGE, entries.length - shown))} more of {count(entries.length - shown)}</button>}
          <Unknown lines={answer.unknown} />
        </>
      )}
    </div>
  );
}

function keyOf(entry: CachedEntryReport): string {
  return [entry.iommu, entry.side, entry.cache, entry.kind, entry.hostFunction, entry.streamId, entry.pasid, entry.iova, entry.pageBits, entry.output, JSON.stringify(entry.tags), entry.words.join()].join("|");
}

function Entry({ entry, href }: { readonly entry: CachedEntryReport; readonly href: ViewProps["href"] }) {
  const [open, setOpen] = useState(false);
  const what = `${entry.kind}${entry.iova === null ? "" : ` of ${entry.iova}`}`;
  const iova = entry.iova;
  return (
    <>
      <tr class={entry.agrees === false ? "vw-stale" : undefined}>
        <td>{entry.agrees === false ? <Sign kind="warn">stale</Sign> : entry.agrees === null ? <Sign kind="quiet">not known</Sign> : <Sign kind="good">agrees</Sign>}</td>
        <td><Name>{entry.iommu}</Name> <span class="vw-quiet">{entry.hostFunction === null ? CACHE_WORDS[entry.cache] : entry.hostFunction}</span></td>
        <td class="vw-whole">{entry.kind}</td>
        <td>
          {entry.functions.map((name, at) => <>{at > 0 && ", "}<Name>{name}</Name></>)}
          {entry.streamId !== null && <span class="vw-quiet"> id {hex(entry.streamId)}</span>}
          {entry.pasid !== null && <span class="vw-quiet"> PASID {entry.pasid}</span>}
        </td>
        <td class="vw-tags">{Object.entries(entry.tags).map(([name, value]) => `${name} ${value}`).join(", ")}{entry.global && " global"}</td>
        <td class="vw-whole">{iova !== null && <><Hex>{iova}</Hex>{entry.pageBits !== null && <span class="vw-quiet"> {sizeOfBits(entry.pageBits)}</span>}</>}</td>
        <td class="vw-whole">{entry.output !== null && <Hex>{entry.output}</Hex>} {entry.permissions !== null && <span class="vw-perms">{entry.permissions}</span>}</td>
        <td class="vw-do">
          {iova !== null && entry.functions[0] !== undefined && <a href={href("walk", tidy({ function: entry.functions[0], iova, pasid: entry.pasid === null ? "" : String(entry.pasid) }))} >walk<span class="vw-hidden"> of {iova}</span></a>}
          {(entry.fields.length > 0 || entry.words.length > 0 || (entry.agrees !== false && entry.dropped.length > 0)) && (
            <button type="button" class="vw-flat" aria-expanded={open} onClick={() => setOpen(!open)}><span aria-hidden="true">{open ? "▾" : "▸"} </span>more<span class="vw-hidden"> of {what}</span></button>
          )}
        </td>
      </tr>
      {(entry.agrees === false || open) && (
        <tr class={entry.agrees === false ? "vw-stale vw-under" : "vw-under"}>
          <td />
          <td colSpan={7}>
            {entry.tables !== "" && <p>The tables say: <strong><Name>{entry.tables}</Name></strong></p>}
            {entry.dropped.length > 0 && <p>Dropped by {entry.dropped.map((command, at) => <>{at > 0 && <span class="vw-quiet"> or </span>}<code>{command}</code></>)}</p>}
            {open && <><Words words={entry.words} /><Fields fields={entry.fields} label={`Fields of ${what}`} /></>}
          </td>
        </tr>
      )}
    </>
  );
}
