/** A described host for people, as a host file, and for Kubernetes. */
export { formatHost } from "./host-text.js";
export { hostFileText } from "./host-file.js";
export { formatResourceSlices, resourceSlices } from "./resource-slices.js";
