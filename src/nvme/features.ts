/** Features: values that the host reads and sets (5.15, 5.21). Nothing is saved: a reset brings the defaults back. */
import { ALL_NAMESPACES, FEATURE, MOST_NAMESPACES, STATUS } from "./spec.js";

/** Kelvin: what the controller measures, and where it warns (WCTEMP) and stops to be safe (CCTEMP). */
export const TEMPERATURE = { now: 0x143, warning: 0x157, critical: 0x175 } as const;
/** Threshold that nothing is below. */
const NO_UNDER_THRESHOLD = 0;

const CURRENT = 0;
const DEFAULT = 1;
const SAVED = 2;
const CAPABILITIES = 3;

/** Supported capabilities (5.15.2): saveable 0, of a namespace 1, changeable 2. */
const OF_NAMESPACE = 2;
const CHANGEABLE = 4;

interface FeatureRule {
  readonly default: number;
  /** Bits that are kept of what is set. */
  readonly mask: number;
  readonly capabilities: number;
}

export interface FeatureParts {
  readonly queuePairs: number;
  readonly writeCache: boolean;
  /** Interrupt vectors that may be configured. */
  vectors(): number;
  hasIoQueues(): boolean;
  isNamespace(id: number): boolean;
  /** A threshold or what is to be told of has changed. */
  onTemperature(): void;
}

export interface FeatureAnswer {
  readonly status: number;
  /** Dword 0 of the completion. */
  readonly result: number;
}

const refusedWith = (status: number): FeatureAnswer => ({ status, result: 0 });
const answer = (result: number): FeatureAnswer => ({ status: STATUS.SUCCESS, result: result | 0 });

/** The status for an id that no active namespace has (6.1.4, 6.1.5). */
function noNamespace(id: number): number {
  return id === 0 || id > MOST_NAMESPACES ? STATUS.INVALID_NAMESPACE : STATUS.INVALID_FIELD;
}

export class Features {
  private readonly rules: ReadonlyMap<number, FeatureRule>;
  private values = new Map<number, number>();
  /** Vectors whose interrupts are not coalesced. */
  private readonly uncoalesced = new Set<number>();
  private overThreshold: number = TEMPERATURE.warning;
  private underThreshold = NO_UNDER_THRESHOLD;

  constructor(private readonly parts: FeatureParts) {
    const queues = (parts.queuePairs - 1) | ((parts.queuePairs - 1) << 16);
    const rule = (value: number, mask: number, capabilities = CHANGEABLE): FeatureRule => ({ default: value, mask, capabilities });
    this.rules = new Map([
      // No limit of commands at a time (AB 7); weights have no effect without weighted round robin.
      [FEATURE.ARBITRATION, rule(7, 0xffff_ff07)],
      [FEATURE.POWER_MANAGEMENT, rule(0, 0xff)],
      [FEATURE.TEMPERATURE_THRESHOLD, rule(TEMPERATURE.warning, 0xffff)],
      [FEATURE.ERROR_RECOVERY, rule(0, 0x0000_ffff, CHANGEABLE | OF_NAMESPACE)],
      [FEATURE.VOLATILE_WRITE_CACHE, rule(parts.writeCache ? 1 : 0, 1)],
      [FEATURE.NUMBER_OF_QUEUES, rule(queues, 0)],
      [FEATURE.INTERRUPT_COALESCING, rule(0, 0xffff)],
      [FEATURE.INTERRUPT_VECTOR, rule(0, 0x1_ffff)],
      [FEATURE.WRITE_ATOMICITY, rule(0, 1)],
      [FEATURE.ASYNC_EVENTS, rule(0, 0x0000_031f)],
    ]);
  }

  reset(): void {
    this.values.clear();
    this.uncoalesced.clear();
    this.overThreshold = TEMPERATURE.warning;
    this.underThreshold = NO_UNDER_THRESHOLD;
  }

  value(feature: number): number {
    return this.values.get(feature) ?? this.rules.get(feature)!.default;
  }

  get writeCacheEnabled(): boolean {
    return this.value(FEATURE.VOLATILE_WRITE_CACHE) === 1;
  }

  /** The temperature is beyond a threshold. */
  get temperatureWarning(): boolean {
    return TEMPERATURE.now >= this.overThreshold || TEMPERATURE.now <= this.underThreshold;
  }

