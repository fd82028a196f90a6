export {
  addressOf,
  closeFd,
  interruptibleIoctl,
  ioctl,
  type IoctlArgument,
  makeEventFd,
  map,
  type Mapping,
  memoryFile,
  MOST_VIEW_BYTES,
  openFile,
  pageBytes,
  readFd,
  readFdAt,
  signalEventFd,
  takeEventFd,
  threadId,
  unmap,
  vacate,
  viewOf,
  writeFd,
  writeFdAt,
} from "./calls.js";
export { SystemError } from "./errors.js";
export { loopDescriptor, LoopTurns, TimerDescriptor, waitReadable } from "./loop.js";
export { type Watch, watchReadable } from "./poll.js";
export { sharedMemory } from "./shared-memory.js";
export { installKick, kick } from "./signals.js";
