/** A row of the map's trees: what it is, by which number, and how it stands. */
import type { ComponentChildren } from "preact";
import type { TableReport } from "../../report/index.js";
import { Name, Sign } from "./parts.js";
import { architectureOf, hexOf, type MapModel, type MapNode, tableName } from "./map-model.js";

export function MapRow({ node, model }: { readonly node: MapNode; readonly model: MapModel }) {
  const { thing } = node;
  switch (thing.kind) {
    case "bus":
      return <Row kind="bus" name={thing.bus.id} code={`bus ${hexOf(thing.bus.number, 2)}`}>{thing.bus.bypassIommu ? "bypasses the IOMMU" : null}</Row>;
    case "iommu": {
      const { iommu } = thing;
      return <Row kind={architectureOf(iommu) === "vtd" ? "VT-d" : "SMMU"} name={iommu.id} code="" strong>{iommu.accel ? "covers " : "in software, covers "}<Name>{iommu.bus}</Name></Row>;
    }
    case "function": {
      const { fn, placed, buses } = thing;
      const code = fn.streamId === null ? fn.bdf : `${fn.bdf} ${hexOf(fn.streamId)}`;
      if (buses.length > 0) {
        return <Row kind={placed.model.startsWith("pxb") ? "expander" : "bridge"} name={fn.function} code={fn.bdf}>{buses.map(({ number }) => (number === 0 && placed.secondaryBuses.length > 0 ? "no bus yet" : `bus ${hexOf(number, 2)}`)).join(", ")}</Row>;
      }
      const [first, ...more] = model.attachmentsOf(fn.function);
      return (
        <Row kind="" name={fn.function} code={code} strong={fn.host !== null} label={fn.label}>
          {first !== undefined && fn.host !== null && <Stands table={first.table} />}
          {more.length > 0 && ` and ${more.length} PASID${more.length === 1 ? "" : "s"}`}
          {fn.host === null && <span class="quiet">emulated</span>}
        </Row>
      );
    }
    case "other":
      return <Row kind="" name={thing.id === "" ? thing.model : thing.id} code=""><Name>{thing.model}</Name></Row>;
    case "iommufd":
      return <Row kind="" name={thing.id} code="" strong>{null}</Row>;
    case "table":
      return <Row kind="" name={tableName(thing.table)} code="" strong={thing.table.kind === "viommu"}><Name>{sayOf(thing.table)}</Name></Row>;
    case "host-iommu":
      return <Row kind={{ smmuv3: "SMMUv3", vtd: "VT-d", amd: "AMD-Vi", unknown: "IOMMU" }[thing.iommu.architecture]} name={thing.iommu.id} code="" strong>{null}</Row>;
    case "host-port":
      return <Row kind="port" name={thing.address} code="">{thing.fn === null ? null : <Name>{thing.fn.label}</Name>}</Row>;
    case "host-function": {
      const inside = model.inMachine(thing.fn.address);
      return (
        <Row kind="" name={thing.fn.address} code="" strong={inside !== null} label={thing.fn.label}>
          {inside === null ? <span class="quiet">{thing.fn.driver === "" ? "no driver" : thing.fn.driver}</span> : <Sign kind="good">is <Name>{inside.function}</Name></Sign>}
        </Row>
      );
    }
    case "host-rest":
      return <Row kind="" name="behind no IOMMU" code="">{null}</Row>;
  }
}

function Row({ kind, name, code, label, strong = false, children }: { readonly kind: string; readonly name: string; readonly code: string; readonly label?: string; readonly strong?: boolean; readonly children: ComponentChildren }) {
  return (
    <span class="map-row">
      {kind !== "" && <span class="map-kind">{kind}</span>}
      <span class={strong ? "map-name map-strong" : "map-name"}><Name>{name}</Name></span>
      {code !== "" && <code class="map-code">{code}</code>}
      {label !== undefined && label !== "" && <span class="map-label" title={label}><Name>{label}</Name></span>}
      <span class="map-says">{children}</span>
    </span>
  );
}

/** What of a table tells it from others like it, in a word. */
function sayOf({ kind, what, iommu }: TableReport): string {
  return kind === "viommu" ? (iommu ?? "") : kind === "ioas" ? "" : kind === "vdevice" ? (what ?? "").replace(/^vSID /, "") : (what ?? "");
}

/** How a function stands, by a sign and a word. */
export function Stands({ table }: { readonly table: string }) {
  const kind = table === "nested" ? "good" : table === "blocked" || table === "abort" ? "bad" : "quiet";
  return <Sign kind={kind}>{table}</Sign>;
}
