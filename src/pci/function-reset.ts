/** Function level reset (PCIe 6.6.2): Initiate Function Level Reset in Device Control, which always reads as zero. */
import type { ConfigRegisters, PciFunction } from "./function.js";

const INITIATE = 0x8000;

export class FunctionLevelReset implements ConfigRegisters {
  readonly offset: number;
  readonly size = 2;

  /** @param express offset of the PCI Express capability, whose device capabilities offer the reset */
  constructor(
    private readonly fn: PciFunction,
    express: number,
  ) {
    this.offset = express + 0x08;
    fn.config.allow(this.offset, 2, INITIATE);
    fn.registers.push(this);
  }

  written(): void {
    const { config } = this.fn;
    const control = config.get16(this.offset);
    if ((control & INITIATE) !== 0) {
      config.set16(this.offset, control & ~INITIATE);
      this.fn.reset();
    }
  }
}
