/** `-machine virt|q35[,...]`: its type, which decides which properties it has, and those. */
import { Refusal, RefusalCollector } from "../../support/index.js";
import { BOARD_KINDS, type BoardKind, boardTraits } from "./boards.js";
import { commonSetters } from "./common-options.js";
import { currentTypes, findMachineType, VERSIONS } from "./machine-types.js";
import { listed, nearest } from "./nearest.js";
import type { Setter } from "./option-setters.js";
import { located, type OptionString, scalar } from "./option-string.js";
import { q35Defaults, type Q35Options, q35Setters } from "./q35-options.js";
import { virtDefaults, type VirtOptions, virtSetters } from "./virt-options.js";

/** Of each board its own; `board` tells which. */
export type MachineOptions = VirtOptions | Q35Options;

export type OptionsOf<K extends BoardKind> = Extract<MachineOptions, { readonly board: K }>;

const BOARD_OPTIONS: { readonly [K in BoardKind]: { defaults(): OptionsOf<K>; readonly setters: Readonly<Record<string, Setter<OptionsOf<K>>>> } } = {
  virt: { defaults: virtDefaults, setters: { ...commonSetters, ...virtSetters } },
  q35: { defaults: q35Defaults, setters: { ...commonSetters, ...q35Setters } },
};

/** `pc` is told from what nobody has: with an intel-iommu it is refused in QEMU's words. */
const PC = /^(?:pc|isapc|pc-i440fx-.+|pc-\d\.\d+|rhel\d\.\d\.\d)$/;

/** The options of a machine type, none of them said. @throws Refusal where there is no such type */
function ofType(value: string, notes: string[]): MachineOptions {
  const found = findMachineType(value);
  if (found === null) {
    const near = nearest(value, currentTypes);
    throw new Refusal(`unsupported machine type: "${value}"`, {
      found: PC.test(value) ? "a machine without PCI Express, which viommu does not have" : near === null ? "a machine that viommu does not have" : `did you mean ${near}?`,
      wouldWork: PC.test(value) ? "q35" : BOARD_KINDS.map((kind) => boardTraits[kind]).map(({ alias, prefix }) => `${alias}, ${prefix}-${VERSIONS[0]} to ${prefix}-${VERSIONS.at(-1)!}`).join(", "),
      rule: "unsupported-machine",
    });
  }
  const { board, version, note } = found;
  if (note !== null) {
    notes.push(note);
  }
  const [major, minor] = version.split(".").map(Number);
  return { ...BOARD_OPTIONS[board].defaults(), type: `${boardTraits[board].prefix}-${version}`, version: [major, minor] };
}

/** The options of a board's last machine type, none of them said. */
export function lastOptions(board: BoardKind): MachineOptions {
  return ofType(boardTraits[board].alias, []);
}

/**
 * The options of the machine's type, none of them said: the type decides what the others are, wherever it stands. The
 * last one counts; none is told later, and until then options are held against those of virt.
 * @param intelIommu the command line has a -device intel-iommu
 */
export function startOptions(given: ReadonlyArray<{ readonly where: string; readonly parsed: OptionString }>, intelIommu: boolean, notes: string[] = []): MachineOptions {
  let options: MachineOptions = virtDefaults();
  for (const { where, parsed } of given) {
    const type = parsed.values.get("type");
    if (type !== undefined) {
      options = located(where, () => {
        const name = scalar("type", type);
        if (PC.test(name) && intelIommu) {
          throw new Refusal("Parameter 'driver' expects a dynamic sysbus device type for the machine", {
            found: `-device intel-iommu on -machine ${name}, whose PCI has no place for an IOMMU`,
            wouldWork: "-machine q35",
          });
        }
        return ofType(name, notes);
      });
    }
  }
  return options;
}

/** Takes one -machine option but its type into `options`; several add up, as in QEMU. */
export function applyMachineOption(options: MachineOptions, parsed: OptionString, notes: string[]): void {
  const setters = BOARD_OPTIONS[options.board].setters as Readonly<Record<string, Setter<MachineOptions>>>;
  const refusals = new RefusalCollector();
  for (const [rawKey, rawValue] of parsed.values) {
    refusals.attempt(() => applyMachineProperty(options, setters, rawKey, scalar(rawKey, rawValue), notes), { property: rawKey });
  }
  refusals.throwAll();
}

function applyMachineProperty(options: MachineOptions, setters: Readonly<Record<string, Setter<MachineOptions>>>, given: string, value: string, notes: string[]): void {
  const key = given.replaceAll("_", "-");
  if (key === "type") {
    return;
  }
  const setter = Object.hasOwn(setters, key) ? setters[key] : undefined;
  if (setter === undefined) {
    // smp., memory. and boot. are QEMU's long forms of -smp, -m and -boot.
    throw new Refusal(`Property '${options.type === "" ? "virt-11.1" : options.type}-machine.${given}' not found`, {
      found: `${given}=${value}${hint(key, options.board, Object.keys(setters))}`,
      wouldWork: listed([...Object.keys(setters), "type"].sort()),
    });
  }
  setter(options, value, notes);
}

/** Where a property is that the board has not. */
function hint(key: string, board: BoardKind, names: readonly string[]): string {
  const other = BOARD_KINDS.find((kind) => kind !== board && Object.hasOwn(BOARD_OPTIONS[kind].setters, key));
  if (other !== undefined) {
    return `, which is a property of ${boardTraits[other].alias}`;
  }
  const near = nearest(key, names);
  return near === null ? "" : `; did you mean ${near}?`;
}
