/** What the host's refusals of a function mean in practice, for people. */
import { FIRMWARE_WANTS_DIRECT, HostError, WALKS_INCOHERENTLY } from "../iommufd/index.js";
import { Refusal } from "../support/index.js";

/** Does a step whose refusals begin with `prefix`. */
export function prefixing(prefix: string, step: () => void): void {
  try {
    step();
  } catch (error) {
    if (error instanceof HostError) {
      throw new HostError(error.operation, error.errno, `${prefix}${error.detail}`);
    }
    throw error instanceof Refusal ? error.prefixed(prefix) : error;
  }
}

/** The rule that an errno of a step of `realize` is of. */
export function ruleOf(error: HostError): string {
  if (error.operation === "VFIO_BIND_IOMMUFD" && (error.errno === "EPERM" || error.errno === "EINVAL")) {
    // Linux says the one errno of all; the simulated kernel says which.
    return error.detail.includes(FIRMWARE_WANTS_DIRECT) ? "firmware-mapping" : error.detail.includes(WALKS_INCOHERENTLY) ? "host-nesting" : error.errno === "EPERM" ? "group-not-viable" : "function-in-use";
  }
  switch (error.errno) {
    case "ENODEV":
      return "function-not-bound";
    case "EBUSY":
      return "function-in-use";
    case "EOPNOTSUPP":
      return "host-nesting";
    case "ENOMEM":
      return "memory-lock";
    default:
      return "host-call-refused";
  }
}

/** What an errno of a step of `realize` means in practice. */
export function meaning(error: HostError): string {
  const inUse = "the function is in use, by another machine or by another vfio-pci of this one";
  const direct = "the firmware wants a function of its IOMMU group mapped one to one (RMRR; reserved_regions of the group has it as direct)";
  if (error.operation === "VFIO_BIND_IOMMUFD" && error.errno === "EINVAL") {
    // So the kernel answers a second open of a character device, an IOMMU without IOMMU_CAP_CACHE_COHERENCY, and a range that it must not unmap.
    if (error.detail.includes(WALKS_INCOHERENTLY)) {
      return "an IOMMU that walks tables coherently is needed (SMMUv3: IDR0.COHACC)";
    }
    return error.detail.includes(FIRMWARE_WANTS_DIRECT) ? direct : `${inUse}; or its IOMMU does not walk tables coherently; or ${direct}`;
  }
  if (error.operation === "VFIO_BIND_IOMMUFD" && error.errno === "EPERM") {
    return "another driver or another process has a function of its IOMMU group; or the host's interrupts are not remapped (the module parameter iommufd.allow_unsafe_interrupts)";
  }
  if (error.errno === "EBUSY") {
    return inUse;
  }
  switch (error.errno) {
    case "ENODEV":
      return "the host has no such function, or it is not bound to vfio-pci";
    case "EOPNOTSUPP":
      return "the host's IOMMU does not do what was asked: nested translation needs both stages (VT-d: ECAP.NEST) and coherent walks (SMMUv3: IORT CANWBS)";
    case "EADDRINUSE":
      return "the host keeps some of the guest's addresses for itself (reserved_regions of the function's IOMMU group): its messages, or what the firmware has there";
    case "ENOMEM":
      return "the host is out of memory, or RLIMIT_MEMLOCK is below the guest's RAM";
    default:
      return "see the host's kernel log";
  }
}
