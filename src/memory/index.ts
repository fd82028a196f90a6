export { RamBlock } from "./ram.js";
export { MEMORY_ABORT, MEMORY_OK, RamWordMemory, type WordMemory } from "./word-memory.js";
