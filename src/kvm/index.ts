export { KvmVm, type KvmMessage, type MemorySlot } from "./vm.js";
export { type ExitHandler, type Vcpu, Vcpus } from "./vcpus.js";
export * from "./uapi.js";
export { enterKernel, GDT, prepareX86, setFeatures, type X86Entry, type X86Places } from "./x86/processor.js";
