/** Host calls that are made to fail: the n-th one of a kind is refused, with nothing done. */
import { ARM_SMMUV3_INVALIDATE_BLOCK, type Errno, type Host, HostError, InvalidateDataType, type InvalidateRequest, type InvalidateResult, type Iommufd } from "../../iommufd/index.js";
import { CallCounter, CountedHost, CountedIommufd } from "./counting.js";

export interface HostCallFailure {
  /** The call's name, such as "HWPT_ALLOC"; "*" any. */
  readonly operation: string;
  /** The how manieth call of that name from now on fails, from 1. */
  readonly nth: number;
  readonly errno: Errno;
  /** HWPT_INVALIDATE only: the entry_num that the failed call leaves; at most as many as were given (default 0). */
  readonly handled?: number;
  /**
   * HWPT_INVALIDATE only: entries that are really done before it fails. Default as in Linux: an SMMUv3's are
   * issued in blocks of 63 and those of the open block are not, a VT-d's are done one by one; none are where
   * entry_num is as it was given.
   */
  readonly issued?: number;
}

/** Counts calls and refuses those that it was told to. */
export class HostObserver extends CallCounter {
  private failures: Array<{ plan: HostCallFailure; left: number }> = [];

  /** Makes a later call fail; several plans may be under way. */
  failOn(plan: HostCallFailure): void {
    this.failures.push({ plan, left: plan.nth });
  }

  /** Forgets failures that did not come to pass; returns how many there were. */
  clearFailures(): number {
    const left = this.failures.length;
    this.failures = [];
    return left;
  }

  /** Counts a call, and refuses it where a failure is to be met. */
  protected override note(operation: string): void {
    super.note(operation);
    let met: HostCallFailure | null = null;
    for (const failure of this.failures) {
      if (failure.plan.operation === operation || failure.plan.operation === "*") {
        failure.left--;
        if (failure.left === 0 && met === null) {
          met = failure.plan;
        }
      }
    }
    this.failures = this.failures.filter((failure) => failure.plan !== met);
    if (met !== null) {
      throw new MadeToFail(operation, met);
    }
  }
}

/** What a refused call throws: a HostError like any other. */
class MadeToFail extends HostError {
  constructor(
    operation: string,
    readonly plan: HostCallFailure,
  ) {
    super(operation, plan.errno, "made to fail by a test");
  }
}

/** The host with every call noted by `observer`, and refused where it says so. */
export function observeHost(host: Host, observer: HostObserver): Host {
  return new FailingHost(host, observer);
}

class FailingHost extends CountedHost {
  protected override counted(iommufd: Iommufd): CountedIommufd {
    return new FailingIommufd(iommufd, this.counter);
  }
}

class FailingIommufd extends CountedIommufd {
  /** The kernel tells of an invalidation that fails how much of it is done. */
  override hwptInvalidate(request: InvalidateRequest): InvalidateResult {
    try {
      return super.hwptInvalidate(request);
    } catch (error) {
      if (!(error instanceof MadeToFail)) {
        throw error;
      }
      const handled = Math.min(error.plan.handled ?? 0, request.entryCount);
      const issued = error.plan.issued ?? issuedBefore(handled, request);
      if (issued > 0) {
        this.inner.hwptInvalidate({ ...request, entryCount: issued });
      }
      return { errno: error.errno, handled };
    }
  }
}

/** Entries that Linux has done when a HWPT_INVALIDATE fails with this entry_num (arm_vsmmu_cache_invalidate, intel_nested_cache_invalidate_user). */
function issuedBefore(handled: number, request: InvalidateRequest): number {
  if (handled >= request.entryCount) {
    return 0;
  }
  return request.dataType === InvalidateDataType.ARM_SMMUV3 ? handled - (handled % ARM_SMMUV3_INVALIDATE_BLOCK) : handled;
}
