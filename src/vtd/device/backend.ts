import type { AddressSpace, WordMemory } from "../../memory/index.js";
import type { Scheduler } from "../../nesting/index.js";
import type { VtdProperties } from "./capabilities.js";
import type { RootPointer, VtdFeatures } from "../lookup/index.js";

/**
 * What the unit's registers and queue ask of whoever serves its passed-through functions. The device decodes
 * and orders; the backend turns intent into host calls. Without passed-through functions there is no backend.
 */
export interface VtdBackend {
  /** Passed-through functions behind the unit; without any nothing is asked. */
  readonly functionCount: number;

  /**
   * The guest invalidated PASID-cache entries: of a PASID, or all (-1). Their domain narrows nothing, as entries that
   * have become present may be of any. Called with nothing left in the batch. False where a function did not get
   * what its entry asks for.
   */
  pasidCacheInvalidated(pasid: number): boolean;
  /**
   * The guest invalidated context-cache entries: of a source id (bits of `sourceMask` do not count), or all (-1). A
   * domain narrows nothing: in scalable mode entries have none, in legacy mode a new one may be the domain's. As above.
   */
  contextCacheInvalidated(sourceId: number, sourceMask: number): boolean;
  /** IOTLB invalidation, which concerns second-stage tables that are shadowed: all (-1), a domain, 2^`addressMask` pages of 4 KiB from an address on (-1: all pages). */
  iotlbInvalidated(domainId: number, addressHigh: number, addressLow: number, addressMask: number): boolean;

  /**
   * Takes a PASID-based IOTLB invalidation into the batch: 2^`addressMask` pages from an address on, or all
   * (`addressMask` -1). False when it needs no forwarding: no nested table has the domain and PASID.
   */
  forwardPasidIotlb(domainId: number, pasid: number, addressHigh: number, addressLow: number, addressMask: number, leaf: boolean): boolean;
  /** What a PASID-based IOTLB invalidation does beside the batch: to shadowed second-stage tables. False as above. */
  pasidIotlbInvalidated(domainId: number, addressMask: number): boolean;
  /** Invalidations in the batch. */
  readonly pending: number;
  /** Invalidations that a batch takes; at that number the device flushes. */
  readonly capacity: number;
  /**
   * Sends the batch and empties it, whatever comes of it. Returns -1, or which of the invalidations (in the
   * order in which they were taken) the host refused first; all before that one are done.
   */
  flush(): number;
  /** The queue has done all that was in it. */
  descriptorsDone(): void;

  /** GSTS.TES or the root table in use has changed: every function goes where the tables say. */
  tablesChanged(): void;
  /** A register write begins: an occasion to try again what the host has refused. */
  retryRefused(): void;
  /** How far the work is that the calls above have caused. */
  readonly progress: BackendProgress;
  /** Goes on with it, a bounded step; it goes on by itself, too. Calls `followed` of the unit at the end. */
  proceed(): void;
  /** Steps of bounded work (`src/support/budget.ts`) taken so far. */
  readonly stepsTaken: number;
  /** Reset of the unit: registers are at their reset values already. */
  reset(): void;
  /** The machine is gone: nothing goes on by itself any more. */
  dispose(): void;
}

/**
 * "working": functions are not yet where the guest's tables say, and may reach what they reached before, which is not to
 * be told as done; "refused": one has a table that may be stale and cannot be taken off it.
 */
export type BackendProgress = "done" | "working" | "refused";

/** What the backend asks of the unit: the state that the guest has programmed. */
export interface VtdForBackend {
  /** The user's id. */
  readonly id: string;
  readonly properties: VtdProperties;
  readonly features: VtdFeatures;
  /** Guest memory: tables of the guest, and RAM that it maps. */
  readonly words: WordMemory;
  readonly memory: AddressSpace;
  /** GSTS.TES. */
  readonly translationEnabled: boolean;
  /** RTADDR.TTM and the root table in use. */
  readonly tableMode: number;
  readonly root: RootPointer;
  /** Takes a fault recording register's four words. */
  recordFault(record: Int32Array): void;
  /** Faults were lost before they reached this side. */
  faultsLost(): void;
  /** Runs what is left of bounded work. */
  readonly scheduler: Scheduler;
  /** Steps of it that are done at once. */
  readonly stepsAtOnce: number;
  /** The backend's work has come to an end. */
  followed(): void;
}

/** What an invalidation does outside of the queue: caches of the software path, and the backend. */
export interface InvalidationTarget {
  readonly backend: VtdBackend | null;
  /** RTADDR.TTM in use. */
  readonly tableMode: number;
  /** Granularities are those of the spec room. False: a passed-through function did not get what the tables say. */
  contextCache(granularity: number, domainId: number, sourceId: number, functionMask: number): boolean;
  pasidCache(granularity: number, domainId: number, pasid: number): boolean;
  iotlb(granularity: number, domainId: number, addressHigh: number, addressLow: number, addressMask: number): boolean;
  /** But for the backend's batch, of which the queue takes care. `addressMask` -1: all pages. */
  pasidIotlb(domainId: number, pasid: number, addressHigh: number, addressLow: number, addressMask: number): boolean;
  /** 2^`mask` entries from `index` on; all where `index` is -1. */
  interruptEntries(index: number, mask: number): void;
}
