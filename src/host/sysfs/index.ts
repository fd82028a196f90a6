/** A host's files: read from this machine, from a copy of it, or from a capture. */
export { pack, unpack } from "./archive.js";
export { collect, NOTES, type Notes, notesOf, type ReadHwInfo } from "./collect.js";
export { blanked, capabilitiesOf, type Capability, word } from "./config-space.js";
export { FUNCTION_FILES, FUNCTION_LINKS, GROUP_FILES, HUGEPAGE_FILES, IOMMU_FILES, IORT_FILE, KERNEL_OPTIONS, NODE_FILES, PROC_FILES } from "./copied.js";
export { Snapshot } from "./snapshot.js";
export { type FileSource, FolderSource, MachineSource, type NodeState, type Places, PLACES } from "./source.js";
