export * from "./dma-engine.js";
