/** A real machine on the simulated host, for the guest's tests. */
import { readFileSync } from "node:fs";
import { type HostDescription, loadHostDescription, createSimulatedHost } from "../../src/host/simulated/index.js";
import { parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { Log } from "../../src/support/index.js";
import { linux, type GuestContext, type GuestOptions, type GuestReport } from "../../src/guest/index.js";

export interface Ran {
  readonly report: GuestReport;
  readonly said: string[];
  readonly log: Log;
  readonly left: number;
}

export function contextFor(machine: Machine, options: Partial<GuestOptions> = {}, said: string[] = []): GuestContext {
  return {
    port: machine.port(),
    operator: machine.operator(),
    say: (text) => said.push(text),
    options: { seed: 1, granule: 4096, firmware: "dt", ...options },
  };
}

function hostDescription(name: string): HostDescription {
  return loadHostDescription(readFileSync(new URL(`../../hosts/${name}.json`, import.meta.url), "utf8"), `${name}.json`);
}

export function machineOf(host: string, line: string): { machine: Machine; log: Log; end: () => number } {
  const log = new Log();
  const simulated = createSimulatedHost(hostDescription(host));
  const machine = new Machine(parseArguments(splitWords(line, "test")), simulated, log);
  machine.start();
  return {
    machine,
    log,
    end: () => {
      machine.shutdown();
      const left = simulated.liveObjects().length;
      simulated.close();
      return left;
    },
  };
}

export async function runLinux(host: string, line: string, options: Partial<GuestOptions> = {}): Promise<Ran> {
  const { machine, log, end } = machineOf(host, line);
  const said: string[] = [];
  try {
    const report = await linux(contextFor(machine, options, said));
    return { report, said, log, left: end() };
  } catch (error) {
    throw new Error(`${said.join("\n")}\n${String(error)}`, { cause: error });
  }
}
