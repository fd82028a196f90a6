export { Budget, Continuation, HOST_CALL_STEPS, onEventLoop, type Scheduler, STEPS_AT_ONCE } from "./budget.js";
export { Graveyard } from "./graveyard.js";
export { InvalidationBatch } from "./invalidation-batch.js";
