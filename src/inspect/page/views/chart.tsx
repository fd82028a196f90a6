/** Lines over time, small and large; the large one with its table. */
import type { Rate } from "./samples.js";
import { Wide } from "./parts.js";

/** A line in a cell. Its numbers stand beside it. */
export function Spark({ line }: { readonly line: readonly Rate[] }) {
  const seen = line.slice(-60);
  const high = Math.max(...seen.map(({ rate }) => rate), 0);
  return (
    <svg class="vw-spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      {high > 0 && seen.length > 1 ? <polyline points={seen.map(({ rate }, at) => `${((at / (seen.length - 1)) * 100).toFixed(1)},${(19 - (rate / high) * 18).toFixed(1)}`).join(" ")} /> : <line x1="0" y1="19" x2="100" y2="19" />}
    </svg>
  );
}

const WIDTH = 800;
const HEIGHT = 180;
const LEFT = 64;
const BOTTOM = 24;

/** The next of 1, 2, 5, 10, ... at or above `value`. */
export function roundUp(value: number): number {
  if (value <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999)!;
}

export function Chart({ title, line, tell }: { readonly title: string; readonly line: readonly Rate[]; tell(value: number): string }) {
  if (line.length < 2) {
    return <section class="vw-card" aria-label={title}><h2>{title}</h2><p class="vw-quiet">Drawn as soon as there are three samples.</p></section>;
  }
  const top = roundUp(Math.max(...line.map(({ rate }) => rate)));
  const [start, end] = [line[0].time, line.at(-1)!.time];
  const x = (time: number): number => LEFT + ((time - start) / Math.max(end - start, 1e-6)) * (WIDTH - LEFT - 8);
  const y = (rate: number): number => 8 + (1 - rate / top) * (HEIGHT - BOTTOM - 8);
  const points = line.map(({ time, rate }) => `${x(time).toFixed(1)},${y(rate).toFixed(1)}`).join(" ");
  return (
    <section class="vw-card" aria-label={title}>
      <h2>{title}</h2>
      <div class="vw-chart-box">
        <svg class="vw-chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${title}: from ${tell(line[0].rate)} to ${tell(line.at(-1)!.rate)}, at most ${tell(Math.max(...line.map(({ rate }) => rate)))}`}>
          {[0, 0.5, 1].map((part) => (
            <>
              <line class="vw-rule" x1={LEFT} x2={WIDTH - 8} y1={y(part * top)} y2={y(part * top)} />
              <text x={LEFT - 8} y={y(part * top) + 4} text-anchor="end">{tell(part * top)}</text>
            </>
          ))}
          {[0, 0.5, 1].map((part) => (
            <text x={x(start + part * (end - start))} y={HEIGHT - 6} text-anchor={part === 0 ? "start" : part === 1 ? "end" : "middle"}>{(start + part * (end - start)).toFixed(end - start < 3 ? 3 : 1)} s</text>
          ))}
          <polygon class="vw-area" points={`${x(start).toFixed(1)},${y(0)} ${points} ${x(end).toFixed(1)},${y(0)}`} />
          <polyline class="vw-curve" points={points} />
        </svg>
        <details>
          <summary>As a table</summary>
          <Wide label={`${title}, as a table`}>
            <table class="vw-fields">
              <thead><tr><th scope="col">Until</th><th scope="col">In a second</th></tr></thead>
              <tbody>{line.slice(-60).reverse().map(({ time, rate }) => <tr><td>{time.toFixed(3)} s</td><td>{tell(rate)}</td></tr>)}</tbody>
            </table>
          </Wide>
        </details>
      </div>
    </section>
  );
}
