/** The commands by name, one file for each of QEMU's schema modules that they come from. */
import type { QmpCommand } from "../command.js";
import { queryCommands } from "./queries.js";
import { runStateCommands } from "./run-state.js";

export const commands: ReadonlyMap<string, QmpCommand> = new Map([...runStateCommands, ...queryCommands].map((command) => [command.name, command]));
