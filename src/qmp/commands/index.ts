/** The commands by name, one file for each of QEMU's schema modules that they come from. */
import type { QmpCommand } from "../command.js";
import { deviceCommands } from "./devices.js";
import { inspectCommands } from "./inspect.js";
import { humanMonitorCommand } from "./people.js";
import { qomCommands } from "./qom.js";
import { queryCommands } from "./queries.js";
import { runStateCommands } from "./run-state.js";
import { timelineCommands } from "./timeline.js";
import { traceCommands } from "./trace.js";

export const commands: ReadonlyMap<string, QmpCommand> = new Map(
  [...runStateCommands, ...queryCommands, ...deviceCommands, ...qomCommands, ...traceCommands, ...inspectCommands, ...timelineCommands, humanMonitorCommand].map((command) => [command.name, command]),
);
