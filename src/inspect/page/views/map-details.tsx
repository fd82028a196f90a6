/** What is chosen on the map: its properties, what it is attached to and why, its registers, what has happened to it. */
import type { ComponentChildren } from "preact";
import type { MapReport } from "../../report/index.js";
import { Happened } from "./map-happened.js";
import { addressOf, architectureOf, deviceId, hexOf, type MapModel, type MapNode, streamWord, tableName, type Thing } from "./map-model.js";
import { Registers } from "./map-registers.js";
import { Stands } from "./map-row.js";
import { Hex, Name } from "./parts.js";
import type { ViewProps } from "./view.js";

export interface DetailsProps extends Pick<ViewProps, "client" | "moment" | "href"> {
  readonly node: MapNode;
  readonly model: MapModel;
  readonly map: MapReport;
  onSelect(node: MapNode): void;
}

type Of<K extends Thing["kind"]> = DetailsProps & { readonly thing: Extract<Thing, { kind: K }> };

export function Details(props: DetailsProps) {
  const { thing } = props.node;
  switch (thing.kind) {
    case "function":
      return <FunctionDetails {...props} thing={thing} />;
    case "iommu":
      return <IommuDetails {...props} thing={thing} />;
    case "bus":
      return <Head title={thing.bus.id} kind="bus of the machine"><Pairs of={busPairs(props, thing)} /></Head>;
    case "table":
      return <TableDetails {...props} thing={thing} />;
    case "iommufd":
      return (
        <Head title={thing.id} kind="a context of iommufd">
          <p class="quiet">An open /dev/iommu: the host's kernel keeps address spaces, page tables and virtual IOMMUs in it.</p>
          <Pairs of={[["Objects", `${props.map.tables.filter(({ iommufd }) => iommufd === thing.id).length}`], ["Functions", <Joined {...props} keys={props.map.functions.filter(({ iommufd }) => iommufd === thing.id).map(({ function: name }) => `function:${name}`)} />]]} />
        </Head>
      );
    case "host-iommu":
      return <HostIommuDetails {...props} thing={thing} />;
    case "host-function":
      return <HostFunctionDetails {...props} thing={thing} />;
    case "host-port":
      return <Head title={thing.address} kind="port of the host">{thing.fn !== null && <Pairs of={[["Is", <Name>{thing.fn.label}</Name>], ["Vendor and device", <code>{deviceId(thing.fn)}</code>], ["Driver", <Name>{thing.fn.driver || "none"}</Name>]]} />}</Head>;
    case "other":
      return <Head title={thing.id === "" ? thing.model : thing.id} kind="device of the machine"><Pairs of={[["Model", <Name>{thing.model}</Name>], ["Modelled", "no: it has its place, and nothing behind it"]]} /></Head>;
    case "host-rest":
      return <Head title="Behind no IOMMU" kind="functions of the host"><p>What they do goes to memory untranslated: none of them can be passed through by iommufd.</p></Head>;
  }
}

function Head({ title, kind, links, children }: { readonly title: string; readonly kind: string; readonly links?: ComponentChildren; readonly children?: ComponentChildren }) {
  return (
    <div class="vw-view">
      <div>
        <h2><Name>{title}</Name></h2>
        <p class="quiet"><Name>{kind}</Name></p>
        {links !== undefined && <p class="vw-links">{links}</p>}
      </div>
      {children}
    </div>
  );
}

type Pair = readonly [string, ComponentChildren] | null;

function Pairs({ of }: { readonly of: readonly Pair[] }) {
  return <dl class="vw-pairs">{of.map((pair) => pair !== null && <><dt>{pair[0]}</dt><dd>{pair[1]}</dd></>)}</dl>;
}

