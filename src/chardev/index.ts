export { type ByteStream, type Chardev, openChardev } from "./open.js";
export { type ChardevSpec, describeChardev } from "./spec.js";
