/** Which table of the host a function's requests are on, and why they are not translated where they are not. */
import { HostError, type IommufdDevice } from "../iommufd/index.js";
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
    const hwptId = make();
    try {
      this.host.attach(hwptId);
    } catch (error) {
      this.graveyard.destroy(this.host.iommufd, hwptId, "nested HWPT");
      throw error;
    }
    this.replaced(table, hwptId);
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
 * Runs a change of tables; where the host refuses it, `block`, and where it refuses that, too, all stays as it
 * is. Returns null, or what was refused and what came of it, for the log and the account.
 */
export function changeOrBlock(change: () => void, block: () => void, keeps: () => string): { readonly refusal: HostError; readonly outcome: string; readonly blocked: boolean } | null {
  try {
    change();
    return null;
  } catch (refusal) {
    if (!(refusal instanceof HostError)) {
      throw refusal;
    }
    try {
      block();
      return { refusal, outcome: "it is blocked", blocked: true };
    } catch (second) {
      if (!(second instanceof HostError)) {
        throw second;
      }
      return { refusal, outcome: `it keeps its ${keeps()} table (${second.message})`, blocked: false };
    }
  }
}
