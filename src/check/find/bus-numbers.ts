/** Root buses whose numbers leave too little room for the buses below. */
import { crowdedRootBuses, type Machine } from "../../machine/index.js";
import type { Raised, Subject } from "../subject.js";

export function busNumbers(subject: Subject, { board }: Machine): Raised[] {
  return crowdedRootBuses(board.pci, board.map.busCount).map(({ words, found, wouldWork, cure }): Raised => {
    const argument = board.functions.find(({ fn }) => fn === cure.bus.bridge)?.argument;
    const device = argument === undefined ? null : (subject.args.devices.find((one) => one.text === argument.text && one.id === argument.id) ?? null);
    if (device === null) {
      return { rule: "bus-room", words, found, wouldWork, spot: null };
    }
    return { rule: "bus-room", words, found, wouldWork, spot: subject.spotOf(device, "bus_nr"), mend: [{ kind: "set", option: subject.optionOf(device), property: "bus_nr", value: String(cure.number) }] };
  });
}