/** Nodes that can be gone to; what is not on the map stands as it is called. */
function Joined({ keys, model, onSelect, href }: Pick<DetailsProps, "model" | "onSelect" | "href"> & { readonly keys: readonly string[] }) {
  return keys.length === 0 ? <>none</> : <>{keys.map((key, at) => {
    const node = model.byKey.get(key);
    return (
      <>
        {at > 0 && ", "}
        {node === undefined
          ? <Name>{key.slice(key.indexOf(":") + 1)}</Name>
          : <a key={key} href={href("map", { select: addressOf(model, node) })} onClick={(event) => { event.preventDefault(); onSelect(node); }}><Name>{node.name}</Name></a>}
      </>
    );
  })}</>;
}

function busPairs(props: DetailsProps, { bus, iommu }: Extract<Thing, { kind: "bus" }>): Pair[] {
  return [
    ["Number", <code>{hexOf(bus.number, 2)}</code>],
    ["IOMMU", iommu === null ? (bus.bypassIommu ? "none: its functions bypass" : "none of its own") : <Joined {...props} keys={[`iommu:${iommu.id}`]} />],
    bus.numaNode === null ? null : ["NUMA node", `${bus.numaNode}`],
    bus.bridge === null ? null : ["Behind", <code>{bus.bridge}</code>],
  ];
}

