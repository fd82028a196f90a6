export { CallCounter, countCalls, type LiveObject } from "./counting.js";
export { HostObserver, observeHost, type HostCallFailure } from "./failing.js";
export { ForwardingDevice, ForwardingHost, ForwardingIommufd } from "./forwarding.js";
export { traceHost } from "./tracing.js";
