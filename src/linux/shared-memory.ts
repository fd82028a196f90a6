/** Memory that other threads, KVM and iommufd share with this process: a file in memory, mapped once. */
import type { RamBacking } from "../memory/index.js";
import { closeFd, map, memoryFile, vacate, viewOf } from "./calls.js";

/** MakeMemory: the models see its pages by views, the kernel by its address. @throws SystemError where there is no memory */
export function sharedMemory(name: string, bytes: number): RamBacking {
  const fd = memoryFile(name, bytes);
  try {
    const mapping = map(fd, bytes);
    return {
      fd,
      address: mapping.address,
      window: (offset, length) => viewOf(mapping, offset, length),
      release: () => {
        vacate(mapping);
        closeFd(fd);
      },
    };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
