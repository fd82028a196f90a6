/** A guest on a machine of another process: QEMU, or viommu itself, behind its qtest socket. */
import { type ByteStream, type ChardevSpec, openChardev } from "../chardev/index.js";
import type { QmpClient, QmpOperator, RemoteCandidate } from "../remote/index.js";
import type { MachineOperator } from "../port/index.js";
import { QtestClient, type QtestPort } from "../qtest/index.js";
import { Refusal } from "../support/index.js";
import { guestReport, namedEvents } from "./collect.js";
import type { RemoteBoard } from "../guest/choices/index.js";
import type { GuestOptions, GuestReport } from "../guest/index.js";
import type { GuestToRun } from "./guest.js";
import type { RunReport } from "./report/index.js";
import { Said } from "./said.js";

export interface RemoteRequest {
  readonly board: RemoteBoard;
  readonly qtest: ChardevSpec;
  /** Null: nothing is plugged, unplugged or reset. */
  readonly qmp: ChardevSpec | null;
  readonly guest: GuestToRun;
  readonly seed: number;
  readonly firmware: "dt" | "acpi";
  readonly granule: GuestOptions["granule"];
  readonly tolerate?: GuestOptions["tolerate"];
  readonly vtd?: GuestOptions["vtd"];
  readonly kexecs?: GuestOptions["kexecs"];
  /** Called when the sockets listen, with the ports chosen where they are TCP's. */
  readonly onListening?: (ports: { qtest: number | null; qmp: number | null }) => void;
  readonly onProgress?: (text: string) => void;
}

export interface RemoteReport {
  readonly ok: boolean;
  readonly failure: string | null;
  readonly guest: RunReport["guest"];
  readonly events: RunReport["events"];
}

/** Runs the guest. @throws Refusal where there is no machine that it could run on */
export async function runRemoteGuest(request: RemoteRequest): Promise<RemoteReport> {
  const closing: Array<() => void> = [];
  try {
    const qtest = await openSide(request.qtest, closing);
    const qmp = request.qmp === null ? null : await openSide(request.qmp, closing);
    request.onListening?.({ qtest: qtest.port, qmp: qmp?.port ?? null });
    const { QmpClient } = await import("../remote/index.js");
    const client = new QtestClient(await qtest.peer);
    const monitor = qmp === null ? null : new QmpClient(await qmp.peer);
    return await play(request, client, monitor);
  } finally {
    closing.forEach((close) => close());
  }
}

async function play(request: RemoteRequest, client: QtestClient, monitor: QmpClient | null): Promise<RemoteReport> {
  const { guest, seed, granule, firmware, tolerate, vtd, kexecs } = request;
  const said = new Said(request.onProgress);
  let summary: GuestReport | null = null;
  let failure: string | null = null;
  try {
    const { operator, remote, controller, hotplug } = await administer(monitor);
    const port = await openBoard(request, client, remote, controller);
    summary = await guest.run({ port, operator, say: said.say, options: { seed, granule, firmware, hotplug, tolerate, vtd, kexecs, ...(monitor === null ? { noReset: "a reset needs QMP (--qmp)" } : {}) } });
  } catch (error) {
    if (error instanceof Refusal) {
      throw error;
    }
    failure = `the guest ${guest.name} ended with ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`;
  }
  const failed = summary?.steps.filter((step) => !step.ok) ?? [];
  if (failure === null && (failed.length > 0 || summary?.ok === false)) {
    failure = `${failed.length} of ${summary!.steps.length} steps of the guest failed: ${failed.map((step) => step.name).join(", ")}`;
  }
  return { ok: failure === null, failure, guest: guestReport(guest.name, summary, said), events: namedEvents(summary, (smmu) => smmu) };
}

async function openBoard({ board, firmware }: RemoteRequest, client: QtestClient, remote: QmpOperator | null, controller: string | null): Promise<QtestPort> {
  const { openQ35, openVirt } = await import("../remote/index.js");
  const onReset = (listener: () => void): void => {
    if (remote !== null) {
      remote.onReset = listener;
    }
  };
  return board === "q35"
    ? openQ35(client, { apicState: remote === null ? null : () => remote.monitor("info lapic"), onReset })
    : openVirt(client, { interruptController: controller, acpi: firmware === "acpi", onReset });
}

async function administer(monitor: QmpClient | null): Promise<{ operator: MachineOperator; remote: QmpOperator | null; controller: string | null; hotplug: RemoteCandidate[] }> {
  const { AbsentOperator, QmpOperator } = await import("../remote/index.js");
  if (monitor === null) {
    return { operator: new AbsentOperator(), remote: null, controller: null, hotplug: [] };
  }
  await monitor.negotiate();
  const operator = new QmpOperator(monitor);
  return { operator, remote: operator, controller: await operator.interruptController(), hotplug: await operator.candidates() };
}

/** Opens one side; the first peer is the machine. */
async function openSide(spec: ChardevSpec, closing: Array<() => void>): Promise<{ port: number | null; peer: Promise<ByteStream> }> {
  let come: (stream: ByteStream) => void = () => {};
  const peer = new Promise<ByteStream>((resolve) => (come = resolve));
  const chardev = await openChardev(spec, (stream) => come(stream));
  closing.push(() => chardev.close());
  return { port: chardev.port, peer };
}
