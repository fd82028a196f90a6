export { type Arm64Image, readArm64Image } from "./arm64-image.js";
export { ARM64_COMMAND_LINE, type Arm64Placement, placeArm64Linux } from "./arm64-linux.js";
export { type BzImage, readBzImage } from "./bz-image.js";
export { readVmlinux, type Vmlinux } from "./vmlinux.js";
export { loadX86Linux, type MapEntry, type WriteMemory, type X86LinuxEntry, type X86LinuxRequest } from "./x86-linux.js";
