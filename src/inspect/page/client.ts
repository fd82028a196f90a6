/** Whom the page asks: a machine behind its server, or a recording or answers that came with it. */
import type { PageData } from "../report/index.js";
import { HttpClient } from "./http-client.js";
import { RecordingClient } from "./recording-client.js";
import { StaticClient } from "./static-client.js";
import type { ViewClient } from "./views/view.js";

export interface Client extends ViewClient {
  /** Calls `listener` when the machine has news, and `onState` when it is reached and when it is no more. @returns ends it */
  onNews?(listener: () => void, onState: (connected: boolean) => void): () => void;
  /** Of a recording: calls `listener` when another row is shown. @returns ends it */
  onMoved?(listener: () => void): () => void;
}

declare global {
  /** What data.js beside the page has. */
  var VIOMMU_DATA: PageData | undefined;
}

/** @throws where a recording cannot be read */
export async function openClient(): Promise<Client> {
  const data = globalThis.VIOMMU_DATA;
  if (data === undefined) {
    return new HttpClient();
  }
  const kept = new StaticClient(data);
  return data.recording === undefined ? kept : RecordingClient.open(Uint8Array.from(atob(data.recording), (byte) => byte.charCodeAt(0)), kept);
}
