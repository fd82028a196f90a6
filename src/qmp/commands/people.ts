import { type QmpCommand, optional, text } from "../command.js";
import { executeLine } from "../hmp/execute.js";

/** A line of the monitor for people; what it would have printed is the answer (QEMU's qapi/misc.json). */
export const humanMonitorCommand: QmpCommand = {
  name: "human-monitor-command",
  parameters: { "command-line": text, "cpu-index": optional({ type: "integer" }) },
  run: (args, context) => executeLine(args["command-line"] as string, context).replaceAll("\n", "\r\n"),
};
