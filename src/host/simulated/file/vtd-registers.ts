/** CAP_REG and ECAP_REG of a VT-d unit, as the kernel's log and sysfs show them, as the keys of a host file (Intel VT-d 11.4.2, 11.4.3). */
import { get, highWord, lowWord } from "../../../support/index.js";
import { CAP, ECAP } from "../../../vtd/spec/index.js";
import { refusal } from "./description-values.js";

/** The registers' digits: "0x1c0000c40660462", or as the log has them, without 0x. */
export const REGISTER = /^(?:0[xX])?[0-9a-fA-F]{1,16}$/;

/** The digits with 0x, in lower case. */
export function registerText(text: string): string {
  return `0x${text.replace(/^0[xX]/, "").toLowerCase()}`;
}

/** The two words of a register, the lower first. */
function words(text: string): Int32Array {
  const value = BigInt(registerText(text));
  return Int32Array.of(lowWord(value), highWord(value));
}

/** Keys that CAP decides, and the widths beyond which MGAW says nothing: what tables translate. */
function fromCap(cap: Int32Array, scalable: { readonly firstStage: boolean; readonly secondStage: boolean } | null): Record<string, unknown> {
  const sagaw = get(cap, CAP.SAGAW);
  const widths = [39, 48, 57].filter((_width, i) => (sagaw & (2 << i)) !== 0);
  const large = get(cap, CAP.SSLPS);
  const first = scalable?.firstStage ?? false;
  // A unit without second stage has no width of one to tell; the kernel uses the first stage's.
  const tables = widths.length > 0 ? widths : [48];
  return {
    sagaw: tables,
    // Linux uses the smaller of the two (domain->gaw, iommu->agaw).
    mgaw: Math.min(get(cap, CAP.MGAW) + 1, Math.max(...tables)),
    secondStagePages: ["2M", "1G"].filter((_page, i) => (large & (1 << i)) !== 0),
    firstStage1g: first && get(cap, CAP.FS1GP) === 1,
    firstStage5Level: first && get(cap, CAP.FS5LP) === 1,
  };
}

/** Keys that ECAP decides. Without SMTS the kernel uses legacy mode, where what scalable mode has counts for nothing. */
function fromEcap(ecap: Int32Array): Record<string, unknown> & { firstStage: boolean; secondStage: boolean; scalableMode: boolean } {
  const has = (name: keyof typeof ECAP): boolean => get(ecap, ECAP[name]) !== 0;
  const scalableMode = has("SMTS");
  const firstStage = scalableMode && has("FSTS");
  const secondStage = scalableMode && has("SSTS");
  return {
    coherentWalks: has("C"),
    snoopControl: has("SC"),
    deviceTlb: has("DT"),
    scalableMode,
    scalableCoherentWalks: scalableMode && has("SMPWCS"),
    secondStage,
    firstStage,
    nesting: firstStage && secondStage && has("NEST"),
    dirtyTracking: secondStage && has("SSADS"),
    supervisor: firstStage && has("SRS"),
    extendedAccess: firstStage && has("EAFS"),
    pasidBits: scalableMode && has("PASID") ? get(ecap, ECAP.PSS) + 1 : 0,
  };
}

/**
 * A unit of a host file as it is written, with the keys that its `cap` and `ecap` decide.
 *
 * @param unit what the file has; one without registers, or with some that are none, comes back as it is
 * @throws Refusal where a key says something else than the register
 */
export function withRegisters(unit: unknown, path: string, fileName: string): unknown {
  if (typeof unit !== "object" || unit === null) {
    return unit;
  }
  const { cap, ecap } = unit as { cap?: unknown; ecap?: unknown };
  const isRegister = (value: unknown): value is string => typeof value === "string" && REGISTER.test(value);
  if (!isRegister(cap) && !isRegister(ecap)) {
    return unit;
  }
  const ofEcap = isRegister(ecap) ? fromEcap(words(ecap)) : null;
  const given = unit as Record<string, unknown>;
  const stages = ofEcap ?? { firstStage: given.firstStage === true, secondStage: given.secondStage === true };
  const decided = { ...ofEcap, ...(isRegister(cap) ? fromCap(words(cap), stages) : {}) };
  for (const [key, value] of Object.entries(decided)) {
    const said = given[key];
    if (said !== undefined && !same(said, value)) {
      const register = isRegister(cap) && key in fromCap(words(cap), stages) ? "cap" : "ecap";
      throw refusal(fileName, `${path}.${key}`, `${JSON.stringify(said)}, and ${register} says ${JSON.stringify(value)}`, `${register} alone`);
    }
  }
  return { ...decided, ...given };
}

/** What a unit's registers, as sysfs shows them, say of it; null: not known, and the least is taken for it. */
export function keysOfRegisters(cap: string | null, ecap: string | null): Record<string, unknown> {
  const ofEcap = ecap === null ? null : fromEcap(words(ecap));
  return { ...ofEcap, ...(cap === null ? {} : fromCap(words(cap), ofEcap)) };
}

function same(a: unknown, b: unknown): boolean {
  return Array.isArray(a) && Array.isArray(b) ? a.length === b.length && a.every((one) => b.includes(one)) : a === b;
}
