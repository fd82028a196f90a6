/** From which row another follows. What happens in one turn of the process follows from what began the turn, but where more is known. */
import type { Kind } from "./kinds.js";

/** What is looked at of a row. */
export interface Link {
  readonly number: number;
  readonly kind: Kind;
  readonly detail: boolean;
  readonly refused: boolean;
  readonly iommu: string | null;
  readonly function: string | null;
  readonly streamId: number | null;
}

export class Causes {
  /** The newest row of each kind in this turn. */
  private readonly turn = new Map<Kind, Link>();
  private latest: Link | null = null;
  /** The newest store by IOMMU: a queue that is long is worked on behind it. */
  private readonly stores = new Map<string, number>();
  /** The newest request that was terminated, by function: its event may come later. */
  private readonly refused = new Map<string, number>();
  private open = false;

  /** The cause of a row that comes now. */
  of(row: Omit<Link, "number">): Link | null {
    const { turn } = this;
    switch (row.kind) {
      case "store":
      case "machine":
        return null;
      case "command":
        return (row.detail ? turn.get("command") : turn.get("store")) ?? this.past(this.stores.get(row.iommu ?? ""), "store", row);
      case "host":
        return turn.get("command") ?? turn.get("store") ?? turn.get("machine") ?? null;
      case "event":
        return (row.detail ? turn.get("event") : undefined) ?? this.request(row) ?? turn.get("command") ?? turn.get("store") ?? null;
      case "dma":
        return row.detail ? this.request(row) : null;
      case "interrupt":
        return row.function === null ? (turn.get("event") ?? turn.get("command") ?? turn.get("store") ?? null) : this.request(row);
    }
  }

  /** A row has come. */
  note(row: Link): void {
    if (!this.open) {
      this.open = true;
      queueMicrotask(() => this.end());
    }
    if (row.kind === "store" || row.kind === "machine") {
      this.turn.clear();
    }
    if (row.kind === "store" && row.iommu !== null) {
      this.stores.set(row.iommu, row.number);
    }
    if (row.refused && row.function !== null) {
      this.refused.set(row.function, row.number);
    }
    if (!(row.kind === "command" && row.detail)) {
      this.turn.set(row.kind, row);
    }
    this.latest = row;
  }

  /** Whether the newest row is of this turn. */
  get inTurn(): boolean {
    return this.open && this.latest !== null;
  }

  /** What comes from now on has another reason. */
  end(): void {
    this.open = false;
    this.latest = null;
    this.turn.clear();
  }

  /** The function's request that a row is about. */
  private request(row: Omit<Link, "number">): Link | null {
    const now = this.turn.get("dma");
    if (now !== undefined && (row.function === null || now.function === row.function)) {
      return now;
    }
    return row.kind === "event" ? this.past(this.refused.get(row.function ?? ""), "dma", row) : null;
  }

  private past(number: number | undefined, kind: Kind, row: Omit<Link, "number">): Link | null {
    return number === undefined ? null : { ...row, number, kind };
  }
}
