import { switchTrace } from "../../support/index.js";
import { unplug } from "../commands/devices.js";
import { findEvents } from "../commands/trace.js";
import { runStateCommands } from "../commands/run-state.js";
import type { CommandContext } from "../command.js";
import { QmpError } from "../errors.js";
import { formatJson } from "../json.js";
import { findNode, listNode, readProperty } from "../qom/node.js";
import { qomTree } from "../qom/tree.js";
import { type HmpCommand, type HmpParameter, UsageError } from "./command.js";

const word = (name: string): HmpParameter => ({ name, type: "word" });

/** A command that is the QMP command of that name. */
function same(names: string, qmp: string, help: string): HmpCommand {
  const command = runStateCommands.find((one) => one.name === qmp)!;
  return {
    name: names,
    parameters: [],
    usage: "",
    help,
    run: (_args, context) => {
      void command.run({}, context);
      return "";
    },
  };
}

/** QEMU's names, parameters and help. */
export const hmpCommands: readonly HmpCommand[] = [
  same("stop|s", "stop", "stop emulation"),
  same("cont|c", "cont", "resume emulation"),
  same("quit|q", "quit", "quit the emulator"),
  same("system_reset", "system_reset", "reset the system"),
  same("system_powerdown", "system_powerdown", "send system power down event"),
  {
    name: "device_add",
    parameters: [{ name: "device", type: "rest", optional: true }],
    usage: "driver[,prop=value][,...]",
    help: "add device, like -device on the command line",
    run: ({ device }, { target }) => {
      target.machine.hotplug.plug(device ?? "");
      return "";
    },
  },
  {
    name: "device_del",
    parameters: [word("id")],
    usage: "device",
    help: "remove device",
    run: ({ id }, { target }) => {
      unplug(target, id);
      return "";
    },
  },
  {
    name: "object_add",
    parameters: [{ name: "object", type: "rest" }],
    usage: "[qom-type=]type,id=str[,prop=value][,...]",
    help: "create QOM object",
    run: ({ object }, { target }) => {
      target.machine.board.objects.add(object);
      return "";
    },
  },
  {
    name: "object_del",
    parameters: [word("id")],
    usage: "id",
    help: "destroy QOM object",
    run: ({ id }, { target }) => {
      target.machine.board.objects.delete(id);
      return "";
    },
  },
  {
    name: "trace-event",
    parameters: [word("name"), { name: "option", type: "word", optional: true }],
    usage: "name on|off",
    help: "changes status of a specific trace event",
    run: ({ name, option }) => {
      if (option !== "on" && option !== "off") {
        throw new UsageError("Expected 'on' or 'off'");
      }
      return withoutPrefix(() => {
        findEvents(name).forEach((event) => switchTrace(event, option === "on"));
        return "";
      });
    },
  },
  {
    name: "qom-list",
    parameters: [{ ...word("path"), optional: true }],
    usage: "path",
    help: "list QOM properties",
    run: ({ path }, { target }) => listNode(findNode(qomTree(target), path ?? "/").node).map(({ name, type }) => `${name} (${type})\n`).join(""),
  },
  {
    name: "qom-get",
    parameters: [word("path"), word("property")],
    usage: "path property",
    help: "print QOM property",
    run: ({ path, property }, context) => `${formatJson(readProperty(findNode(tree(context), path), property))}\n`,
  },
];

function tree({ target }: CommandContext): ReturnType<typeof qomTree> {
  return qomTree(target);
}

/** Some commands of QEMU print their error without saying that it is one. */
export function withoutPrefix(body: () => string): string {
  try {
    return body();
  } catch (error) {
    if (error instanceof QmpError) {
      return `${error.desc}\n`;
    }
    throw error;
  }
}
