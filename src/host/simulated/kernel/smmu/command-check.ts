/** Which of a guest's commands the kernel takes (Linux 7.3 arm_vsmmu_validate_user_cmd and _range). */
import { CommandRules } from "../../../../smmuv3/lookup/index.js";
import { CMD, CMD_WORDS, OP } from "../../../../smmuv3/spec/index.js";

/** Judges commands by the ID registers of a physical SMMU. */
export class CommandCheck {
  private readonly rules: CommandRules;
  private readonly reduced = new Int32Array(CMD_WORDS);

  constructor(idr: ArrayLike<number>) {
    this.rules = new CommandRules(idr);
  }

  /**
   * Whether the four words at `at` are a command of this SMMU without a bit that is reserved for it: RES0 and Secure
   * bits, ASIDs beyond its bits, a SubstreamID where there are none, an ATC_INV without ATS or of a size that is not
   * defined; and ranges as they may be: TG 0 alone, TG with a range or a level, and no level 1 of the 16K granule.
   */
  takes(commands: Int32Array, at: number): boolean {
    const { reduced } = this;
    for (let word = 0; word < CMD_WORDS; word++) {
      reduced[word] = commands[at + word];
    }
    if (!this.rules.admit(reduced)) {
      return false;
    }
    // The VMID is the kernel's to fill in. A SubstreamID without SSV is the guest's to waste, where there are any.
    const free = (reduced[0] & CMD.OPCODE.mask) === OP.ATC_INV && this.rules.substreams ? CMD.SSID.inPlace | CMD.GLOBAL.inPlace : 0;
    return (
      ((reduced[0] ^ commands[at]) & ~free) === 0 &&
      ((reduced[CMD.VMID.word] ^ commands[at + CMD.VMID.word]) & ~this.vmidOf(reduced[0])) === 0 &&
      reduced[2] === commands[at + 2] &&
      reduced[3] === commands[at + 3]
    );
  }

  private vmidOf(first: number): number {
    const opcode = first & CMD.OPCODE.mask;
    // TLBI_NSNH_ALL has none: it becomes TLBI_NH_ALL of the VMID once it is judged.
    return opcode === OP.ATC_INV || opcode === OP.CFGI_CD || opcode === OP.CFGI_CD_ALL || opcode === OP.TLBI_NSNH_ALL ? 0 : CMD.VMID.inPlace;
  }
}
