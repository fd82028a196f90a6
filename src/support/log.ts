/**
 * What the machine has to tell its user while it runs. Guest errors are limited in rate: a guest may
 * repeat a mistake a million times, the log shows the first few of a kind and how many followed.
 */
export interface LogLine {
  readonly level: "warning" | "guest-error" | "info";
  readonly text: string;
}

export class Log {
  /** How many lines of one kind of guest error are kept before the rest is only counted. */
  static readonly linesPerKind = 8;

  readonly lines: LogLine[] = [];
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
