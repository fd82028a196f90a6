/** A plan as a command line: for a shell and QEMU, or as a file of arguments for `viommu run`. */
import { wrap } from "../../support/index.js";
import { titleOf } from "../machine-plan.js";
import { PROGRAMS, qemuWords, type WordGroup } from "../qemu-words.js";
import type { MachinePlan } from "../report/index.js";

const WIDTH = 110;
/** UEFI of Debian's packages qemu-efi-aarch64 and ovmf. */
const FIRMWARE = { virt: "/usr/share/AAVMF/AAVMF_CODE.fd", q35: "/usr/share/ovmf/OVMF.fd" } as const;

const head = (plan: MachinePlan): string[] => commented([titleOf(plan)], "# ");

function commented(texts: readonly string[], mark: string): string[] {
  return texts.flatMap((text) => wrap(text, WIDTH - mark.length).map((line, index) => `${mark}${index === 0 ? "" : "  "}${line}`));
}

const isPlain = (word: string): boolean => /^[\w@%+=:,./-]+$/.test(word);
const quoted = (word: string): string => (isPlain(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

/** `viommu run --host HOST FILE` takes it; comments stand before what they are about. */
export function viommuArgs(plan: MachinePlan, host: string): string {
  const groups = qemuWords(plan, "11.1");
  const body = groups.flatMap(({ comments, lines }) => ["  \\", ...commented(comments, "  # "), ...lines.map((words) => `  ${words.map(quoted).join(" ")} \\`)]);
  body[body.length - 1] = body.at(-1)!.replace(/ \\$/, "");
  return [...head(plan), ...commented(preparationsOf(plan), "# "), "#", `#   viommu run --host ${quoted(host)} FILE`, "", `${PROGRAMS[plan.board]} \\`, ...body.slice(1), ""].join("\n");
}

/** For a shell: the reasons first, for a line that goes on takes no comments. */
export function qemuCommand(plan: MachinePlan, version: string): string {
  const groups = qemuWords(plan, version);
  const [first, ...rest] = groups;
  const firmware: WordGroup = { comments: [], lines: [["-bios", FIRMWARE[plan.board]]] };
  const lines = [first, firmware, ...rest].flatMap((group) => group.lines.map((words) => `  ${words.map(quoted).join(" ")}`));
  return [
    ...head(plan),
    "#",
    ...groups.flatMap(({ comments }) => commented(comments, "# ")),
    ...(plan.board === "virt" && plan.expanders.some(({ smmu }) => smmu !== null) ? commented(["-bios: an accelerated SMMU is told by ACPI's tables alone, which UEFI hands on"], "# ") : []),
    ...commented(["disks, network cards and consoles of yours: on pcie.0, where no function of the host is"], "# "),
    "#",
    ...commented(preparationsOf(plan), "# "),
    "",
    `${PROGRAMS[plan.board]} \\`,
    lines.join(" \\\n"),
    "",
  ].join("\n");
}

function preparationsOf({ preparations, notes }: MachinePlan): string[] {
  return [...preparations.map((one) => `before it starts: ${one}`), ...notes.map((one) => `note: ${one}`)];
}
