export { type BzImage, readBzImage } from "./bz-image.js";
export { loadX86Linux, type MapEntry, type WriteMemory, type X86LinuxEntry, type X86LinuxRequest } from "./x86-linux.js";
