/** Which table of the host a function's requests are on, and why they are not translated where they are not. */
import { type HostError, hostError, type IommufdDevice, refusalOf } from "../iommufd/index.js";
import type { Graveyard } from "./host-objects.js";

export class Attachment<Table extends string> {
  /** Why the function is blocked, or has another table than the guest asks for; null: it has what it asks for. */
  reason: string | null = null;
  private own: number | null = null;

  constructor(
    private readonly host: IommufdDevice,
    public table: Table,
    private readonly graveyard: Graveyard,
  ) {}

  /** Onto a table that is not this function's alone; no call where it is on that kind already. Throws HostError: then it keeps what it has. */
  share(table: Table, hwptId: number): void {
    if (this.table !== table) {
      this.host.attach(hwptId);
      this.replaced(table, null);
    }
  }

  /** Onto a table of its own, made for it. Throws HostError: then nothing is left of it, and the function keeps what it has. */
  take(table: Table, make: () => number): void {
    this.replaced(table, attachMade(this.host, this.graveyard, make));
  }

  /** Frees its own table, though the function may be on it still: the host does so when that is closed. */
  abandon(): void {
    this.replaced(this.table, null);
  }

  private replaced(table: Table, own: number | null): void {
    const old = this.own;
    this.table = table;
    this.own = own;
    if (old !== null) {
      this.graveyard.destroy(this.host.iommufd, old, "nested HWPT");
    }
  }
}

/**
 * Makes a nested table and puts a function's requests on it, or those with a PASID, in the place of what they are on.
 * Throws HostError: then nothing is left of it, and they keep what they have.
 *
 * @returns the table's id
 */
export function attachMade(host: IommufdDevice, graveyard: Graveyard, make: () => number, pasid?: number): number {
  const hwptId = make();
  try {
    host.attach(hwptId, pasid);
  } catch (error) {
    graveyard.destroy(host.iommufd, hwptId, "nested HWPT");
    throw error;
  }
  return hwptId;
}

/** The guest asks for more than is done for it: what asks for it is blocked, until it asks for less. */
export class GuestLimit extends Error {}

/** What became of a function that could not be put where its guest has it: for the log and the account. */
export interface BlockOutcome {
  readonly outcome: string;
  /** False: it keeps its table, which may be stale. */
  readonly blocked: boolean;
}

/** Blocks a function; where the host refuses that, all stays as it is. `keeps`: the kind of table that it has then. */
export function blockOrKeep(block: () => void, keeps: () => string): BlockOutcome {
  const refusal = refusalOf(block);
  return refusal === null ? { outcome: "it is blocked", blocked: true } : { outcome: `it keeps its ${keeps()} table (${refusal.message})`, blocked: false };
}

/**
 * Runs a change of tables; where the host refuses it, or the guest asks for too much, `block`, and where the host
 * refuses that, too, all stays as it is. Returns null, or what was refused and what came of it.
 */
export function changeOrBlock(change: () => void, block: (refusal: HostError | GuestLimit) => void, keeps: () => string): (BlockOutcome & { readonly refusal: HostError | GuestLimit }) | null {
  try {
    change();
    return null;
  } catch (error) {
    const refusal = error instanceof GuestLimit ? error : hostError(error);
    return { refusal, ...blockOrKeep(() => block(refusal), keeps) };
  }
}
