import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_RESERVED_FAULT,
  WALK_TRANSLATION_FAULT,
  WALK_UPDATE_FAULT,
  type X86Tables,
} from "../../src/translation/index.js";

/**
 * A second implementation of VT-d's walks to compare with: BigInt, recursive, entries taken apart by the
 * specification's tables of fields, sharing no code with the walkers but the codes.
 */
export interface X86Result {
  code: number;
  out?: bigint;
  pageBits?: number;
  permissions?: string;
  level?: number;
  clean?: boolean;
  faultStage?: number;
  faultLevel?: number;
  /** Level of the first-stage entry that the second stage kept from being read or written. */
  tableLevel?: number;
  faultAccess?: number;
  faultGpa?: bigint;
  fetch?: bigint;
}

export interface Words {
  load(address: bigint): bigint | undefined;
  /** False where the memory refuses. */
  store(address: bigint, value: bigint): boolean;
}

/** What all entries so far grant, for users and for supervisors. */
interface Rights {
  readonly user: ReadonlySet<string>;
  readonly supervisor: ReadonlySet<string>;
}

interface Leaf {
  readonly entry: bigint;
  /** Where the entry is, in the addresses of its tables. */
  readonly at: bigint;
  readonly level: number;
  readonly bits: number;
  readonly rights: Rights;
}

type Field = readonly [high: number, low: number];
type Through = (address: bigint, access: number) => X86Result;

const NAMES = ["PTE", "PDE", "PDPTE", "PML4E", "PML5E"] as const;
/** Reserved fields of entries that lead to tables, and of leaves; address bits beyond the host's width come on top (9.8, 9.9). */
const RESERVED: Readonly<Record<"first" | "second", { table: Readonly<Record<string, readonly Field[]>>; leaf: Readonly<Record<string, readonly Field[]>> }>> = {
  first: {
    table: { PML5E: [[7, 7]], PML4E: [[7, 7]], PDPTE: [], PDE: [] },
    leaf: { PDPTE: [[29, 13]], PDE: [[20, 13]], PTE: [] },
  },
  second: {
    table: { PML5E: [[7, 7], [11, 11], [62, 62]], PML4E: [[7, 7], [11, 11], [62, 62]], PDPTE: [[11, 11], [62, 62]], PDE: [[11, 11], [62, 62]] },
    leaf: { PDPTE: [[29, 12]], PDE: [[20, 12]], PTE: [] },
  },
};

