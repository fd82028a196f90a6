/** The chosen fetch of a walk, and how the walk ends. */
import type { FetchReport, WalkReport } from "../../report/index.js";
import { Fields, Hex, Name, Section, Sign, Words } from "./parts.js";
import { hex, sizeOfBits } from "./numbers-in-words.js";
import { tidy, type ViewProps } from "./view.js";

const SPACES = { "guest-physical": "guest-physical", "host-physical": "host-physical" } as const;

export function FetchDetails({ fetch, of, step, choose }: { readonly fetch: FetchReport; readonly of: number; readonly step: number; choose(number: number): void }) {
  return (
    <section class="vw-card vw-detail" aria-label="The chosen fetch">
      <div class="vw-steps" role="group" aria-label="Step">
        <button type="button" disabled={step <= 1} aria-label="first fetch" onClick={() => choose(1)}>|◀</button>
        <button type="button" disabled={step <= 1} aria-label="fetch before" onClick={() => choose(step - 1)}>◀</button>
        <output aria-live="polite">{step} of {of}</output>
        <button type="button" disabled={step >= of} aria-label="next fetch" onClick={() => choose(step + 1)}>▶</button>
        <button type="button" disabled={step >= of} aria-label="last fetch" onClick={() => choose(of)}>▶|</button>
      </div>
      <h3>{fetch.number}. <Name>{fetch.name}</Name></h3>
      <dl class="vw-pairs">
        <dt>Address</dt>
        <dd><Hex>{fetch.address}</Hex> <span class="vw-quiet">{SPACES[fetch.space]}</span></dd>
        {fetch.ipa !== null && <><dt>From IPA</dt><dd><Hex>{fetch.ipa}</Hex> <span class="vw-quiet">guest-physical, by stage 2</span></dd></>}
        <dt>Decides</dt>
        <dd><strong><Name>{fetch.decides}</Name></strong> <Section>{fetch.section}</Section></dd>
      </dl>
      <Words words={fetch.words} />
      <Fields fields={fetch.fields} label={`Fields of ${fetch.name}`} />
    </section>
  );
}

/** Sign and word of each way that a request ends. */
const OUTCOMES = {
  translated: { kind: "good", word: "translated" },
  bypassed: { kind: "good", word: "bypassed" },
  aborted: { kind: "bad", word: "aborted" },
  "read-as-zero": { kind: "warn", word: "read as zero" },
  unknown: { kind: "quiet", word: "unknown" },
} as const;

export function WalkEnding({ report, href }: { readonly report: WalkReport; readonly href: ViewProps["href"] }) {
  const { end, question } = report;
  const outcome = OUTCOMES[end.outcome];
  return (
    <section class={`vw-card vw-end vw-edge-${outcome.kind}`} aria-label="How it ends">
      <h2><Sign kind={outcome.kind}>{outcome.word}</Sign></h2>
      <p class="vw-path">
        <Hex>{question.iova}</Hex>
        {end.ipa !== null && <> <span aria-label="then">→</span> IPA <Hex>{end.ipa}</Hex></>}
        {end.output !== null && <> <span aria-label="then">→</span> <strong><Hex>{end.output}</Hex></strong> <span class="vw-quiet">{SPACES[end.outputSpace]}</span></>}
        {end.permissions !== null && <> <span class="vw-perms" title="granted">{end.permissions}</span></>}
        {end.pageBits !== null && <> <span class="vw-quiet">page of {sizeOfBits(end.pageBits)}</span></>}
      </p>
      <p class="vw-reason"><Name>{end.reason}</Name></p>
      {end.event !== null && (
        <details class="vw-event" open={end.outcome === "aborted"}>
          <summary><strong>{end.event.name}</strong> <span class="vw-hex">{hex(end.event.number)}</span> <Section>{end.event.section}</Section></summary>
          <div class="vw-beside">
            <div><Fields fields={end.event.fields} label={`Fields of ${end.event.name}`} /></div>
            <Words words={end.event.words} />
          </div>
        </details>
      )}
      <p class="vw-links">
        <span class="vw-quiet">walked by <Name>{report.iommu}</Name> ({report.side === "host" ? "the host's" : "the machine's"}), StreamID or source id {hex(report.streamId)}</span>
        {" "}<a href={href("caches", tidy({ function: question.function, iova: question.iova, pasid: question.pasid === null ? "" : String(question.pasid) }))}>Cached entries that hold it</a>
        {" "}<a href={href("timeline", tidy({ function: question.function }))}>Time line of the function</a>
      </p>
    </section>
  );
}
