/** The inspector's server on loopback: its page, questions to a machine's monitor, news of its time line. It knows a machine by QMP alone. */
export { type Answers, answersOf, connectMonitor, openMonitorSocket, withLesson } from "./answers.js";
export { isAllowed } from "./allowed.js";
export { type Inspector, type InspectorOptions, openInspector } from "./server.js";
export { collectPageData } from "./collect.js";
export { checkTarget, pageFolder, readPage, writePage } from "./page-files.js";
