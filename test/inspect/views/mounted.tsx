/** The views by themselves, with answers made by hand: what they show of things that no small machine has. */
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CachesView, NumbersView, QueuesView, RecordingBar, TimelineView, WalkView, type Query, type Questions, type ViewClient, type ViewProps } from "../../../src/inspect/page/views/index.js";
import { caches, map, nestedWalk, numbers, queues, timelineRows, vtdWalk } from "./fixtures.js";

const options = new URLSearchParams(location.search);
const rows = timelineRows(Number(options.get("rows") ?? 500));
const changed = new Set<() => void>();
let row = Number(options.get("recorded") ?? 0);
let on = true;
let second = 40;

const answers: { [K in keyof Questions]?: (given: Record<string, unknown>) => Questions[K]["answer"] } = {
  "x-viommu-walk": (given) => {
    if (typeof given.pasid === "string") {
      throw new Error(`Invalid parameter type for 'pasid', expected: integer`);
    }
    return given.function === "nvme1" ? vtdWalk() : given.iova === "0xbad" ? nestedWalk(2) : nestedWalk();
  },
  "x-viommu-caches": () => caches(),
  "x-viommu-queues": () => queues,
  "x-viommu-timeline": ({ since, limit }) => {
    const first = rows.findIndex(({ number }) => number > Number(since));
    return { on, rows: first < 0 ? [] : rows.slice(first, first + Number(limit)), last: rows.length, first: 1 };
  },
  "x-viommu-timeline-set": (given) => {
    on = given.on === true;
    return {};
  },
  "x-viommu-numbers": () => numbers(second++),
};

const client: ViewClient = {
  live: row === 0,
  get recording() {
    return row === 0 ? null : { first: 1, last: rows.length, row, at: async (number: number) => {
      row = number;
      changed.forEach((again) => again());
    } };
  },
  numbersOverTime: async () => Array.from({ length: 40 }, (_, at) => numbers(at)),
  ask: async (execute, given) => answers[execute]!(given as Record<string, unknown>),
};

const VIEWS: Readonly<Record<string, (props: ViewProps) => unknown>> = { walk: WalkView, caches: CachesView, queues: QueuesView, timeline: TimelineView, numbers: NumbersView };

function Page() {
  const [, again] = useState(0);
  useEffect(() => {
    const redraw = (): void => again((before) => before + 1);
    addEventListener("hashchange", redraw);
    changed.add(redraw);
  }, []);
  const [view, rest] = location.hash.slice(1).split("?");
  const href = (to: string, query: Query): string => `#${to}?${new URLSearchParams(query as Record<string, string>)}`;
  const go = (to: string, query: Query, replace?: boolean): void => {
    if (replace) {
      history.replaceState(null, "", href(to, query));
      changed.forEach((redraw) => redraw());
    } else {
      location.hash = href(to, query);
    }
  };
  const View = VIEWS[view] as (props: ViewProps) => preact.JSX.Element;
  return (
    <main>
      <h1>{view}</h1>
      {client.recording !== null && <RecordingBar recording={client.recording} />}
      <View key={view} client={client} query={Object.fromEntries(new URLSearchParams(rest ?? ""))} href={href} go={go} map={map} moment={row} />
    </main>
  );
}

render(<Page />, document.body);
