/** Who is behind what: the machine's tree, the objects of iommufd, the host's tree, and what joins them. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Details } from "./map-details.js";
import { Links } from "./map-links.js";
import { addressOf, found, modelOf, type MapModel, type MapNode, waysThrough } from "./map-model.js";
import { MapRow } from "./map-row.js";
import { Unknown } from "./parts.js";
import { Tree } from "./tree.js";
import type { ViewProps } from "./view.js";

export function MapView(props: ViewProps) {
  const { map } = props;
  const model = useMemo(() => (map === null ? null : modelOf(map)), [map]);
  return model === null ? <p class="empty">The map is asked for…</p> : <Map3 {...props} map={map!} model={model} />;
}

function Map3({ map, model, query, go, href, client, moment }: ViewProps & { readonly map: NonNullable<ViewProps["map"]>; readonly model: MapModel }) {
  const box = useRef<HTMLDivElement>(null);
  const [closed, setClosed] = useState<ReadonlySet<string>>(() => apart(model));
  const selected = found(model, query.select);
  const joined = useMemo(() => new Set(selected === null ? [] : waysThrough(model.links, selected.key)), [model, selected?.key]);
  const rows = useMemo(() => new Set([...joined].flatMap(({ from, to }) => [from, to])), [joined]);
  const select = (node: MapNode): void => go("map", { ...query, select: addressOf(model, node) }, true);
  useEffect(() => {
    if (selected !== null) {
      const ways = [...model.byKey.values()].filter((node) => closed.has(node.key) && contains(node, selected.key)).map(({ key }) => key);
      if (ways.length > 0) {
        setClosed(new Set([...closed].filter((key) => !ways.includes(key))));
      }
      // In each tree what belongs to it is seen.
      for (const tree of box.current?.querySelectorAll(".map-tree") ?? []) {
        (tree.querySelector(".tree-selected") ?? tree.querySelector(".tree-joined"))?.scrollIntoView({ block: "nearest" });
      }
    }
  }, [selected?.key]);
  const trees = [
    { title: "Machine", about: map.machine === null ? "" : `${map.machine.type}, ${map.machine.cpus} CPUs`, nodes: model.machine, class: "map-machine" },
    { title: "iommufd", about: "", nodes: model.objects, class: "map-objects" },
    { title: "Host", about: map.host.kernel === null ? map.host.description : `${map.host.description}, Linux ${map.host.kernel}`, nodes: model.host, class: "map-host" },
  ].filter(({ nodes }) => nodes.length > 0);
  return (
    <div class={`map${selected === null ? "" : " map-chosen"}`}>
      <div class={`map-trees map-trees-${trees.length}`} ref={box}>
        <Links box={box} links={model.links} joined={joined} version={closed} />
        {trees.map(({ title, about, nodes, class: name }) => (
          <section key={title} class={`map-tree ${name}`} aria-label={title}>
            <h2>{title} <span class="quiet"><bdi>{about}</bdi></span></h2>
            <Tree label={title} nodes={nodes} closed={closed} selected={selected?.key ?? null} joined={rows} onSelect={select} row={(node) => <MapRow node={node} model={model} />}
              onClose={(key, close) => setClosed(close ? new Set([...closed, key]) : new Set([...closed].filter((one) => one !== key)))} />
          </section>
        ))}
      </div>
      <aside class="map-details" aria-label="Details">
        {selected === null
          ? <div class="map-hint">
              <h2>{query.select ? <>There is no <bdi>{query.select}</bdi> here</> : "Nothing is chosen"}</h2>
              <p class="quiet">Choose a function, an IOMMU or a table: what it is, what it is attached to and why, its registers, and what has happened to it.</p>
              <Legend has={model.links.length > 0} />
              <Unknown lines={map.host.unknown} />
            </div>
          : <Details key={selected.key} node={selected} model={model} map={map} client={client} moment={moment} href={href} onSelect={select} />}
      </aside>
    </div>
  );
}

/** IOMMUs of the host that have nothing to do with the machine are closed. */
function apart({ machine, host, inMachine }: MapModel): ReadonlySet<string> {
  const serves = (node: MapNode): boolean => (node.thing.kind === "host-function" && inMachine(node.thing.fn.address) !== null) || node.children.some(serves);
  return new Set(machine.length === 0 ? [] : host.filter((node) => !serves(node)).map(({ key }) => key));
}

function contains(node: MapNode, key: string): boolean {
  return node.children.some((child) => child.key === key || contains(child, key));
}

const LINES: readonly (readonly [string, string])[] = [["nested", "a table of the guest, nested in the host's"], ["bypass", "no first stage: the host's alone"], ["blocked", "blocked, or aborted: nothing goes through"], ["serves", "which IOMMU serves which"]];

function Legend({ has }: { readonly has: boolean }) {
  return has ? (
    <dl class="map-legend">
      {LINES.map(([what, words]) => (
        <div key={what}>
          <dt><svg width="44" height="10" aria-hidden="true"><path d="M1 5H43" class={`link link-${what}`} /></svg><span class="vw-hidden">{what}</span></dt>
          <dd>{words}</dd>
        </div>
      ))}
    </dl>
  ) : null;
}
