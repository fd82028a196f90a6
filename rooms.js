/**
 * The rooms of src/ and which doors (index.ts) each may go through. The order is the direction of
 * imports: a room names only rooms above it in this table. docs/architecture.md tells why.
 */
export const rooms = {
  support: [],
  chardev: ["support"],
  memory: ["support"],
  translation: ["support", "memory"],
  "dma-engine": ["translation"],
  iommufd: ["support", "memory"],
  nesting: ["support", "iommufd"],
  "smmuv3/spec": ["support"],
  "vtd/spec": ["support"],
  "vtd/lookup": ["support", "memory", "translation", "vtd/spec"],
  "smmuv3/lookup": ["support", "memory", "translation", "smmuv3/spec"],
  "host/simulated": ["support", "memory", "translation", "dma-engine", "iommufd", "smmuv3/spec", "smmuv3/lookup", "vtd/spec", "vtd/lookup"],
  pci: ["support", "memory"],
  msi: ["support", "memory", "pci"],
  smmuv3: ["support", "memory", "translation", "iommufd", "nesting", "pci", "smmuv3/spec", "smmuv3/lookup"],
  vtd: ["support", "memory", "translation", "iommufd", "nesting", "pci", "vtd/spec", "vtd/lookup"],
  devices: ["support", "memory", "translation", "dma-engine", "pci", "msi"],
  vfio: ["support", "memory", "iommufd", "pci", "msi"],
  port: ["support"],
  "machine/firmware": ["support"],
  qtest: ["support", "memory", "port"],
  "machine/arguments": ["support", "chardev", "smmuv3", "vtd"],
  machine: ["machine/arguments", "machine/firmware", "support", "chardev", "memory", "iommufd", "pci", "msi", "smmuv3", "vtd", "devices", "vfio", "port"],
  qmp: ["support", "chardev", "memory", "pci", "iommufd", "msi", "smmuv3", "vfio", "machine/arguments", "machine"],
  guest: ["support", "port", "smmuv3/spec", "vtd/spec"],
  remote: ["support", "chardev", "port", "qtest", "guest"],
  run: ["support", "memory", "iommufd", "pci", "msi", "smmuv3", "machine/arguments", "machine", "port", "guest", "host/simulated", "chardev", "qtest", "remote", "qmp"],
  cli: ["support", "iommufd", "machine/arguments", "machine", "run", "host/simulated", "chardev", "qtest"],
};
