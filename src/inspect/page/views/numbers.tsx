/** Numbers over time: a row for the machine, each IOMMU and each function; a cell's count, its rate now, its line. */
import { useEffect, useState } from "preact/hooks";
import type { NumbersReport, NumbersRow } from "../../report/index.js";
import { Chart, Spark } from "./chart.js";
import { Name, Problem, Tick, Wide, useEvery } from "./parts.js";
import { count, short, sizeOf } from "./numbers-in-words.js";
import { Samples, type Measure } from "./samples.js";
import { tidy, type ViewClient, type ViewProps } from "./view.js";

const MEASURES: readonly { readonly measure: Measure; readonly word: string }[] = [
  { measure: "invalidations", word: "Invalidations" }, { measure: "hostCalls", word: "Host calls" }, { measure: "exits", word: "Exits" },
  { measure: "faults", word: "Faults" }, { measure: "dma", word: "DMA requests" }, { measure: "dmaBytes", word: "DMA bytes" },
];

const kept = new WeakMap<ViewClient, Samples>();

export function NumbersView({ client, query, go, moment }: ViewProps) {
  let samples = kept.get(client);
  if (samples === undefined) {
    kept.set(client, samples = new Samples());
  }
  const store = samples;
  const [, redraw] = useState(0);
  const [error, setError] = useState<string | null>(null);
  const [latest, setLatest] = useState<NumbersReport | null>(store.latest);
  const more = async (): Promise<void> => {
    try {
      const report = await client.ask("x-viommu-numbers", {});
      setLatest(report);
      setError(null);
      if (client.recording === null) {
        store.add(report);
      }
      redraw((before) => before + 1);
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  useEffect(() => void more(), [client, moment]);
  useEffect(() => void client.numbersOverTime?.().then((reports) => {
    store.replace(reports);
    redraw((before) => before + 1);
  }, () => undefined), [client]);
  useEvery(1000, client.live && query.still !== "1", more);

  const measure = MEASURES.find((one) => one.measure === query.measure) ?? MEASURES[0];
  const of = query.of ?? "";
  const rows = latest?.rows ?? [];
  const chosen = rows.find((row) => (row.of ?? "") === of) ?? rows[0];
  const choose = (row: NumbersRow, one: Measure) => () => go("numbers", tidy({ ...query, of: row.of ?? "", measure: one }), true);
  return (
    <div class="vw-view">
      {error !== null && <Problem>{error}</Problem>}
      {client.live && <div class="vw-bar"><Tick label="a sample each second" checked={query.still !== "1"} onChange={(on) => go("numbers", tidy({ ...query, still: on ? "" : "1" }), true)} /></div>}
      {latest !== null && (
        <>
          <p class="vw-quiet">Counts since the machine was made, their rate in a second, and the rate over time. Choose a cell to see its line.</p>
          <Wide label="Numbers">
            <table class="vw-rows vw-matrix">
              <thead><tr><th scope="col">Of</th>{MEASURES.map(({ word }) => <th scope="col">{word}</th>)}</tr></thead>
              <tbody>
                {rows.map((row) => (
                  <tr key={row.of ?? ""}>
                    <th scope="row">{row.of === null ? "the machine" : <Name>{row.of}</Name>}</th>
                    {MEASURES.map(({ measure: one, word }) => {
                      const line = store.rates(row.of, one);
                      const now = row === chosen && one === measure.measure;
                      return (
                        <td>
                          <button type="button" class={now ? "vw-cell vw-now" : "vw-cell"} aria-pressed={now} onClick={choose(row, one)}>
                            <span class="vw-value">{now && <span aria-hidden="true">▶ </span>}{tell(one, row[one])}<span class="vw-hidden"> {word} of {row.of ?? "the machine"}</span></span>
                            <span class="vw-rate">{line.length > 0 && line.at(-1)!.rate > 0 ? `${brief(one, line.at(-1)!.rate)}/s` : ""}</span>
                            <Spark line={line} />
                          </button>
                        </td>
                      );
                    })}
                  </tr>
                ))}
              </tbody>
            </table>
          </Wide>
        </>
      )}
      {chosen !== undefined && <Chart title={`${measure.word} of ${chosen.of ?? "the machine"}, in a second`} line={store.rates(chosen.of, measure.measure)} tell={(value) => brief(measure.measure, value)} />}
    </div>
  );
}

function tell(measure: Measure, value: number): string {
  return measure === "dmaBytes" ? sizeOf(value) : count(value);
}

function brief(measure: Measure, value: number): string {
  return measure === "dmaBytes" ? sizeOf(value) : short(value);
}