const field = (value: bigint, [high, low]: Field): bigint => (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const bit = (value: bigint, at: number): boolean => field(value, [at, at]) === 1n;
const meet = (a: ReadonlySet<string>, b: Iterable<string>): Set<string> => new Set([...b].filter((x) => a.has(x)));

export class X86Oracle {
  constructor(private readonly words: Words) {}

  walkStage1(tables: X86Tables, iova: bigint, access: number): X86Result {
    return this.first(tables, undefined, iova, access);
  }

  walkStage2(tables: X86Tables, gpa: bigint, access: number): X86Result {
    return this.second(tables, gpa, access);
  }

  walkNested(stage1: X86Tables, stage2: X86Tables, iova: bigint, access: number): X86Result {
    return this.first(stage1, (gpa, wanted) => this.second(stage2, gpa, wanted), iova, access);
  }

  private first(tables: X86Tables, through: Through | undefined, iova: bigint, access: number): X86Result {
    // Bits 63 to the width's highest are all the same.
    const upper = iova >> BigInt(tables.inputBits - 1);
    if (upper !== 0n && upper !== (1n << BigInt(65 - tables.inputBits)) - 1n) {
      return fault(WALK_ADDRESS_SIZE_FAULT, 1, 4 - tables.levels);
    }
    const leaf = this.descend(tables, through, iova, access, tables.levels, base(tables), { user: new Set("rwx"), supervisor: new Set("rwx") });
    if ("code" in leaf) {
      return leaf;
    }
    const gpa = compose(leaf, iova);
    const own: X86Result = { code: WALK_OK, out: gpa, pageBits: leaf.bits, permissions: shown(leaf.rights), level: leaf.level, clean: false };
    const output = through === undefined ? own : through(gpa, access);
    if (output.code !== WALK_OK) {
      return output;
    }
    const failed = this.mark(tables, through, leaf.entry, leaf.at, leaf.level, access, true);
    if (failed !== undefined) {
      return failed;
    }
    const clean = !bit(leaf.entry, 6) && (access & ACCESS_WRITE) === 0;
    return {
      ...own,
      out: output.out,
      pageBits: Math.min(leaf.bits, output.pageBits!),
      permissions: [...own.permissions!].map((letter, i) => (output.permissions![i] === letter ? letter : "-")).join(""),
      clean: clean || output.clean === true,
    };
  }

  private second(tables: X86Tables, gpa: bigint, access: number): X86Result {
    if (gpa >> BigInt(tables.inputBits) !== 0n) {
      return { ...fault(WALK_ADDRESS_SIZE_FAULT, 2, 4 - tables.levels), faultGpa: gpa };
    }
    const leaf = this.descend(tables, undefined, gpa, access, tables.levels, base(tables), { user: new Set("rwx"), supervisor: new Set("rwx") });
    if ("code" in leaf) {
      return { ...leaf, faultGpa: gpa };
    }
    const failed = this.mark(tables, undefined, leaf.entry, leaf.at, leaf.level, access, true);
    if (failed !== undefined) {
      return { ...failed, faultGpa: gpa };
    }
    const clean = tables.accessedDirty === true && !bit(leaf.entry, 9) && (access & ACCESS_WRITE) === 0;
    return { code: WALK_OK, out: compose(leaf, gpa), pageBits: leaf.bits, permissions: shown(leaf.rights), level: leaf.level, clean };
  }

  /** From a table of level `n` (1 is the last) on. */
  private descend(tables: X86Tables, through: Through | undefined, input: bigint, access: number, n: number, table: bigint, above: Rights): Leaf | X86Result {
    const stage = tables.format === "first" ? 1 : 2;
    const level = 4 - n;
    const shift = 3 + 9 * n;
    const at = table + field(input, [Math.min(shift + 8, 63), shift]) * 8n;
    let physical = at;
    if (through !== undefined) {
      const entryOf = through(at, ACCESS_READ);
      if (entryOf.code !== WALK_OK) {
        return { ...entryOf, tableLevel: level };
      }
      physical = entryOf.out!;
    }
    const entry = this.words.load(physical);
    if (entry === undefined) {
      return { ...fault(WALK_EXTERNAL_ABORT, stage, level), fetch: physical };
    }
    if (stage === 1 ? !bit(entry, 0) : !bit(entry, 0) && !bit(entry, 1)) {
      return fault(WALK_TRANSLATION_FAULT, stage, level);
    }
    const rights = stage === 1 ? firstRights(tables, entry, above) : secondRights(entry, above);
    const denied = deniedParts(stage, rights, access);
    if (denied !== 0) {
      return { ...fault(WALK_PERMISSION_FAULT, stage, level), faultAccess: denied };
    }
    const name = NAMES[n - 1];
    const large = (n === 2 && tables.pages2m) || (n === 3 && tables.pages1g);
    const isLeaf = n === 1 || (large && bit(entry, 7));
    const reserved: Field[] = [[51, tables.outputBits]];
    if (isLeaf) {
      reserved.push(...RESERVED[tables.format].leaf[name]);
      if (stage === 2) {
        reserved.push(...((tables.snoopControl === true ? [] : [[11, 11]]) as Field[]), ...((tables.transientMapping === true ? [] : [[62, 62]]) as Field[]));
      }
    } else {
      reserved.push(...RESERVED[tables.format].table[name], [7, 7]);
    }
    if (reserved.some((f) => f[0] >= f[1] && field(entry, f) !== 0n)) {
      return fault(WALK_RESERVED_FAULT, stage, level);
    }
    if (isLeaf) {
      return { entry, at, level, bits: shift, rights };
    }
    const failed = this.mark(tables, through, entry, at, level, access, false);
    return failed ?? this.descend(tables, through, input, access, n - 1, field(entry, [51, 12]) << 12n, rights);
  }

  /** Accessed, extended-accessed and dirty bits of an entry that has been used. */
  private mark(tables: X86Tables, through: Through | undefined, entry: bigint, at: bigint, level: number, access: number, leaf: boolean): X86Result | undefined {
    const stage = tables.format === "first" ? 1 : 2;
    const wanted: number[] = [];
    if (stage === 1) {
      wanted.push(5, ...(tables.extendedAccessed === true ? [10] : []), ...(leaf && (access & ACCESS_WRITE) !== 0 ? [6] : []));
    } else if (tables.accessedDirty === true) {
      wanted.push(8, ...(leaf && (access & ACCESS_WRITE) !== 0 ? [9] : []));
    }
    if (wanted.every((b) => bit(entry, b))) {
      return undefined;
    }
    if (tables.unsnoopedWalk === true) {
      return fault(WALK_UPDATE_FAULT, stage, level);
    }
    let physical = at;
    if (through !== undefined) {
      const writable = through(at, ACCESS_WRITE);
      if (writable.code !== WALK_OK) {
        return { ...writable, tableLevel: level };
      }
      physical = writable.out!;
    }
    const current = this.words.load(physical)!;
    return this.words.store(physical, wanted.reduce((value, b) => value | (1n << BigInt(b)), current))
      ? undefined
      : { ...fault(WALK_UPDATE_FAULT, stage, level), fetch: physical };
  }
}

/** 3.6.2: users need U/S; R/W binds supervisors only with WPE; they are served only with SRE; XD only where it is enabled. */
function firstRights(tables: X86Tables, entry: bigint, above: Rights): Rights {
  const executable = tables.executeDisable === true && bit(entry, 63) ? "" : "x";
  const user = bit(entry, 2) ? `r${bit(entry, 1) ? "w" : ""}${executable}` : "";
  const supervisor = tables.supervisor === true ? `r${bit(entry, 1) || tables.writeProtect !== true ? "w" : ""}${executable}` : "";
  return { user: meet(above.user, user), supervisor: meet(above.supervisor, supervisor) };
}

function secondRights(entry: bigint, above: Rights): Rights {
  const all = `${bit(entry, 0) ? "rx" : ""}${bit(entry, 1) ? "w" : ""}`;
  return { user: meet(above.user, all), supervisor: meet(above.supervisor, all) };
}

function deniedParts(stage: 1 | 2, rights: Rights, access: number): number {
  const own = (access & ACCESS_PRIVILEGED) !== 0 ? rights.supervisor : rights.user;
  const fetch = (access & ACCESS_EXECUTE) !== 0;
  let denied = 0;
  if (fetch && !own.has("x")) {
    denied |= ACCESS_EXECUTE;
  }
  if (!fetch && (access & ACCESS_READ) !== 0 && !own.has("r")) {
    denied |= ACCESS_READ;
  }
  if ((access & ACCESS_WRITE) !== 0 && !own.has("w")) {
    denied |= ACCESS_WRITE;
  }
  // A page of supervisors: nothing that a user asks for.
  return denied !== 0 && stage === 1 && (access & ACCESS_PRIVILEGED) === 0 && !own.has("r") ? ACCESS_PRIVILEGED : denied;
}

function shown(rights: Rights): string {
  return [..."rwx"].map((c) => (rights.user.has(c) ? c : "-")).join("") + [..."rwx"].map((c) => (rights.supervisor.has(c) ? c : "-")).join("");
}

function base(tables: X86Tables): bigint {
  return ((BigInt(tables.baseHigh >>> 0) & 0xf_ffffn) << 32n) | (BigInt(tables.baseLow >>> 0) & ~0xfffn);
}

function compose(leaf: Leaf, input: bigint): bigint {
  return (field(leaf.entry, [51, leaf.bits]) << BigInt(leaf.bits)) | field(input, [leaf.bits - 1, 0]);
}

function fault(code: number, faultStage: 1 | 2, faultLevel: number): X86Result {
  return { code, faultStage, faultLevel };
}
