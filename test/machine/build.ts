import { readFileSync } from "node:fs";
import { createSimulatedHost, describeHost, type HostDescriptionInput, type SimulatedHost } from "../../src/host/simulated/index.js";
import { HostObserver, observeHost } from "../../src/host/instruments/index.js";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { Log } from "../../src/support/index.js";
import { words } from "./refused.js";

export function hostInput(name: string): HostDescriptionInput {
  return JSON.parse(readFileSync(new URL(`../../hosts/${name}.json`, import.meta.url), "utf8")) as HostDescriptionInput;
}

export interface Built {
  readonly machine: Machine;
  readonly host: SimulatedHost;
  readonly observer: HostObserver;
  readonly log: Log;
}

/** A machine on a host that comes with the package, or on an input that a test has changed. */
export function build(line: string, input: HostDescriptionInput | string = "grace", prepare: (observer: HostObserver) => void = () => {}): Built {
  const host = createSimulatedHost(describeHost(typeof input === "string" ? hostInput(input) : input));
  const observer = new HostObserver();
  prepare(observer);
  const log = new Log();
  try {
    return { machine: new Machine(parseArguments(words(line)), observeHost(host, observer), log), host, observer, log };
  } catch (error) {
    const left = host.liveObjects();
    if (left.length > 0) {
      throw new Error(`a machine that could not be built left ${JSON.stringify(left)}: ${String(error)}`, { cause: error });
    }
    throw error;
  }
}

export const VFIO = "-object iommufd,id=iommufd0";
/** An accelerated SMMU on an expander bus with a port, and what goes behind it. */
export const ACCEL =
  `-M virt -m 1G -nodefaults ${VFIO} -device pxb-pcie,id=pcie.1,bus_nr=16 -device arm-smmuv3,primary-bus=pcie.1,id=smmu1,accel=on ` +
  "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=1 -device pcie-root-port,id=rp2,bus=pcie.1,chassis=2";
export const GPU = "-device vfio-pci,host=0009:01:00.0,id=gpu0,bus=rp1,iommufd=iommufd0";
