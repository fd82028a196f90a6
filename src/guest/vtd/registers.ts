/** Registers of a remapping unit, and the handshake of its global command register (Intel VT-d 5.x, 11.4). */
import { extract, type Field } from "../../support/index.js";
import type { MachinePort } from "../../port/index.js";
import { GuestFailure } from "../failure.js";
import { GCMD, REG } from "../../vtd/spec/index.js";

const POLLS = 1000;
/** Bits of GSTS that are states, not acknowledgements of one command (Linux keeps them in iommu->gcmd). */
const STATES = GCMD.TE.inPlace | GCMD.EAFL.inPlace | GCMD.QIE.inPlace | GCMD.IRE.inPlace | GCMD.CFI.inPlace;

export class VtdRegisters {
  constructor(
    private readonly port: MachinePort,
    readonly name: string,
    readonly base: number,
  ) {}

  async read32(register: number): Promise<number> {
    return Number(await this.port.read(this.base + register, 4)) | 0;
  }

  read64(register: number): Promise<bigint> {
    return this.port.read(this.base + register, 8);
  }

  write32(register: number, value: number): Promise<void> {
    return this.port.write(this.base + register, 4, BigInt(value >>> 0));
  }

  write64(register: number, value: bigint): Promise<void> {
    return this.port.write(this.base + register, 8, value);
  }

  /** GSTS. */
  status(): Promise<number> {
    return this.read32(REG.GSTS);
  }

  /**
   * One global command: the states as they are, with `field` set or cleared (11.4.4: one field changes at a
   * time), and the wait for GSTS. `acknowledged`: what GSTS shows then, where that is not what was written.
   */
  async command(field: Field, value: 0 | 1, acknowledged: 0 | 1 = value): Promise<void> {
    const states = (await this.status()) & STATES;
    await this.write32(REG.GCMD, value === 1 ? states | field.inPlace : states & ~field.inPlace);
    for (let i = 0; i < POLLS; i++) {
      if (extract(await this.status(), field) === acknowledged) {
        return;
      }
    }
    throw new GuestFailure(`${this.name}: GSTS does not show bit ${field.shift} as ${acknowledged}`);
  }
}
