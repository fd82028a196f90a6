export { type ByteStream, type Chardev, openChardev } from "./open.js";
export { streamPair } from "./pair.js";
export { type ChardevSpec, describeChardev } from "./spec.js";
