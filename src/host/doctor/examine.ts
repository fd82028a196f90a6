/** The rules, for who starts a machine and for who asks what is wrong. */
import { HostFacts } from "../../plan/index.js";
import { Refusal } from "../../support/index.js";
import { type DescribedHost, describeThisMachine } from "../described/index.js";
import { iommuOf } from "../simulated/names/index.js";
import type { Places } from "../sysfs/index.js";
import { barProblems, companionProblems, functionProblems } from "./function-rules.js";
import { iommuProblems, nestingProblems } from "./iommu-rules.js";
import { iommufdProblems, kvmProblems, limitProblems, memoryProblems, optionProblems, versionProblems } from "./kernel-rules.js";
import { type HostProblem, listed, problem, type Wanted } from "./wanted.js";

/** What somebody wants to know of a host. */
export interface Question {
  /** Functions that are to be passed through, in full; empty: those that VFIO has already. */
  readonly functions: readonly string[];
  /** Bytes of RAM of the guest; null: not told. */
  readonly memory: number | null;
}

/** What keeps this machine from running another: in the order in which it is to be mended. @param host by default this machine */
export function diagnose(wanted: Wanted, places?: Places, host: DescribedHost = describeThisMachine(places)): HostProblem[] {
  const patient = { host, wanted };
  return [...(wanted.opensIommufd ? iommufdProblems(patient) : []), ...functionProblems(patient), ...(wanted.pinnedBytes === 0 ? [] : memoryProblems(patient))];
}

/** @throws Refusal with all that `diagnose` finds */
export function checkHost(wanted: Wanted, places?: Places): void {
  const problems = diagnose(wanted, places);
  if (problems.length > 0) {
    throw Refusal.of(problems.map(({ words, ...details }) => new Refusal(words, { rule: details.rule, found: details.found, wouldWork: details.wouldWork })));
  }
}

const LEVELS = ["error", "warning", "note"] as const;

/** All that is wrong for passing functions through with a virtual IOMMU, the worst first. */
export function examine(host: DescribedHost, question: Question): HostProblem[] {
  const { functions } = host.description;
  const bound = functions.filter(({ driver }) => driver.includes("vfio")).map(({ address }) => address);
  const asked = question.functions.length > 0;
  const wanted: Wanted = { functions: asked ? question.functions : bound, opensIommufd: true, pinnedBytes: question.memory ?? 0 };
  const patient = { host, wanted };
  const facts = new HostFacts(host.description);
  const behind = asked ? new Set(functions.filter(({ address }) => wanted.functions.includes(address)).flatMap((fn) => iommuOf(fn) ?? [])) : null;
  const options = optionProblems(patient);
  const lacksIommufd = options.some(({ words }) => words.startsWith("CONFIG_IOMMUFD "));
  const found = [
    ...iommuProblems(patient),
    ...versionProblems(patient),
    ...options,
    // The missing option says it already.
    ...(lacksIommufd ? [] : iommufdProblems(patient)),
    ...nestingProblems(facts, behind),
    ...functionProblems(patient),
    ...barProblems(patient, facts),
    ...limitProblems(patient),
    ...companionProblems(patient),
    ...kvmProblems(patient),
    ...(asked || bound.length > 0 ? [] : unbound(host)),
  ];
  return LEVELS.flatMap((level) => found.filter((one) => one.level === level));
}

/** Nobody has asked for a function, and VFIO has none: which could be. */
function unbound({ description }: DescribedHost): HostProblem[] {
  const candidates = description.functions.filter((fn) => fn.class >>> 16 !== 0x06 && fn.class >>> 8 !== 0x0806 && fn.group !== null && iommuOf(fn) !== null);
  return candidates.length === 0
    ? []
    : [problem("note", "no-vfio-function", "no function has the driver vfio-pci", `${candidates.length} could have it: ${listed(candidates.map(({ address, name, driver }) => `${address} (${name}${driver === "" ? "" : `, ${driver}`})`))}`, "--device ADDRESS tells what one of them needs")];
}
