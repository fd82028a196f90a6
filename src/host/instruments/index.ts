export { HostObserver, observeHost, type HostCallFailure } from "./counting.js";
export { descriptorOf, traceHost } from "./tracing.js";
