/** The package's door: each room under its name, for those who embed the models. docs/architecture.md says what is in which. */
export * as devices from "./devices/index.js";
export * as guest from "./guest/index.js";
export * as iommufd from "./iommufd/index.js";
export * as machine from "./machine/index.js";
export * as machineArguments from "./machine/arguments/index.js";
export * as memory from "./memory/index.js";
export * as msi from "./msi/index.js";
export * as pci from "./pci/index.js";
export * as run from "./run/index.js";
export * as simulatedHost from "./host/simulated/index.js";
export * as smmuv3 from "./smmuv3/index.js";
export * as smmuv3Lookup from "./smmuv3/lookup/index.js";
export * as smmuv3Spec from "./smmuv3/spec/index.js";
export * as support from "./support/index.js";
export * as translation from "./translation/index.js";
export * as vfio from "./vfio/index.js";
