/** The boards that there are: the one place that knows them all by their classes. */
import type { Host } from "../iommufd/index.js";
import type { Log } from "../support/index.js";
import type { BoardKind, MachineArguments } from "./arguments/index.js";
import type { Board } from "./board.js";
import { Q35Board } from "./q35/board.js";
import { VirtBoard } from "./virt/board.js";

const BOARDS: Readonly<Record<BoardKind, new (args: MachineArguments, host: Host, log: Log) => Board>> = { virt: VirtBoard, q35: Q35Board };

/** The board that the arguments ask for. @throws Refusal or HostError, with nothing left of it */
export function makeBoard(args: MachineArguments, host: Host, log: Log): Board {
  return new BOARDS[args.machine.board](args, host, log);
}
