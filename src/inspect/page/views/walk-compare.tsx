/** The guest's entry beside the one that the kernel was given. */
import { useState } from "preact/hooks";
import type { ComparedEntry } from "../../report/index.js";
import { Hex, Name, Section, Sign, Tick, Wide, bitsOf } from "./parts.js";

const FATES = {
  same: { kind: "quiet", word: "same" },
  taken: { kind: "good", word: "taken" },
  dropped: { kind: "warn", word: "dropped" },
  made: { kind: "warn", word: "made by the host" },
} as const;

export function Compared({ entries }: { readonly entries: readonly ComparedEntry[] }) {
  const [all, setAll] = useState(false);
  return entries.length === 0 ? null : (
    <section class="vw-card" aria-label="The guest's entries beside the host's">
      <div class="vw-head">
        <h2>What the guest wrote, and what the hardware was given</h2>
        <Tick label="also fields that are the same" checked={all} onChange={setAll} />
      </div>
      {entries.map((entry) => {
        const rows = entry.fields.filter((field) => all || field.fate !== "same");
        return (
          <div class="vw-compared">
            <h3><Name>{entry.name}</Name> <Section>{entry.section}</Section></h3>
            {rows.length === 0 ? <p class="vw-quiet">All {entry.fields.length} fields are the same.</p> : (
              <Wide label={`Fields of ${entry.name}`}>
                <table class="vw-fields">
                  <thead><tr><th scope="col">Bits</th><th scope="col">Field</th><th scope="col">Guest</th><th scope="col">Host</th><th scope="col">Fate</th><th scope="col">Why</th></tr></thead>
                  <tbody>
                    {rows.map((field) => (
                      <tr>
                        <td class="vw-bits">{bitsOf(field)}</td>
                        <th scope="row">{field.name}</th>
                        <td>{field.guest === null ? <span class="vw-quiet">none</span> : <Hex>{field.guest}</Hex>}</td>
                        <td>{field.host === null ? <span class="vw-quiet">none</span> : <Hex>{field.host}</Hex>}</td>
                        <td><Sign kind={FATES[field.fate].kind}>{FATES[field.fate].word}</Sign></td>
                        <td>{field.why ?? field.meaning}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </Wide>
            )}
          </div>
        );
      })}
    </section>
  );
}
