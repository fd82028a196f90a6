/** Lines between rows of trees that stand side by side. Nothing is said by them alone: the rows and the details say it in words. */
import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import type { MapLink } from "./map-model.js";

interface Line {
  readonly link: MapLink;
  readonly path: string;
}

/** A row's edges and its middle, in the picture. */
interface Place {
  readonly left: number;
  readonly right: number;
  readonly y: number;
  readonly isSeen: boolean;
}

export function Links({ box, links, joined, version }: {
  readonly box: RefObject<HTMLDivElement | null>;
  readonly links: readonly MapLink[];
  /** Those that stand out. */
  readonly joined: ReadonlySet<MapLink>;
  /** Changes when rows move. */
  readonly version: unknown;
}) {
  const [drawn, setDrawn] = useState<{ readonly lines: readonly Line[]; readonly width: number; readonly height: number }>({ lines: [], width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) {
      return;
    }
    const draw = (): void => {
      const around = element.getBoundingClientRect();
      const places = new Map<string, Place>();
      for (const pane of element.querySelectorAll<HTMLElement>(".map-tree")) {
        const { top, bottom } = pane.getBoundingClientRect();
        for (const row of pane.querySelectorAll<HTMLElement>("[data-key]")) {
          const place = row.getBoundingClientRect();
          const middle = (place.top + place.bottom) / 2;
          const y = Math.min(Math.max(middle, top + 28), bottom);
          places.set(row.dataset.key!, { left: place.left - around.left, right: place.right - around.left, y: y - around.top, isSeen: y === middle });
        }
      }
      const lines = links.flatMap((link): Line[] => {
        const from = places.get(link.from);
        const to = places.get(link.to);
        // Trees one below the other have no room between them; of those that stand out the end that is out of sight is at its tree's edge.
        if (from === undefined || to === undefined || to.left < from.right || !(joined.has(link) ? from.isSeen || to.isSeen : from.isSeen && to.isSeen)) {
          return [];
        }
        const bend = Math.min((to.left - from.right) / 2, 60);
        return [{ link, path: `M${from.right} ${from.y}C${from.right + bend} ${from.y} ${to.left - bend} ${to.y} ${to.left} ${to.y}` }];
      });
      setDrawn({ lines, width: around.width, height: around.height });
    };
    let frame = 0;
    const soon = (): void => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(draw);
    };
    draw();
    const observer = new ResizeObserver(soon);
    observer.observe(element);
    // Trees scroll each by itself.
    element.addEventListener("scroll", soon, { capture: true, passive: true });
    return () => {
      cancelAnimationFrame(frame);
      observer.disconnect();
      element.removeEventListener("scroll", soon, { capture: true });
    };
  }, [links, joined, version]);
  return (
    <svg class="map-links" width={drawn.width} height={drawn.height} aria-hidden="true">
      {drawn.lines.filter(({ link }) => !joined.has(link)).map(({ link, path }) => <path key={`${link.from} ${link.to}`} d={path} class={`link link-${link.what}`} />)}
      {drawn.lines.filter(({ link }) => joined.has(link)).map(({ link, path }) => <path key={`${link.from} ${link.to}`} d={path} class={`link link-${link.what} link-joined`} />)}
    </svg>
  );
}
