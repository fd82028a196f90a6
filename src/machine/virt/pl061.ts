/** Arm's PL061 with eight lines of general purpose (Arm DDI 0190B), to one of which the power button is wired. */
import { ArmCell } from "../arm-cell.js";

/** 0x000 to 0x3fc: the lines whose bits are set in address bits 9:2. */
const DATA_END = 0x400;
const DIR = 0x400;
const IS = 0x404;
const IBE = 0x408;
const IEV = 0x40c;
const IE = 0x410;
const RIS = 0x414;
const MIS = 0x418;
const IC = 0x41c;
const AFSEL = 0x420;

export class Pl061 extends ArmCell {
  private inputs = 0;
  private outputs = 0;
  private readonly control = new Map<number, number>();
  private edges = 0;

  constructor(private readonly setLine: (level: boolean) => void) {
    super([0x61, 0x10, 0x04, 0x00]);
  }

  reset(): void {
    this.outputs = 0;
    this.control.clear();
    this.edges = 0;
    this.update();
  }

  /** An input's level, from outside. */
  setInput(line: number, high: boolean): void {
    const bit = 1 << line;
    const changed = ((this.inputs & bit) !== 0) !== high;
    this.inputs = high ? this.inputs | bit : this.inputs & ~bit;
    const wanted = (this.register(IBE) & bit) !== 0 || ((this.register(IEV) & bit) !== 0) === high;
    if (changed && wanted && (this.register(IS) & bit) === 0) {
      this.edges |= bit;
    }
    this.update();
  }

  private register(offset: number): number {
    return this.control.get(offset) ?? 0;
  }

  /** Edges that have been, and lines that are at the level that is asked for. Outputs interrupt nobody. */
  private get raw(): number {
    const level = this.register(IS) & ~(this.inputs ^ this.register(IEV));
    return (this.edges | level) & ~this.register(DIR) & 0xff;
  }

  protected readRegister(offset: number): number {
    if (offset < DATA_END) {
      const direction = this.register(DIR);
      return ((this.outputs & direction) | (this.inputs & ~direction)) & (offset >> 2);
    }
    switch (offset) {
      case RIS:
        return this.raw;
      case MIS:
        return this.raw & this.register(IE);
      default:
        return this.register(offset);
    }
  }

  protected writeRegister(offset: number, value: number): void {
    if (offset < DATA_END) {
      const lines = (offset >> 2) & this.register(DIR);
      this.outputs = (this.outputs & ~lines) | (value & lines);
      return;
    }
    if (offset === IC) {
      this.edges &= ~value;
    } else if ([DIR, IS, IBE, IEV, IE, AFSEL].includes(offset)) {
      this.control.set(offset, value & 0xff);
    }
    this.update();
  }

  private update(): void {
    this.setLine((this.raw & this.register(IE)) !== 0);
  }
}
