/** One request that a unit's model answers, and every fetch on the way. */
import type { FetchReport, WalkEnd, WalkQuestion } from "../report/index.js";
import { leafOf } from "./fetches.js";
import type { Load } from "./told-walk.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../translation/index.js";

/** A request as a unit gets it. */
export interface UnitRequest {
  /** StreamID or source id. */
  readonly streamId: number;
  /** -1: none. */
  readonly pasid: number;
  readonly iova: bigint;
  /** ACCESS_*. */
  readonly access: number;
  readonly kind: WalkQuestion["kind"];
}

export interface UnitWalk {
  readonly fetches: readonly FetchReport[];
  readonly cut: boolean;
  readonly end: WalkEnd;
}

export function accessOf({ access, privileged }: WalkQuestion): number {
  const bits = { read: ACCESS_READ, write: ACCESS_WRITE, execute: ACCESS_READ | ACCESS_EXECUTE }[access];
  return privileged ? bits | ACCESS_PRIVILEGED : bits;
}

export function permissionLetters(permissions: number): string {
  return `${(permissions & ACCESS_READ) === 0 ? "-" : "r"}${(permissions & ACCESS_WRITE) === 0 ? "-" : "w"}${(permissions & ACCESS_EXECUTE) === 0 ? "-" : "x"}`;
}

/** Where stage 1 has led: the address that stage 2 translates; null: it has led nowhere, or nothing follows. */
export function stage1Output(loads: readonly Load[], iova: bigint): bigint | null {
  const last = loads.findLast(({ descriptor }) => descriptor?.stage === 1);
  if (last === undefined || last.before === null || last.word === null || last.descriptor === null) {
    return null;
  }
  const leaf = leafOf(last.word, last.descriptor.level, last.descriptor.tables);
  return leaf === null ? null : leaf.address | (iova & ((1n << BigInt(leaf.bits)) - 1n));
}

/** The fetch that a request ends at says so. */
export function markEnd(fetches: readonly FetchReport[], end: WalkEnd): FetchReport[] {
  const failed = end.outcome === "aborted" || end.outcome === "read-as-zero";
  return fetches.map((fetch, index) => (failed && index === fetches.length - 1 ? { ...fetch, decides: `${fetch.decides}. ${end.reason}` } : fetch));
}
