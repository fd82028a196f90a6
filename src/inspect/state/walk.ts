/** One translation, fetch by fetch: by the host's IOMMU where it can be seen into, else by the machine's. */
import { Refusal } from "../../support/index.js";
import type { MachineFunctionReport, MapReport, WalkEnd, WalkQuestion, WalkReport } from "../report/index.js";
import { comparedEntries } from "./compare.js";
import { unknownName } from "./registers.js";
import type { InspectionSource, UnitState } from "./source.js";
import { accessOf } from "./unit-walk.js";
import { walkUnit } from "./walk-unit.js";

/** @throws Refusal where there is no such function, or the address or PASID is none */
export function walkReport(source: InspectionSource, question: WalkQuestion): WalkReport {
  const map = source.map();
  const fn = map.functions.find((one) => one.function === question.function);
  if (fn === undefined) {
    throw unknownName("function", question.function, map.functions.map((one) => one.function));
  }
  const request = { pasid: pasidOf(question), iova: addressOf(question), access: accessOf(question), kind: question.kind };
  const units = source.units();
  const place = fn.host === null ? null : source.hostPlace(fn.host);
  const guestUnit = units.find(({ id, side }) => side === "guest" && id === fn.iommu);
  const hostUnit = place === null ? undefined : units.find(({ id, side }) => side === "host" && id === place.unit);
  if (place !== null && hostUnit !== undefined) {
    const walk = walkUnit(hostUnit, source, { ...request, streamId: place.streamId });
    const compared = guestUnit === undefined || fn.streamId === null ? [] : comparedEntries(source, fn, guestUnit, hostUnit, place.streamId, request.pasid);
    return { ...about(question, hostUnit), streamId: place.streamId, ...walk, end: besideWindows(walk.end, map, fn, question), compared, unknown: [] };
  }
  if (fn.iommu === null) {
    const output = question.iova;
    const end: WalkEnd = { ...nothing("bypassed", "No IOMMU of the machine covers the function: its addresses are guest-physical"), output };
    return { question, iommu: "", side: "guest", streamId: 0, fetches: [], cut: false, end, compared: [], unknown: stage2Unknown(map, fn) };
  }
  if (guestUnit === undefined || fn.streamId === null) {
    const reason = guestUnit === undefined ? `${fn.iommu} is not to be seen into` : "The function's bus has no number yet: no request of it can be told";
    return { question, iommu: fn.iommu, side: "guest", streamId: fn.streamId ?? 0, fetches: [], cut: false, end: nothing("unknown", reason), compared: [], unknown: [reason] };
  }
  const walk = walkUnit(guestUnit, source, { ...request, streamId: fn.streamId });
  const end = fn.host === null ? walk.end : throughIoas(source, walk.end);
  return { ...about(question, guestUnit), streamId: fn.streamId, ...walk, end, compared: [], unknown: stage2Unknown(map, fn) };
}

function about(question: WalkQuestion, { id, side }: UnitState): Pick<WalkReport, "question" | "iommu" | "side"> {
  return { question, iommu: id, side };
}

function nothing(outcome: WalkEnd["outcome"], reason: string): WalkEnd {
  return { outcome, output: null, outputSpace: "guest-physical", ipa: null, pageBits: null, permissions: null, event: null, reason };
}

/** A host that cannot be seen into has stage 2: by the machine's IOAS, as one step. */
function throughIoas(source: InspectionSource, end: WalkEnd): WalkEnd {
  if (end.output === null) {
    return end;
  }
  const host = source.hostAddressOf(Number(BigInt(end.output)));
  return { ...end, ipa: end.output, ...(host === null ? {} : { output: `0x${host.toString(16)}`, outputSpace: "host-physical" as const }), reason: `${end.reason}; stage 2: mapped by the machine's IOAS` };
}

function stage2Unknown(map: MapReport, fn: MachineFunctionReport): string[] {
  if (fn.host === null) {
    return [];
  }
  const ioas = fn.ioas === null ? "the machine's IOAS" : `IOAS ${fn.ioas}`;
  return [
    `stage 2 of ${fn.host}: ${ioas} maps the machine's memory; ${map.host.description} does not show its tables`,
    `the entry of ${fn.host} in the host's tables, and which fields of the guest's the kernel took`,
  ];
}

/** An address in a window that the host keeps is not RAM. */
function besideWindows(end: WalkEnd, map: MapReport, fn: MachineFunctionReport, { iova }: WalkQuestion): WalkEnd {
  const windows = map.host.functions.find(({ address }) => address === fn.host)?.reserved ?? [];
  const address = BigInt(end.ipa ?? iova);
  const window = windows.find(({ base, size }) => address >= BigInt(base) && address < BigInt(base) + BigInt(size));
  if (window === undefined) {
    return end;
  }
  const words = window.kind.includes("msi") ? "the host's MSI window: what is mapped there is the doorbell of interrupts" : `a window that the host keeps (${window.kind})`;
  return { ...end, reason: `${end.reason}; ${end.ipa ?? iova} is in ${words}` };
}

function pasidOf({ pasid }: WalkQuestion): number {
  if (pasid === null) {
    return -1;
  }
  if (!Number.isInteger(pasid) || pasid < 0 || pasid >= 2 ** 20) {
    throw new Refusal(`pasid ${pasid} is none: 0 to 1048575 are`, { found: String(pasid), wouldWork: "0 to 1048575" });
  }
  return pasid;
}

function addressOf({ iova }: WalkQuestion): bigint {
  if (!/^0x[0-9a-f]{1,16}$/i.test(iova)) {
    throw new Refusal(`iova '${iova}' is no address: 0x and up to 16 hexadecimal digits are`, { found: iova, wouldWork: "0x and up to 16 hexadecimal digits" });
  }
  return BigInt(iova);
}
