/** ioctls by number and bytes, for tests of the kernel itself. */
import type { RawIoctl } from "../../iommufd/index.js";
import type { KernelPort } from "./kernel-port.js";
import { asHostCall } from "./refusals.js";

export function rawIoctl(port: KernelPort): RawIoctl {
  return {
    ioctl(fd, request, argument, pointers = []) {
      if (argument !== null) {
        const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
        pointers.forEach(({ at, to }) => view.setBigUint64(at, port.addressOf(to), true));
      }
      asHostCall("ioctl", () => `0x${request.toString(16)}`, () => port.ioctl(fd, `0x${request.toString(16)}`, request, argument));
    },
  };
}
