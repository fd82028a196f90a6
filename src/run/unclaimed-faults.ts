/** What the host's faults that no guest is told of mean for the machine's user. */
import type { UnclaimedFault } from "../host/simulated/kernel/index.js";
import type { Machine } from "../machine/index.js";
import { barPieces, type PciFunction } from "../pci/index.js";
import { hex } from "../support/index.js";

/** Faults that wait to be looked at; a function may have millions. */
const MOST_WAITING = 64;

/**
 * Looks at faults after the access in which they happened: DMA to another function's BAR, of which no table of the
 * host maps that page, makes a warning, once for each two functions; a request that came to nothing bound is looked up anew.
 */
export class UnclaimedFaults {
  private readonly waiting = new Map<string, UnclaimedFault>();

  constructor(private readonly machine: Machine) {}

  readonly take = (fault: UnclaimedFault): void => {
    const key = `${fault.function} ${fault.pasid} ${fault.secondStage} ${(fault.guestPhysical ?? fault.address) >> 12n}`;
    if (this.waiting.size >= MOST_WAITING || this.waiting.has(key)) {
      return;
    }
    this.waiting.set(key, fault);
    if (this.waiting.size === 1) {
      queueMicrotask(() => {
        const faults = [...this.waiting.values()];
        this.waiting.clear();
        faults.forEach((one) => this.look(one));
      });
    }
  };

  private look({ function: hostAddress, pasid, address, secondStage, guestPhysical }: UnclaimedFault): void {
    const { board, log } = this.machine;
    const fn = board.functions.find((one) => one.fn.passthrough?.hostAddress === hostAddress)?.fn;
    if (fn === undefined) {
      return;
    }
    const target = guestPhysical === null ? null : this.barAt(Number(guestPhysical), fn);
    if (target !== null) {
      log.warnOnce(`peer-to-peer DMA of ${fn.label} to ${target} is not served: tables of the host map registers of passed-through functions alone, without pages of MSI-X tables and those of x-no-mmap=on (bounce buffers in RAM would work)`);
    } else if (secondStage && guestPhysical === null) {
      log.warnOnce(
        `DMA of ${fn.label} to IOVA ${hex(address)} comes to a guest-physical address without memory: peer-to-peer DMA is served to registers of passed-through functions alone, without pages of MSI-X tables and those of x-no-mmap=on (bounce buffers in RAM would work)`,
      );
    }
    if (!secondStage) {
      fn.iommuPath.ops?.requestUnbound?.(fn.bus!, fn.devfn, pasid);
    }
  }

  /** `BAR 2 of vfio-pci 'gpu0'`; null: no other function answers there. */
  private barAt(address: number, requester: PciFunction): string | null {
    for (const { fn } of this.machine.board.functions) {
      for (const bar of fn === requester ? [] : fn.bars) {
        if (barPieces(fn, bar).some((piece) => address >= piece.address && address < piece.address + piece.size)) {
          return `BAR ${bar.index} of ${fn.label}`;
        }
      }
    }
    return null;
  }
}
