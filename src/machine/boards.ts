/** The boards that there are: the one place that knows them all by their classes. */
import type { Host } from "../iommufd/index.js";
import type { Log } from "../support/index.js";
import type { BoardKind, MachineArguments, OptionsOf } from "./arguments/index.js";
import type { Board } from "./board.js";
import { Q35Board } from "./q35/board.js";
import { VirtBoard } from "./virt/board.js";

type BoardClass<Args> = new (args: Args, host: Host, log: Log) => Board;

const BOARDS: { readonly [K in BoardKind]: BoardClass<MachineArguments<OptionsOf<K>>> } = { virt: VirtBoard, q35: Q35Board };

/** The board that the arguments ask for. @throws Refusal or HostError, with nothing left of it */
export function makeBoard(args: MachineArguments, host: Host, log: Log): Board {
  // The entry is of the arguments' own board.
  const Chosen = BOARDS[args.machine.board] as BoardClass<MachineArguments>;
  return new Chosen(args, host, log);
}
