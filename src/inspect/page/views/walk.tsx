/** The walk of one request, fetch by fetch: what is asked, the fetches on two axes, the chosen one, how it ends. */
import { useEffect, useState } from "preact/hooks";
import type { WalkReport } from "../../report/index.js";
import { Choice, Problem, TextBox, Tick, Unknown, functionChoices, useAnswer } from "./parts.js";
import { tidy, type Query, type ViewProps } from "./view.js";
import { Compared } from "./walk-compare.js";
import { FetchDetails, WalkEnding } from "./walk-details.js";
import { WalkGrid, stepOf } from "./walk-grid.js";

/** The fields of the question, by the command's arguments. */
const ACCESSES = [{ value: "read", text: "read" }, { value: "write", text: "write" }, { value: "execute", text: "execute" }];
const KINDS = [{ value: "untranslated", text: "untranslated" }, { value: "ats-request", text: "ATS translation request" }, { value: "ats-translated", text: "ATS translated" }];

/** Arguments of `x-viommu-walk` of what the address says; a number that is none goes as it is, so that the monitor says what is wrong. Null: nothing is asked. */
export function questionOf(query: Query): Record<string, unknown> | null {
  if (!query.function || !query.iova) {
    return null;
  }
  return {
    function: query.function,
    iova: query.iova,
    ...(query.pasid ? { pasid: /^\d+$/.test(query.pasid) ? Number(query.pasid) : /^0x[0-9a-f]{1,8}$/i.test(query.pasid) ? Number.parseInt(query.pasid, 16) : query.pasid } : {}),
    ...(query.access ? { access: query.access } : {}),
    ...(query.privileged === "1" ? { privileged: true } : {}),
    ...(query.kind ? { kind: query.kind } : {}),
  };
}

/** The question's field that a refusal names. */
function fieldOf(error: string | null): string | null {
  return error === null ? null : /\b(function|pasid|iova|access|privileged|kind)\b/i.exec(error)?.[1].toLowerCase() ?? null;
}

export function WalkView({ client, query, href, go, map, moment }: ViewProps) {
  const question = questionOf(query);
  const { answer, error, waiting } = useAnswer(client, "x-viommu-walk", question, moment);
  return (
    <div class="vw-view vw-walk">
      <Question query={query} map={map} error={error} waiting={waiting} go={go} />
      {question === null && <p class="vw-empty">Choose a function and an IOVA: every fetch of the translation is shown, in order.</p>}
      {answer !== null && <Walk report={answer} query={query} href={href} go={go} />}
    </div>
  );
}

function Question({ query, map, error, waiting, go }: Pick<ViewProps, "query" | "map" | "go"> & { readonly error: string | null; readonly waiting: boolean }) {
  const [draft, setDraft] = useState<Query>(query);
  const address = JSON.stringify({ ...query, step: "" });
  useEffect(() => setDraft(query), [address]);
  const set = (name: string) => (value: string) => setDraft({ ...draft, [name]: value });
  const first = map?.functions[0]?.function ?? "";
  const field = fieldOf(error);
  const problem = (name: string): string | null => (field === name ? error : null);
  return (
    <form class="vw-bar" aria-label="Request" onSubmit={(event) => {
      event.preventDefault();
      go("walk", tidy({ ...draft, function: draft.function || first, iova: (draft.iova ?? "").trim() || "0x0", step: "" }));
    }}>
      <Choice label="Function" value={draft.function ?? first} options={functionChoices(map)} problem={problem("function")} onChange={set("function")} />
      <TextBox label="PASID" value={draft.pasid ?? ""} hint="none" width={7} problem={problem("pasid")} onInput={set("pasid")} />
      <TextBox label="IOVA" value={draft.iova ?? ""} hint="0x0" width={19} problem={problem("iova")} onInput={set("iova")} />
      <Choice label="Access" value={draft.access ?? "read"} options={ACCESSES} problem={problem("access")} onChange={(value) => set("access")(value === "read" ? "" : value)} />
      <Choice label="Request" value={draft.kind ?? "untranslated"} options={KINDS} problem={problem("kind")} onChange={(value) => set("kind")(value === "untranslated" ? "" : value)} />
      <Tick label="privileged" checked={draft.privileged === "1"} onChange={(on) => set("privileged")(on ? "1" : "")} />
      <button type="submit" class="vw-main">Walk</button>
      <span class="vw-quiet" role="status">{waiting ? "asking …" : ""}</span>
      {error !== null && (field === null || field === "privileged") && <Problem>{error}</Problem>}
    </form>
  );
}

function Walk({ report, query, href, go }: { readonly report: WalkReport } & Pick<ViewProps, "query" | "href" | "go">) {
  const step = stepOf(report, query.step);
  const choose = (number: number): void => go("walk", tidy({ ...query, step: String(number) }), true);
  const fetch = report.fetches[step - 1];
  return (
    <>
      <WalkEnding report={report} href={href} />
      {report.fetches.length > 0 && (
        <div class="vw-split">
          <WalkGrid report={report} step={step} choose={choose} />
          <FetchDetails fetch={fetch} of={report.fetches.length} step={step} choose={choose} />
        </div>
      )}
      {report.cut && <Problem>More fetches were made than are told: the walk was cut off.</Problem>}
      <Compared entries={report.compared} />
      <Unknown lines={report.unknown} />
    </>
  );
}
