/** The protocol's log in QEMU's format: `[R +seconds] words` received, `[S +seconds] line` sent. */
export class QtestLog {
  private start = 0;

  constructor(
    private readonly write: (text: string) => void,
    /** Milliseconds. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  opened(): void {
    this.start = this.now();
    this.write("[I 0.000000] OPENED\n");
  }

  closed(): void {
    this.write(`[I +${this.elapsed()}] CLOSED\n`);
  }

  received(line: string): void {
    this.write(`[R +${this.elapsed()}] ${line}\n`);
  }

  sent(text: string): void {
    this.write(`[S +${this.elapsed()}] ${text}`);
  }

  private elapsed(): string {
    return ((this.now() - this.start) / 1000).toFixed(6);
  }
}
