export { attachMade, Attachment, blockOrKeep, type BlockOutcome, changeOrBlock, GuestLimit } from "./attachment.js";
export { DELIVERED, type Delivery, InvalidationBatch, REFUSED, UNDELIVERED } from "./batch.js";
export { Budget, Continuation, EMPTY_ENTRY_STEPS, HOST_CALL_STEPS, onEventLoop, type Scheduler, STEPS_AT_ONCE } from "../support/index.js";
export { EventReader } from "./event-reader.js";
export { Graveyard } from "./host-objects.js";
export { AGAIN, NEXT, QueueDrain, type StepResult, STOPPED, WAITING } from "./queue-drain.js";
export { requesterId } from "./requester.js";
export { readUntilStable } from "./stable-read.js";
