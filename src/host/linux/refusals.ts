/** Refused system calls as refusals of the host. */
import { HostError } from "../../iommufd/index.js";
import { SystemError } from "../../linux/index.js";

/** Makes a call. @param detail what it was about @throws HostError where Linux refuses it; anything else as it is */
export function asHostCall<T>(operation: string, detail: () => string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw error instanceof SystemError ? new HostError(operation, error.code, detail()) : error;
  }
}
