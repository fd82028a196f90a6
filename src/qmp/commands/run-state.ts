/** Commands that let the machine run, stop, start anew or end (QEMU's qapi/run-state.json, qapi/misc.json). */
import { type QmpCommand, query } from "../command.js";
import { generic } from "../errors.js";

export const runStateCommands: readonly QmpCommand[] = [
  query("query-status", ({ target }) => {
    const { status, running } = target.machine.runState;
    return { status, running };
  }),
  query("stop", ({ target }) => {
    target.machine.runState.stop();
    return undefined;
  }),
  query("cont", ({ target }) => {
    const { runState } = target.machine;
    if (runState.status === "shutdown" || runState.status === "internal-error") {
      throw generic("Resetting the Virtual Machine is required");
    }
    runState.resume();
    return undefined;
  }),
  query("system_reset", ({ target }) => {
    if (target.machine.args.control.noReboot) {
      target.machine.events.emit({ name: "SHUTDOWN", data: { guest: false, reason: "host-qmp-system-reset" } });
      target.quit();
    } else {
      target.machine.reset();
    }
    return undefined;
  }),
  query("system_powerdown", ({ target }) => {
    target.machine.powerDown();
    return undefined;
  }),
  query("system_wakeup", () => {
    throw generic("wake-up from suspend is not supported by this guest");
  }),
  query("quit", ({ target }) => {
    target.machine.events.emit({ name: "SHUTDOWN", data: { guest: false, reason: "host-qmp-quit" } });
    target.quit();
    return undefined;
  }),
];
