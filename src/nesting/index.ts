export { DELIVERED, type Delivery, InvalidationBatch, REFUSED, UNDELIVERED } from "./batch.js";
export { Budget, Continuation, HOST_CALL_STEPS, onEventLoop, type Scheduler, STEPS_AT_ONCE } from "./budget.js";
export { Graveyard } from "./graveyard.js";
