/** The machine's IOMMUs and the host's, as they are at this moment. */
import { isSmmu, isVtd, type Machine, type MachineSmmu, type MachineVtd } from "../../machine/index.js";
import { toBigInt } from "../../support/index.js";
import { SMMU_REGISTERS, type UnitState, vtdRegisters } from "../state/index.js";
import { ReadOnlyWords } from "./read-only-words.js";

export function unitsOf(machine: Machine): UnitState[] {
  const { board, host } = machine;
  const memory = new ReadOnlyWords(board.words);
  const own = board.iommus.flatMap((iommu): UnitState[] => {
    const registers = isSmmu(iommu) ? smmuRegisters(iommu) : isVtd(iommu) ? vtdRegistersOf(iommu) : null;
    return registers === null ? [] : [{ id: iommu.id, side: "guest", architecture: iommu.kind, registers, memory, batch: iommu.lastBatch() }];
  });
  const others = host.inspector?.units() ?? [];
  return [...own, ...others.map((unit): UnitState => ({ ...unit, side: "host", memory: new ReadOnlyWords(unit.memory), batch: null }))];
}

/** Page 1 is an alias of page 0. */
function smmuRegisters({ device: { registers } }: MachineSmmu): Map<string, bigint> {
  return new Map(
    SMMU_REGISTERS.map(({ name, offset, bits }) => {
      const at = offset & 0xffff;
      return [name, toBigInt(bits === 64 ? registers.read(at + 4) : 0, registers.read(at))];
    }),
  );
}

/** RTADDR and IRTA as SRTP and SIRTP took them; what was written since is _WRITTEN. */
function vtdRegistersOf({ device }: MachineVtd): Map<string, bigint> {
  const { registers, rootTable, interruptTable } = device;
  const values = new Map(
    vtdRegisters(toBigInt(registers.cap[1], registers.cap[0]), toBigInt(registers.ecap[1], registers.ecap[0])).map(({ name, offset, bits }): [string, bigint] => [
      name,
      toBigInt(bits === 64 ? registers.read(offset + 4) : 0, registers.read(offset)),
    ]),
  );
  for (const [name, taken] of [["RTADDR", rootTable], ["IRTA", interruptTable]] as const) {
    const inForce = toBigInt(taken[1], taken[0]);
    const written = values.get(name);
    if (written !== undefined && written !== inForce) {
      values.set(`${name}_WRITTEN`, written);
    }
    values.set(name, inForce);
  }
  return values;
}
