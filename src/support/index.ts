export { Budget, Continuation, EMPTY_ENTRY_STEPS, HOST_CALL_STEPS, onEventLoop, type Scheduler, STEPS_AT_ONCE } from "./budget.js";
export { countsByName } from "./counts.js";
export { type Errno, ERRNO, errnoName, errnoNumber, errnoWords, systemWords } from "./errno.js";
export { type Place, Refusal, type RefusalDetails } from "./errors.js";
export {
  address,
  AddressField,
  bits,
  deposit,
  extract,
  Field,
  field,
  type FieldValues,
  get,
  getAddress,
  getWide,
  type Layout,
  pack,
  put,
  putAddress,
  unpack,
} from "./fields.js";
export { errorFindings, type Finding, RefusalCollector } from "./findings.js";
export { Log, type LoggedFault, type LogLine } from "./log.js";
export { currentTracing, TraceEvent, formatTrace, isTracePattern, matchTrace, isTraced, setTrace, setTraceSink, switchTrace, traceEvent, traceEvents, Tracing, type TraceArgument, type TraceWatcher } from "./trace.js";
export { packageFolder, packageVersion } from "./package-files.js";
export { readTextFile } from "./text-file.js";
export { hex, highWord, littleEndian, littleEndianBytes, lowWord, toBigInt, toNumber } from "./words.js";
export { byteText, drawTree, indented, plural, type TreeNode, wrap } from "./prose.js";
