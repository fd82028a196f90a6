/**
 * What the machine has to tell its user while it runs. Guest errors are limited in rate: a guest may
 * repeat a mistake a million times, the log shows the first few of a kind and how many followed.
 */
export interface LogLine {
  readonly level: "warning" | "guest-error" | "info";
  readonly text: string;
}

/** The fault that a line tells of, as an IOMMU records it. */
export interface LoggedFault {
  /** The user's id of the IOMMU. */
  readonly iommu: string;
  /** SMMUv3's event number, VT-d's fault reason. */
  readonly number: number;
  /** StreamID, source id. */
  readonly streamId: number;
  /** PASID, SubstreamID; null: none. */
  readonly substreamId: number | null;
  readonly inputAddress: bigint;
}

export class Log {
  /** How many lines of one kind of guest error are kept before the rest is only counted. */
  static readonly linesPerKind = 8;
  /** How many faults are kept, of whatever kind, for those who can tell which were meant to happen. */
  static readonly faultsKept = 512;

  readonly lines: LogLine[] = [];
  private readonly faults: Array<{ readonly kind: string; readonly fault: LoggedFault; readonly line: LogLine }> = [];
  private readonly counts = new Map<string, number>();
  private readonly said = new Set<string>();

  constructor(private readonly sink: (line: LogLine) => void = () => {}) {}

  warn(text: string): void {
    this.add({ level: "warning", text });
  }

  /** A warning about something that a guest can bring about again and again; limited by its kind, as guest errors are. */
  warnLimited(kind: string, text: string): void {
    if (this.count(kind)) {
      this.add({ level: "warning", text });
    }
  }

  /** A warning that holds as long as the machine does: said once, however often its cause comes back (a function plugged again). */
  warnOnce(text: string): void {
    if (!this.said.has(text)) {
      this.said.add(text);
      this.warn(text);
    }
  }

  info(text: string): void {
    this.add({ level: "info", text });
  }

  /** A guest's mistake of the given kind (the key of the rate limit, such as "smmuv3.bad-command"). */
  guestError(kind: string, text: string | (() => string)): void {
    if (this.count(kind)) {
      this.add({ level: "guest-error", text: typeof text === "string" ? text : text() });
    }
  }

  /** A guest error that is a fault of its translation: `warningsBut` can leave it out. */
  fault(kind: string, text: () => string, fault: () => LoggedFault): void {
    const shown = this.count(kind);
    const kept = this.faults.length < Log.faultsKept;
    if (!shown && !kept) {
      return;
    }
    const line: LogLine = { level: "guest-error", text: text() };
    if (kept) {
      this.faults.push({ kind, fault: fault(), line });
    }
    if (shown) {
      this.add(line);
    }
  }

  /**
   * Warnings and guest errors, then faults but those that were meant to happen, each limited by its kind, then how
   * many more there were.
   */
  warningsBut(meant: (fault: LoggedFault) => boolean): string[] {
    const faults = new Set(this.faults.map(({ line }) => line));
    const shown = this.lines.filter((line) => line.level !== "info" && !faults.has(line)).map(({ text }) => text);
    const more = new Map(this.suppressed().map(({ kind, count }) => [kind, count]));
    for (const kind of new Set(this.faults.map((entry) => entry.kind))) {
      const wrong = this.faults.filter((entry) => entry.kind === kind && !meant(entry.fault));
      const lines = wrong.slice(0, Log.linesPerKind);
      shown.push(...lines.map(({ line }) => line.text));
      const left = this.faults.filter((entry) => entry.kind === kind).length - wrong.length;
      more.set(kind, this.counts.get(kind)! - left - lines.length);
    }
    return [...shown, ...[...more].filter(([, count]) => count > 0).map(([kind, count]) => `${kind}: ${count} more of this kind`)];
  }

  /** Whether a line of the kind is still kept. */
  private count(kind: string): boolean {
    const count = (this.counts.get(kind) ?? 0) + 1;
    this.counts.set(kind, count);
    return count <= Log.linesPerKind;
  }

  /** Kinds of guest errors and limited warnings of which more were seen than shown, with the number not shown. */
  suppressed(): Array<{ kind: string; count: number }> {
    return [...this.counts]
      .filter(([, count]) => count > Log.linesPerKind)
      .map(([kind, count]) => ({ kind, count: count - Log.linesPerKind }));
  }

  warnings(): string[] {
    return this.lines.filter((line) => line.level === "warning").map((line) => line.text);
  }

  private add(line: LogLine): void {
    this.lines.push(line);
    this.sink(line);
  }
}
