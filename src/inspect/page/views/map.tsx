/** Who is behind what. */
import { Name } from "./parts.js";
import type { ViewProps } from "./view.js";

export function MapView({ map }: ViewProps) {
  return (
    <ul>
      {(map?.functions ?? []).map((fn) => <li key={fn.function}><Name>{`${fn.function} ${fn.bdf}`}</Name></li>)}
    </ul>
  );
}
