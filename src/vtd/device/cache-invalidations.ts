/** What invalidations of either kind, by registers and by descriptors, do: to the caches of the software path, and to the backend. */
import { toBigInt } from "../../support/index.js";
import { hiddenFunctionBits, type InterruptRemapper, type VtdTranslator } from "../lookup/index.js";
import { GRANULARITY_GLOBAL, GRANULARITY_SELECTIVE, PASID_CACHE_DOMAIN, PASID_CACHE_PASID } from "../spec/index.js";
import type { InvalidationTarget, VtdBackend } from "./backend.js";
import * as trace from "./trace.js";

/** What it needs of its unit. */
export interface InvalidatedUnit {
  readonly translator: VtdTranslator;
  readonly remapper: InterruptRemapper;
  readonly backend: VtdBackend | null;
  readonly tableMode: number;
  /** Remapped interrupts may have changed. */
  onInterruptsChanged(): void;
}

export class CacheInvalidations implements InvalidationTarget {
  constructor(private readonly unit: InvalidatedUnit) {}

  get backend(): VtdBackend | null {
    return this.unit.backend;
  }

  get tableMode(): number {
    return this.unit.tableMode;
  }

  contextCache(granularity: number, domainId: number, sourceId: number, functionMask: number): boolean {
    const { translator } = this.unit;
    if (granularity === GRANULARITY_SELECTIVE) {
      translator.invalidateContextDevice(domainId, sourceId, functionMask);
      const mask = hiddenFunctionBits(functionMask);
      if (trace.traceInvDescCcDevices.on) {
        trace.traceInvDescCcDevices.emit(sourceId, mask);
      }
      return this.backend?.contextCacheInvalidated(sourceId, mask) ?? true;
    }
    const everything = granularity === GRANULARITY_GLOBAL;
    if (everything) {
      translator.invalidateContextGlobal();
    } else {
      translator.invalidateContextDomain(domainId);
    }
    if (everything && trace.traceInvDescCcGlobal.on) {
      trace.traceInvDescCcGlobal.emit();
    } else if (!everything && trace.traceInvDescCcDomain.on) {
      trace.traceInvDescCcDomain.emit(domainId);
    }
    return this.backend?.contextCacheInvalidated(-1, 0) ?? true;
  }

  pasidCache(granularity: number, domainId: number, pasid: number): boolean {
    const { translator } = this.unit;
    switch (granularity) {
      case PASID_CACHE_PASID:
        if (trace.traceInvDescPasidCachePsi.on) {
          trace.traceInvDescPasidCachePsi.emit(domainId, pasid);
        }
        translator.invalidatePasid(domainId, pasid);
        return this.backend?.pasidCacheInvalidated(pasid) ?? true;
      case PASID_CACHE_DOMAIN:
        if (trace.traceInvDescPasidCacheDsi.on) {
          trace.traceInvDescPasidCacheDsi.emit(domainId);
        }
        translator.invalidatePasidDomain(domainId);
        return this.backend?.pasidCacheInvalidated(-1) ?? true;
      default:
        if (trace.traceInvDescPasidCacheGsi.on) {
          trace.traceInvDescPasidCacheGsi.emit();
        }
        translator.invalidatePasidGlobal();
        return this.backend?.pasidCacheInvalidated(-1) ?? true;
    }
  }

  iotlb(granularity: number, domainId: number, addressHigh: number, addressLow: number, addressMask: number): boolean {
    const { translator, backend } = this.unit;
    switch (granularity) {
      case GRANULARITY_SELECTIVE:
        if (trace.traceInvDescIotlbPages.on) {
          trace.traceInvDescIotlbPages.emit(domainId, toBigInt(addressHigh, addressLow), addressMask);
        }
        translator.invalidateIotlbPages(domainId, addressHigh, addressLow, addressMask);
        return backend?.iotlbInvalidated(domainId, addressHigh, addressLow, addressMask) ?? true;
      case GRANULARITY_GLOBAL:
        if (trace.traceInvDescIotlbGlobal.on) {
          trace.traceInvDescIotlbGlobal.emit();
        }
        translator.invalidateIotlbGlobal();
        return backend?.iotlbInvalidated(-1, 0, 0, -1) ?? true;
      default:
        if (trace.traceInvDescIotlbDomain.on) {
          trace.traceInvDescIotlbDomain.emit(domainId);
        }
        translator.invalidateIotlbDomain(domainId);
        return backend?.iotlbInvalidated(domainId, 0, 0, -1) ?? true;
    }
  }

  pasidIotlb(domainId: number, pasid: number, addressHigh: number, addressLow: number, addressMask: number): boolean {
    if (addressMask < 0) {
      this.unit.translator.invalidatePasidIotlb(domainId, pasid);
    } else {
      this.unit.translator.invalidatePasidIotlbPages(domainId, pasid, addressHigh, addressLow, addressMask);
    }
    return this.backend?.pasidIotlbInvalidated(domainId, addressMask) ?? true;
  }

  interruptEntries(index: number, mask: number): void {
    if (index < 0) {
      this.unit.remapper.invalidateAll();
    } else {
      this.unit.remapper.invalidateEntries(index, mask);
    }
    this.unit.onInterruptsChanged();
  }
}
