/** What the address says behind its #: a view and what it shows, so that each state of the page can be linked. */
import { tidy, type Query } from "./views/view.js";

export interface Route {
  readonly view: string;
  readonly query: Query;
}

/** `#/walk?function=gpu0&iova=0x1000`; anything else is no view. */
export function routeOf(hash: string): Route {
  const [, view = "", search = ""] = /^#\/?([\w-]*)(?:\?(.*))?$/s.exec(hash) ?? [];
  return { view, query: Object.fromEntries(new URLSearchParams(search)) };
}

export function hashOf(view: string, query: Query): string {
  // Colons and slashes are legal behind a ?, and addresses of functions are to be read.
  const search = new URLSearchParams(tidy(query)).toString().replaceAll("%3A", ":").replaceAll("%2F", "/");
  return `#/${view}${search === "" ? "" : `?${search}`}`;
}
