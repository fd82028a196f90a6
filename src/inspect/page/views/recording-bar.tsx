/** Where in a recording the page is: all views show the state after this row. */
import type { RecordingPosition } from "./view.js";
import { count } from "./numbers-in-words.js";

export function RecordingBar({ recording }: { readonly recording: RecordingPosition }) {
  const { first, last, row } = recording;
  const to = (number: number) => () => void recording.at(Math.min(Math.max(number, first), last));
  return (
    <div class="vw-recording" role="region" aria-label="Position in the recording">
      <button type="button" disabled={row <= first} aria-label="first row" onClick={to(first)}>|◀</button>
      <button type="button" disabled={row <= first} aria-label="row before" onClick={to(row - 1)}>◀</button>
      <input type="range" min={first} max={last} step={1} value={row} aria-label="Row" aria-valuetext={`row ${row} of ${last}`} onInput={(event) => to(Number(event.currentTarget.value))()} />
      <button type="button" disabled={row >= last} aria-label="next row" onClick={to(row + 1)}>▶</button>
      <button type="button" disabled={row >= last} aria-label="last row" onClick={to(last)}>▶|</button>
      <output aria-live="polite">state after row <b>{count(row)}</b> of {count(last)}</output>
    </div>
  );
}
