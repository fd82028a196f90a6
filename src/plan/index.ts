/** What a machine needs on a host: which function behind which IOMMU, with its reasons. */
export { type FunctionFacts, HostFacts, type IommuFacts, type Offered, type SmmuFacts, type SmmuOffer, type VtdFacts, type VtdOffer } from "./host-facts.js";
