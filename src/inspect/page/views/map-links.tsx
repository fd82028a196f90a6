/** Lines between rows of trees that stand side by side. Nothing is said by them alone: the rows and the details say it in words. */
import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import type { MapLink } from "./map-model.js";

interface Line {
  readonly link: MapLink;
  readonly path: string;
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
      const rows = new Map([...element.querySelectorAll<HTMLElement>("[data-key]")].map((row) => [row.dataset.key!, row.getBoundingClientRect()]));
      const lines = links.flatMap((link): Line[] => {
        const from = rows.get(link.from);
        const to = rows.get(link.to);
        // Trees one below the other have no room between them.
        if (from === undefined || to === undefined || to.left < from.right) {
          return [];
        }
        const [x1, y1, x2, y2] = [from.right - around.left, (from.top + from.bottom) / 2 - around.top, to.left - around.left, (to.top + to.bottom) / 2 - around.top];
        const bend = Math.min((x2 - x1) / 2, 60);
        return [{ link, path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }];
      });
      setDrawn({ lines, width: around.width, height: around.height });
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [links, version]);
  return (
    <svg class="map-links" width={drawn.width} height={drawn.height} aria-hidden="true">
      {drawn.lines.filter(({ link }) => !joined.has(link)).map(({ link, path }) => <path key={`${link.from} ${link.to}`} d={path} class={`link link-${link.what}`} />)}
      {drawn.lines.filter(({ link }) => joined.has(link)).map(({ link, path }) => <path key={`${link.from} ${link.to}`} d={path} class={`link link-${link.what} link-joined`} />)}
    </svg>
  );
}
