/** The page: its head, the views by name, and what all of them are given. */
import { signal, useSignal, useSignalEffect } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { LessonReport, MapReport } from "../report/index.js";
import type { Client } from "./client.js";
import { Lesson } from "./lesson.js";
import { hashOf, routeOf } from "./route.js";
import { CachesView, NumbersView, QueuesView, RecordingBar, TimelineView, WalkView, type Query, type ViewProps } from "./views/index.js";
import { MapView } from "./views/map.js";
import { Name, Problem } from "./views/parts.js";

interface View {
  readonly name: string;
  readonly title: string;
  readonly show: ComponentType<ViewProps>;
  /** It is of a machine: a host alone has no such view. */
  readonly ofMachine: boolean;
}

/** All views, in the order of their links. */
const VIEWS: readonly View[] = [
  { name: "map", title: "Map", show: MapView, ofMachine: false },
  { name: "walk", title: "Walk", show: WalkView, ofMachine: true },
  { name: "caches", title: "Caches", show: CachesView, ofMachine: true },
  { name: "queues", title: "Queues", show: QueuesView, ofMachine: true },
  { name: "timeline", title: "Time line", show: TimelineView, ofMachine: true },
  { name: "numbers", title: "Numbers", show: NumbersView, ofMachine: true },
];

const route = signal(routeOf(location.hash));
addEventListener("hashchange", () => (route.value = routeOf(location.hash)));

function go(view: string, query: Query, replace = false): void {
  const hash = hashOf(view, query);
  if (hash === location.hash) {
    return;
  }
  if (replace) {
    history.replaceState(null, "", hash);
    route.value = routeOf(hash);
  } else {
    location.hash = hash;
  }
}

export function App({ client }: { readonly client: Client }) {
  const map = useSignal<MapReport | null>(null);
  const lesson = useSignal<LessonReport | null>(null);
  const problem = useSignal<string | null>(null);
  const moment = useSignal(0);
  const connected = useSignal(true);
  const follow = useSignal(client.live);

  useSignalEffect(() => {
    void moment.value;
    client.ask("x-viommu-map", {}).then(
      (answer) => {
        map.value = answer;
        problem.value = null;
      },
      (error: Error) => (problem.value = error.message),
    );
  });
  useEffect(() => client.onMoved?.(() => moment.value++), [client]);
  useSignalEffect(() => (follow.value ? client.onNews?.(() => moment.value++, (is) => (connected.value = is)) : undefined));

  useEffect(() => {
    // Most machines have none.
    client.ask("x-viommu-lesson", {}).then((answer) => (lesson.value = answer), () => {});
  }, [client]);

  const main = useRef<HTMLElement>(null);
  const shown = useRef<string | null>(null);
  const view = VIEWS.find(({ name }) => name === route.value.view);
  useEffect(() => {
    document.title = `${view?.title ?? "viommu"}: ${titleOf(map.value)}`;
    // Who goes to another view by key is told of it; the first one takes no focus away.
    if (shown.current !== null && shown.current !== (view?.name ?? "")) {
      main.current?.focus();
    }
    shown.current = view?.name ?? "";
  }, [view, map.value]);
  useEffect(() => {
    if (route.value.view === "") {
      go("map", {}, true);
    }
  }, [route.value]);

  const views = VIEWS.filter(({ ofMachine }) => !ofMachine || map.value === null || map.value.machine !== null);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the view</a>
      <header class="head">
        <h1><Name>{titleOf(map.value)}</Name></h1>
        <nav aria-label="Views">
          {views.map(({ name, title }) => (
            <a key={name} href={hashOf(name, {})} aria-current={view?.name === name ? "page" : undefined}>{title}</a>
          ))}
        </nav>
        <div class="head-tools">
          {client.onNews !== undefined && (
            <label class="follow" title="Ask anew while the machine goes on"><input type="checkbox" checked={follow.value} onChange={(event) => (follow.value = event.currentTarget.checked)} /> Follow</label>
          )}
          {client.live
            ? <button type="button" onClick={() => moment.value++}>Ask again</button>
            : <span class="quiet">{client.recording === null ? "a copy, as it was" : "a recording"}</span>}
        </div>
      </header>
      {!connected.value && <p role="status" class="gone"><span aria-hidden="true">✕ </span>The machine has ended, or its inspector has: what is shown is the last of it.</p>}
      {client.recording !== null && <RecordingBar recording={client.recording} />}
      <div class={lesson.value === null ? undefined : "with-lesson"}>
        {lesson.value !== null && <Lesson lesson={lesson.value} />}
        <main id="main" tabIndex={-1} ref={main} aria-label={view?.title ?? "View"}>
          {problem.value !== null && <Problem>{problem.value}</Problem>}
          {view === undefined
            ? route.value.view !== "" && <p class="empty">There is no view “<Name>{route.value.view}</Name>”. <a href={hashOf("map", {})}>Go to the map</a>.</p>
            : <view.show client={client} query={route.value.query} href={hashOf} go={go} map={map.value} moment={moment.value} />}
        </main>
      </div>
    </>
  );
}

function titleOf(map: MapReport | null): string {
  return map === null ? "viommu" : (map.machine?.name ?? map.machine?.type ?? map.host.description);
}