  /** @param dword10 FID in bits 7:0, SEL in 10:8 */
  get(dword10: number, dword11: number, namespaceId: number): FeatureAnswer {
    const feature = dword10 & 0xff;
    const rule = this.rules.get(feature);
    const select = (dword10 >>> 8) & 7;
    if (rule === undefined || select > CAPABILITIES) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    if ((rule.capabilities & OF_NAMESPACE) !== 0 && !this.parts.isNamespace(namespaceId)) {
      return refusedWith(noNamespace(namespaceId));
    }
    if (select === CAPABILITIES) {
      return answer(rule.capabilities);
    }
    if (feature === FEATURE.TEMPERATURE_THRESHOLD) {
      return this.getThreshold(dword11, select);
    }
    if (feature === FEATURE.INTERRUPT_VECTOR) {
      const vector = dword11 & 0xffff;
      if (vector >= this.parts.vectors()) {
        return refusedWith(STATUS.INVALID_FIELD);
      }
      // The admin queue's vector is never coalesced (5.21.1.9).
      return answer(vector | (vector === 0 || (select === CURRENT && this.uncoalesced.has(vector)) ? 0x1_0000 : 0));
    }
    // With nothing saved, the saved value is the default (5.15.1).
    return answer(select === DEFAULT || select === SAVED ? rule.default : this.value(feature));
  }

  /** @param dword10 FID in bits 7:0, SV in 31 */
  set(dword10: number, dword11: number, namespaceId: number): FeatureAnswer {
    const feature = dword10 & 0xff;
    const rule = this.rules.get(feature);
    if (rule === undefined) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    if (dword10 >>> 31 !== 0) {
      return refusedWith(STATUS.FEATURE_NOT_SAVEABLE);
    }
    const ofNamespace = (rule.capabilities & OF_NAMESPACE) !== 0;
    if (namespaceId !== 0 && namespaceId !== ALL_NAMESPACES && !this.parts.isNamespace(namespaceId)) {
      return refusedWith(noNamespace(namespaceId));
    }
    if (ofNamespace && namespaceId === 0) {
      return refusedWith(STATUS.INVALID_NAMESPACE);
    }
    if (!ofNamespace && namespaceId !== 0 && namespaceId !== ALL_NAMESPACES) {
      return refusedWith(STATUS.FEATURE_NOT_NAMESPACE);
    }
    switch (feature) {
      case FEATURE.POWER_MANAGEMENT:
        // There is power state 0 alone (PS in bits 4:0).
        return (dword11 & 0x1f) === 0 ? this.store(feature, rule, dword11) : refusedWith(STATUS.INVALID_FIELD);
      case FEATURE.TEMPERATURE_THRESHOLD:
        return this.setThreshold(dword11);
      case FEATURE.NUMBER_OF_QUEUES:
        return this.setQueues(dword11);
      case FEATURE.INTERRUPT_VECTOR:
        return this.setVector(dword11);
      case FEATURE.ERROR_RECOVERY:
        // Deallocated or unwritten blocks give no error here (DULBE, bit 16: NSFEAT bit 2 is clear).
        return (dword11 & 0x1_0000) === 0 ? this.store(feature, rule, dword11) : refusedWith(STATUS.INVALID_FIELD);
      case FEATURE.ASYNC_EVENTS: {
        const stored = this.store(feature, rule, dword11);
        this.parts.onTemperature();
        return stored;
      }
      default:
        return this.store(feature, rule, dword11);
    }
  }

  private store(feature: number, rule: FeatureRule, value: number): FeatureAnswer {
    this.values.set(feature, (value & rule.mask) >>> 0);
    return answer(0);
  }

  /** TMPSEL, bits 19:16: 0 is the composite temperature, and there is no other sensor; THSEL, 21:20: over or under. */
  private getThreshold(dword11: number, select: number): FeatureAnswer {
    const kind = (dword11 >>> 20) & 3;
    if (((dword11 >>> 16) & 0xf) !== 0 || kind > 1) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    if (select !== CURRENT) {
      return answer(kind === 0 ? TEMPERATURE.warning : NO_UNDER_THRESHOLD);
    }
    return answer(kind === 0 ? this.overThreshold : this.underThreshold);
  }

  private setThreshold(dword11: number): FeatureAnswer {
    const kind = (dword11 >>> 20) & 3;
    const sensor = (dword11 >>> 16) & 0xf;
    // 15: all sensors that there are.
    if ((sensor !== 0 && sensor !== 15) || kind > 1) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    if (kind === 0) {
      this.overThreshold = dword11 & 0xffff;
    } else {
      this.underThreshold = dword11 & 0xffff;
    }
    this.parts.onTemperature();
    return answer(0);
  }

  /** Numbers less one of queues asked for; as many as there are is what is given (5.21.1.7). */
  private setQueues(dword11: number): FeatureAnswer {
    if (this.parts.hasIoQueues()) {
      return refusedWith(STATUS.COMMAND_SEQUENCE_ERROR);
    }
    if ((dword11 & 0xffff) === 0xffff || dword11 >>> 16 === 0xffff) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    return answer(this.value(FEATURE.NUMBER_OF_QUEUES));
  }

  private setVector(dword11: number): FeatureAnswer {
    const vector = dword11 & 0xffff;
    if (vector >= this.parts.vectors()) {
      return refusedWith(STATUS.INVALID_FIELD);
    }
    if ((dword11 & 0x1_0000) !== 0) {
      this.uncoalesced.add(vector);
    } else {
      this.uncoalesced.delete(vector);
    }
    return answer(0);
  }
}
