/** What PrimeCells have in common: 32-bit registers in a page of 4 KiB, and their identification at its end. */
import type { MmioHandler } from "../memory/index.js";

const IDENTIFICATION = 0xfe0;
/** PCellID: every PrimeCell's last four. */
const CELL_ID = [0x0d, 0xf0, 0x05, 0xb1] as const;

export abstract class ArmCell implements MmioHandler {
  private readonly identification: readonly number[];

  /** @param peripheral PeriphID0 to 3 */
  protected constructor(peripheral: readonly [number, number, number, number]) {
    this.identification = [...peripheral, ...CELL_ID];
  }

  /** `offset` is a multiple of 4. */
  protected abstract readRegister(offset: number): number;
  protected abstract writeRegister(offset: number, value: number): void;

  /** Drivers read 8, 16 or 32 bits of a register. What lies in no register reads as zero. */
  read(offset: number, size: number): bigint {
    if (offset % 4 !== 0) {
      return 0n;
    }
    const value = offset >= IDENTIFICATION ? (this.identification[(offset - IDENTIFICATION) / 4] ?? 0) : this.readRegister(offset);
    return BigInt.asUintN(8 * size, BigInt(value >>> 0));
  }

  write(offset: number, _size: number, value: bigint): void {
    if (offset % 4 === 0) {
      this.writeRegister(offset, Number(value & 0xffff_ffffn));
    }
  }
}
