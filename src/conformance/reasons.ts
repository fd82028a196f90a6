/** Differences that are known, and why they are none to mend: of kernels, of IOMMUs, of the simulation. */
import type { Answer } from "./answer.js";
import { type ConformanceRecord, judgesCommands } from "./record.js";

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

const across73 = (record: ConformanceRecord, run: ConformanceRecord): boolean => judgesCommands(record.kernel) !== judgesCommands(run.kernel);

const simulatedBeside = (record: ConformanceRecord, run: ConformanceRecord): boolean => record.kernel.simulated !== run.kernel.simulated;

export const reasons: readonly Reason[] = [
  {
    group: "nest",
    call: "INVALIDATE TLBI_NH_VA with SSEC/other reserved bits",
    when: across73,
    answers: ["ok entry_num=1", "EIO entry_num=0"],
    reason: "from 7.3 on the kernel judges commands (arm_vsmmu_validate_user_cmd)",
  },
  {
    group: "commands",
    call: "CMD_ATC_INV",
    when: across73,
    answers: ["ok entry_num=1", "EIO entry_num=0"],
    reason: "from 7.3 on the kernel judges commands (arm_vsmmu_validate_user_cmd)",
  },
  {
    group: "command fields",
    call: /^(CMD_TLBI_NH_VAA? TG=|CFGI_CD SSID|ATC_INV)/,
    when: across73,
    answers: ["ok entry_num=1", "EIO entry_num=0"],
    reason: "from 7.3 on the kernel judges commands (arm_vsmmu_validate_user_cmd)",
  },
  {
    group: "command bits",
    call: /./,
    when: across73,
    reason: "from 7.3 on the kernel judges commands (arm_vsmmu_validate_user_cmd)",
  },
  {
    group: "no dirty tracking",
    call: "length 0",
    when: across73,
    answers: ["EOVERFLOW", "EINVAL"],
    reason: "from 7.3 on a dirty bitmap of length 0 is EINVAL before all else",
  },
  {
    group: "VFIO information",
    call: "interrupts MSIX",
    when: across73,
    reason: "from 7.3 on MSI-X vectors can be added while others are on behind a GICv3 ITS",
  },
  {
    group: "MSI-X",
    call: /vector more/,
    when: across73,
    answers: ["EINVAL", "ok"],
    reason: "from 7.3 on MSI-X vectors can be added while others are on behind a GICv3 ITS",
  },
  {
    group: "*",
    call: /^(IOAS_)?NOIOMMU_GET_PA/,
    when: across73,
    reason: "IOAS_NOIOMMU_GET_PA is 7.3's",
  },
  {
    group: "*",
    call: /^ranges/,
    when: (record, run) => record.facts.hwInfo.join() !== run.facts.hwInfo.join(),
    reason: "the IOMMUs are different ones: address widths and reserved windows are theirs",
  },
  {
    group: "files of no memory",
    call: /./,
    when: simulatedBeside,
    reason: "Linux takes any open file and looks when a table wants its pages; the simulated kernel looks at once",
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
