/** Whom the page asks: a machine behind its server, or data that came with it. */
import type { PageData } from "../report/index.js";
import { HttpClient } from "./http-client.js";
import { StaticClient } from "./static-client.js";
import type { ViewClient } from "./views/view.js";

export interface Client extends ViewClient {
  /** Calls `listener` when the machine has news, and `onState` when it is reached and when it is no more. @returns ends it */
  onNews?(listener: () => void, onState: (connected: boolean) => void): () => void;
}

declare global {
  /** What data.js beside the page has. */
  var VIOMMU_DATA: PageData | undefined;
}

export function openClient(): Client {
  return globalThis.VIOMMU_DATA === undefined ? new HttpClient() : new StaticClient(globalThis.VIOMMU_DATA);
}
