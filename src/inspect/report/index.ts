/** What an inspector is told of a machine, as data: the answers of the monitor's x-viommu-* commands. Types alone. */
export type { FieldReport, Hex, RegisterReport, RegistersReport } from "./registers.js";
export type { AttachmentReport, HostFunctionReport, HostIommuReport, MachineFunctionReport, MapReport, ReservedReport, TableReport } from "./map.js";
export type { ComparedEntry, ComparedField, FetchReport, WalkAccess, WalkEnd, WalkQuestion, WalkReport } from "./walk.js";
export type { CachedEntry, CachedEntryReport, CachesReport } from "./caches.js";
export type { QueueEntryReport, QueueReport, QueuesReport } from "./queues.js";
export type { NumbersReport, NumbersRow, TimelineReport, TimelineRow } from "./timeline.js";
export type { LessonReport, LessonStep } from "./lesson.js";
export type { KeptAnswer, PageData } from "./page-data.js";
