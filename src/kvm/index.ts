export { CoalescedWrites, type CoalescedTaker, type CoalescedZone } from "./coalesced-writes.js";
export { type GsiRoute, KvmVm, type KvmMessage, type MemorySlot } from "./vm.js";
export { IrqRoutes } from "./irq-routes.js";
export { KvmVfio } from "./vfio-files.js";
export { type ExitHandler, type HandOver, usualHandOver, type Vcpu, Vcpus } from "./vcpus.js";
export * from "./uapi.js";
export { enterKernel, GDT, prepareX86, setFeatures, type X86Entry, type X86Places } from "./x86/processor.js";
export { type GicPlaces, KvmGic } from "./arm64/gic.js";
export { type Arm64Entry, arm64MachineType, enterArm64, initVcpus, injectAbort, prepareArm64, stage2WritesBack } from "./arm64/processor.js";
