/** Refused system calls as refusals of the host. */
import { type Errno, errnoName, HostError } from "../../iommufd/index.js";
import { SystemError } from "../../linux/index.js";

/** Makes a call. @param detail what it was about @throws HostError where Linux refuses it; anything else as it is */
export function asHostCall<T>(operation: string, detail: () => string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw error instanceof SystemError ? new HostError(operation, errnoOf(error), detail()) : error;
  }
}

/** By the kernel's names: Node.js has others for some (ENOTSUP). */
export function errnoOf(error: SystemError): Errno {
  return errnoName(error.errno);
}
