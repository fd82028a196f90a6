import type { SimulatedHost } from "../../src/host/simulated/index.js";
import type { Architecture } from "./intent.js";
import { smmuArchitecture } from "./smmu-intent.js";
import { vtdArchitecture } from "./vtd-intent.js";

/** A host's functions are passed through to machines of its architecture. */
export function architectureOf(host: SimulatedHost): Architecture {
  return host.hardware.vtds.size > 0 ? vtdArchitecture : smmuArchitecture;
}