function FunctionDetails(props: Of<"function">) {
  const { thing: { fn, placed, buses }, model, map, href } = props;
  const iommu = map.machine?.iommus.find(({ id }) => id === fn.iommu) ?? null;
  const attachments = model.attachmentsOf(fn.function);
  const tables = (id: number | null): string[] => (id === null || fn.iommufd === null ? [] : [`table:${fn.iommufd}/${id}`]);
  return (
    <Head title={fn.function} kind={`${fn.label}${fn.label === "" ? "" : ", "}${placed.model}`}
      links={<><a href={href("walk", { function: fn.function })}>Walk</a><a href={href("caches", { function: fn.function })}>Caches</a><a href={href("timeline", { function: fn.function })}>Time line</a></>}>
      {attachments.length > 0 && (
        <section>
          <h3>Attached to</h3>
          <ul class="map-attached">
            {attachments.map((one) => (
              <li key={`${one.pasid}`}>
                <span class="map-attached-head">{one.pasid !== null && <span>PASID <code>{hexOf(one.pasid)}</code></span>} <Stands table={one.table} /> {one.hwpt !== null && <Joined {...props} keys={tables(one.hwpt)} />}</span>
                <span class="map-why"><Name>{one.reason}</Name></span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <Pairs of={[
        ["Address", <code>{fn.bdf}</code>],
        ["Bus", <Name>{placed.bus}</Name>],
        ...buses.map((bus): Pair => ["Behind it", <>bus <code>{hexOf(bus.number, 2)}</code>{bus.iommu !== null && <>, covered by <Joined {...props} keys={[`iommu:${bus.iommu}`]} /></>}{bus.numaNode !== null && `, NUMA node ${bus.numaNode}`}</>]),
        ["IOMMU", fn.iommu === null ? "none covers it" : <Joined {...props} keys={[`iommu:${fn.iommu}`]} />],
        [iommu !== null && architectureOf(iommu) === "vtd" ? "Source id" : "StreamID", fn.streamId === null ? (fn.iommu === null ? "none" : "none yet: its bus has no number") : <Hex>{hexOf(fn.streamId)}</Hex>],
        ["Vendor and device", <code>{deviceId(fn)}</code>],
        ["Class", <code>{hexOf(fn.classCode, 6)}</code>],
        ["ATS, PASID", `${fn.ats ? "yes" : "no"}, ${fn.pasid ? "yes" : "no"}`],
        fn.host === null ? ["Passed through", "no: it is emulated"] : ["On the host", <Joined {...props} keys={[`host:${fn.host}`]} />],
        fn.iommufd === null ? null : ["iommufd", <Joined {...props} keys={[`iommufd:${fn.iommufd}`]} />],
        fn.ioas === null ? null : ["Address space", <Joined {...props} keys={tables(fn.ioas)} />],
        fn.parentHwpt === null ? null : ["Parent table", <Joined {...props} keys={tables(fn.parentHwpt)} />],
        fn.vdevice === null ? null : ["vDEVICE", <Joined {...props} keys={tables(fn.vdevice)} />],
      ]} />
      <Happened {...props} iommu={null} function={fn.function} />
    </Head>
  );
}

function IommuDetails(props: Of<"iommu">) {
  const { thing: { iommu }, map, href } = props;
  const architecture = architectureOf(iommu);
  return (
    <Head title={iommu.id} kind={`${architecture === "vtd" ? "Intel VT-d" : iommu.legacy ? "Arm SMMUv3 of the machine" : "Arm SMMUv3"}, ${iommu.accel ? "translation by the host's hardware" : "translation in software"}`}
      links={<><a href={href("queues", { iommu: iommu.id })}>Queues</a><a href={href("caches", { iommu: iommu.id })}>Caches</a><a href={href("timeline", { iommu: iommu.id })}>Time line</a></>}>
      <Pairs of={[
        ["Covers", <Name>{iommu.bus}</Name>],
        ["Served by", iommu.hostIommu === null ? (iommu.accel ? "no IOMMU of the host yet" : "the model alone") : <Joined {...props} keys={[`host-iommu:${iommu.hostIommu}`]} />],
        ["Objects", <Joined {...props} keys={map.tables.filter((table) => table.iommu === iommu.id && table.kind === "viommu").map((table) => `table:${table.iommufd}/${table.id}`)} />],
        ["Functions", <Joined {...props} keys={map.functions.filter((fn) => fn.iommu === iommu.id && fn.classCode >>> 8 !== 0x0604).map(({ function: name }) => `function:${name}`)} />],
        ["Registers at", <Hex>{iommu.base}</Hex>],
        ["Interrupts", iommu.interrupts.length === 0 ? "by messages" : iommu.interrupts.join(", ")],
        ["Offers", <Name>{Object.entries(iommu.features).map(([name, value]) => `${name} ${value === true ? "on" : value === false ? "off" : value}`).join(", ")}</Name>],
      ]} />
      <Registers {...props} iommu={iommu.id} />
      <Happened {...props} iommu={iommu.id} function={null} />
    </Head>
  );
}

const TABLES: Readonly<Record<string, string>> = {
  ioas: "I/O address space: which memory of the machine is where, for all page tables made of it.",
  "hwpt-paging": "A page table of the host's kernel: the second stage, guest-physical to host-physical.",
  "hwpt-nested": "A table of the guest (or bypass, or abort in its place), nested in the second stage below it.",
  viommu: "An IOMMU of the machine as the kernel knows it: what the guest invalidates goes to it.",
  vdevice: "A function as the guest numbers it: the kernel turns its number into the host's.",
  veventq: "Where the hardware's events for the guest come from.",
  "fault-queue": "Where page requests of functions come from.",
};

function TableDetails(props: Of<"table">) {
  const { thing: { table }, map } = props;
  const attached = map.attachments.filter(({ hwpt, function: name }) => hwpt === table.id && map.functions.some((fn) => fn.function === name && fn.iommufd === table.iommufd));
  return (
    <Head title={tableName(table)} kind={`${table.kind} of ${table.iommufd}`}>
      <p class="quiet">{TABLES[table.kind] ?? ""}</p>
      <Pairs of={[
        table.what === null ? null : ["Is", <Name>{table.what}</Name>],
        table.on === null ? null : ["Made on", <Joined {...props} keys={[`table:${table.iommufd}/${table.on}`]} />],
        ["For", table.iommu === null ? "several IOMMUs, or none" : <Joined {...props} keys={[`iommu:${table.iommu}`]} />],
        /hwpt/.test(table.kind) ? ["Attached", attached.length === 0 ? "no function" : <>{attached.map((one, at) => <>{at > 0 && ", "}<Joined {...props} keys={[`function:${one.function}`]} />{one.pasid !== null && ` PASID ${hexOf(one.pasid)}`}</>)}</>] : null,
      ]} />
    </Head>
  );
}

function HostIommuDetails(props: Of<"host-iommu">) {
  const { thing: { iommu }, map } = props;
  const architecture = { smmuv3: "Arm SMMUv3", vtd: "Intel VT-d", amd: "AMD-Vi", unknown: "IOMMU of no known architecture" }[iommu.architecture];
  const features = Object.entries(iommu.features);
  return (
    <Head title={iommu.id} kind={`${architecture} of the host`}>
      <Pairs of={[
        ["Serves", <Joined {...props} keys={(map.machine?.iommus ?? []).filter(({ hostIommu }) => hostIommu === iommu.id).map(({ id }) => `iommu:${id}`)} />],
        iommu.numaNode === null ? null : ["NUMA node", `${iommu.numaNode}`],
        ["Functions", `${map.host.functions.filter((fn) => fn.iommu === iommu.id).length}`],
        iommu.errata.length === 0 ? null : ["Errata", <Name>{iommu.errata.join(", ")}</Name>],
      ]} />
      {features.length > 0 && <section><h3>Offers</h3><Pairs of={features.map(([name, value]): Pair => [name, <Name>{value}</Name>])} /></section>}
      {map.machine !== null && iommu.architecture !== "unknown" && iommu.architecture !== "amd" && <Registers {...props} iommu={iommu.id} />}
    </Head>
  );
}

function HostFunctionDetails(props: Of<"host-function">) {
  const { thing: { fn }, model, map } = props;
  const inside = model.inMachine(fn.address);
  const group = fn.group === null ? [] : map.host.functions.filter((one) => one.group === fn.group && one.address !== fn.address);
  const architecture = map.host.iommus.find(({ id }) => id === fn.iommu)?.architecture ?? null;
  const requester = /^(?:[0-9a-f]+:)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i.exec(fn.address);
  return (
    <Head title={fn.address} kind={`${fn.label === "" ? "function" : fn.label}, on the host`}>
      <Pairs of={[
        ["In the machine", inside === null ? "no" : <Joined {...props} keys={[`function:${inside.function}`]} />],
        ["IOMMU", fn.iommu === null ? "none" : <Joined {...props} keys={[`host-iommu:${fn.iommu}`]} />],
        requester === null || fn.iommu === null ? null : [`Requester id`, <><Hex>{hexOf((Number.parseInt(requester[1], 16) << 8) | (Number.parseInt(requester[2], 16) << 3) | Number(requester[3]))}</Hex> <span class="quiet">({streamWord(architecture)}s are made of it)</span></>],
        ["Driver", <Name>{fn.driver === "" ? "none" : fn.driver}</Name>],
        ["Vendor and device", <code>{deviceId(fn)}</code>],
        ["Class", <code>{hexOf(fn.classCode, 6)}</code>],
        fn.group === null ? null : ["IOMMU group", <>{fn.group}{group.length > 0 && <>, with <Joined {...props} keys={group.map(({ address }) => `host:${address}`)} /></>}</>],
        fn.numaNode === null ? null : ["NUMA node", `${fn.numaNode}`],
        fn.upstream.length === 0 ? null : ["Behind ports", <code>{fn.upstream.join(" → ")}</code>],
      ]} />
      {fn.reserved.length > 0 && (
        <section>
          <h3>Windows that are not translated</h3>
          <table class="vw-fields"><thead><tr><th scope="col">From</th><th scope="col">Bytes</th><th scope="col">Kind</th></tr></thead>
            <tbody>{fn.reserved.map(({ base, size, kind }) => <tr key={base}><td><Hex>{base}</Hex></td><td><Hex>{size}</Hex></td><td><Name>{kind}</Name></td></tr>)}</tbody></table>
        </section>
      )}
    </Head>
  );
}
