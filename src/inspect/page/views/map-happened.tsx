/** The latest rows of the time line that name what is chosen. */
import { useEffect, useState } from "preact/hooks";
import type { TimelineRow } from "../../report/index.js";
import { Name } from "./parts.js";
import type { ViewProps } from "./view.js";

/** Rows from the end that are looked through, and those that are shown. */
const BACK = 1000;
const SHOWN = 12;

export function Happened({ client, moment, href, iommu, function: fn }: Pick<ViewProps, "client" | "moment" | "href"> & { readonly iommu: string | null; readonly function: string | null }) {
  const [rows, setRows] = useState<readonly TimelineRow[] | string | null>(null);
  useEffect(() => {
    let asked = true;
    const look = async (): Promise<void> => {
      try {
        const { last, on } = await client.ask("x-viommu-timeline", { since: 0, limit: 1 });
        const report = await client.ask("x-viommu-timeline", { since: Math.max(0, last - BACK), limit: BACK });
        const own = report.rows.filter((row) => (fn === null ? row.iommu === iommu : row.function === fn)).slice(-SHOWN).reverse();
        if (asked) {
          setRows(own.length === 0 && !on ? "the time line is not kept" : own);
        }
      } catch (error) {
        if (asked) {
          setRows(error instanceof Error ? error.message : String(error));
        }
      }
    };
    void look();
    return () => {
      asked = false;
    };
  }, [client, moment, iommu, fn]);
  return (
    <section>
      <h3>What has happened to it</h3>
      {rows === null ? null : typeof rows === "string" ? <p class="quiet"><Name>{rows}</Name></p> : rows.length === 0 ? <p class="quiet">Nothing of late.</p> : (
        <ol class="map-happened">
          {rows.map((row) => (
            <li key={row.number}>
              <a href={href("timeline", { row: `${row.number}` })}>{row.number}</a> <span class="quiet">{row.kind}</span> <Name>{`${row.name} ${row.words}`}</Name>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}
