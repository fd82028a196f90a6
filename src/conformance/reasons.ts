/** Differences that are known, and why they are none to mend: of kernels, of IOMMUs, of the simulation. */
import type { Answer } from "./answer.js";
import type { ConformanceRecord } from "./record.js";

interface Reason {
  /** A group's name, or "*". */
  readonly group: string;
  /** The call's whole name, or what it looks like. */
  readonly call: string | RegExp;
  /** Where it holds. */
  readonly when: (record: ConformanceRecord, run: ConformanceRecord) => boolean;
  /** The two answers in either order; left out: any. */
  readonly answers?: readonly [Answer, Answer];
  readonly reason: string;
}

const olderThan73 = (record: ConformanceRecord): boolean => version(record) < 7003;
const acrossCommandChecks = (record: ConformanceRecord, run: ConformanceRecord): boolean => olderThan73(record) !== olderThan73(run);

/** 7.3.4 as 7003. */
export function version({ kernel }: ConformanceRecord): number {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(kernel.release) ?? ["", "0", "0"];
  return 1000 * Number(major) + Number(minor);
}

export const reasons: readonly Reason[] = [
  {
    group: "nest",
    call: "INVALIDATE TLBI_NH_VA with SSEC/other reserved bits",
    when: acrossCommandChecks,
    answers: ["ok entry_num=1", "EIO entry_num=0"],
    reason: "from 7.3 on the kernel judges commands (arm_vsmmu_validate_user_cmd)",
  },
];

/** Why a difference is none to mend; null: it is not known. */
export function reasonFor(difference: { readonly group: string; readonly call: string; readonly recorded: Answer; readonly answered: Answer }, record: ConformanceRecord, run: ConformanceRecord): string | null {
  const { group, call, recorded, answered } = difference;
  const found = reasons.find(
    (one) =>
      (one.group === "*" || one.group === group) &&
      (typeof one.call === "string" ? one.call === call : one.call.test(call)) &&
      (one.answers === undefined || (one.answers.includes(recorded) && one.answers.includes(answered))) &&
      one.when(record, run),
  );
  return found?.reason ?? null;
}
