export { Graveyard } from "./graveyard.js";
export { InvalidationBatch } from "./invalidation-batch.js";
