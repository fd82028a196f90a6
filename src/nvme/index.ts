export { NvmeController } from "./controller.js";
export type { NvmeHost, NvmeOptions } from "./host.js";
export { Namespace, type NamespaceOptions } from "./namespace.js";
