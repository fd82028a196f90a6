/** What a guest says while it runs. */
import { type GuestReport, stepLine } from "../guest/index.js";

/** Lines that are kept; of more only the number is told. */
const KEPT = 1000;

export class Said {
  private readonly lines: string[] = [];
  private more = 0;

  /** `show`: takes each line as it is said. */
  constructor(private readonly show: (text: string) => void = () => {}) {}

  readonly say = (text: string): void => {
    if (this.lines.length < KEPT) {
      this.lines.push(text);
    } else {
      this.more++;
    }
    this.show(text);
  };

  /** All but the lines about steps, which the account has anyway. */
  besides(guest: GuestReport): string[] {
    const steps = new Set(guest.steps.map(stepLine));
    return [...this.lines.filter((line) => !steps.has(line)), ...(this.more === 0 ? [] : [`and ${this.more} more lines`])];
  }
}
