/** Names of machine types: QEMU 11.1's, those that older QEMUs had, and distributions' as the upstream version that they follow. */
import { BOARD_KINDS, type BoardKind, boardTraits } from "./boards.js";

/** Machine types of QEMU 11.1, `virt` and `q35` being the last. */
export const VERSIONS = ["5.2", "6.0", "6.1", "6.2", "7.0", "7.1", "7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0", "10.1", "10.2", "11.0", "11.1"];

/** Those that QEMU had before (hw/i386/pc_q35.c from 1.4, hw/arm/virt.c from 2.6): each is taken as the oldest that there is. */
const GONE = [
  ...["1.4", "1.5", "1.6", "1.7", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "2.10", "2.11", "2.12"],
  ...["3.0", "3.1", "4.0", "4.0.1", "4.1", "4.2", "5.0", "5.1"],
];

/** RHEL's and CentOS Stream's, by the QEMU that each release came with; seen in a changelog of 9.4.0, the others are known by their releases. */
const RHEL: Readonly<Record<string, string>> = {
  "7.3.0": "2.6",
  "7.4.0": "2.9",
  "7.5.0": "2.10",
  "7.6.0": "2.12",
  "8.0.0": "3.1",
  "8.1.0": "4.1",
  "8.2.0": "4.2",
  "8.3.0": "5.1",
  "8.4.0": "5.2",
  "8.5.0": "6.0",
  "8.6.0": "6.2",
  "9.0.0": "6.2",
  "9.2.0": "7.2",
  "9.4.0": "8.2",
  "9.6.0": "9.1",
  "9.8.0": "10.1",
  "10.0.0": "9.1",
  "10.2.0": "10.1",
};

/** Ubuntu's, by the QEMU of each release. */
const UBUNTU: Readonly<Record<string, string>> = {
  xenial: "2.5",
  yakkety: "2.6",
  zesty: "2.8",
  artful: "2.10",
  bionic: "2.11",
  cosmic: "2.12",
  disco: "3.1",
  eoan: "4.0",
  focal: "4.2",
  groovy: "5.0",
  hirsute: "5.2",
  impish: "6.0",
  jammy: "6.2",
  kinetic: "7.0",
  lunar: "7.2",
  mantic: "8.0",
  noble: "8.2",
  oracular: "9.0",
  plucky: "9.2",
  questing: "10.1",
  resolute: "10.2",
};

export interface MachineType {
  readonly board: BoardKind;
  /** Of VERSIONS. */
  readonly version: string;
  /** Whose name it is; null: QEMU 11.1 has it. */
  readonly note: string | null;
}

/** Every name that is QEMU 11.1's. */
export const currentTypes: readonly string[] = [...BOARD_KINDS.map((kind) => boardTraits[kind].alias), ...BOARD_KINDS.flatMap((kind) => VERSIONS.map((one) => `${boardTraits[kind].prefix}-${one}`))];

/** The machine type of a name; null: nobody has it here. */
export function findMachineType(name: string): MachineType | null {
  // Proxmox tells its own changes apart behind a plus.
  const [, base, pve] = /^(.*?)(\+pve\d+)?$/s.exec(name)!;
  const found = findBase(base);
  if (found === null || pve === undefined) {
    return found;
  }
  return { ...found, note: found.note ?? `-machine ${name}: Proxmox VE's name for ${base}` };
}

function findBase(name: string): MachineType | null {
  if (name === "ubuntu" || name === "ubuntu-q35" || name === "ubuntu-virt") {
    return { board: name === "ubuntu-virt" ? "virt" : "q35", version: VERSIONS.at(-1)!, note: `-machine ${name}: Ubuntu's name for its last machine type` };
  }
  const board = BOARD_KINDS.find((kind) => name === boardTraits[kind].alias || name.startsWith(`${boardTraits[kind].prefix}-`));
  if (board === undefined) {
    return null;
  }
  const { alias, prefix } = boardTraits[board];
  if (name === alias) {
    return { board, version: VERSIONS.at(-1)!, note: null };
  }
  const version = name.slice(prefix.length + 1);
  if (VERSIONS.includes(version)) {
    return { board, version, note: null };
  }
  const rhel = /^rhel(\d+\.\d+\.\d+)$/.exec(version)?.[1];
  // -hpb: host-phys-bits=on; -maxcpus: more processors; -v2: a corrected one.
  const ubuntu = /^([a-z]+)(?:-hpb|-maxcpus|-v\d)?$/.exec(version)?.[1];
  const [whose, upstream] =
    rhel !== undefined ? ["RHEL's", RHEL[rhel]] : ubuntu !== undefined && Object.hasOwn(UBUNTU, ubuntu) ? ["Ubuntu's", UBUNTU[ubuntu]] : ["older QEMU's", GONE.includes(version) ? version : undefined];
  if (upstream === undefined) {
    return null;
  }
  const taken = VERSIONS.includes(upstream) ? upstream : VERSIONS[0];
  const follows = whose === "older QEMU's" ? "a machine type that QEMU 11.1 has no more" : `${whose} machine type, which follows ${prefix}-${upstream}`;
  return { board, version: taken, note: `-machine ${name}: ${follows}${taken === upstream ? "" : `, taken as ${prefix}-${taken}, the oldest that there is`}` };
}
