/** Admin commands (5). */
import type { Command, Outcome } from "./command.js";
import type { Engine } from "./engine.js";
import type { ErrorLog } from "./error-log.js";
import type { Features } from "./features.js";
import type { NvmeHost, NvmeOptions } from "./host.js";
import { activeList, identifyController, identifyNamespace, namespaceDescriptors } from "./identify.js";
import { changedNamespaces, effectsLog, firmwareLog, smartLog, type Statistics } from "./log-pages.js";
import type { Namespace } from "./namespace.js";
import { CompletionQueue, SubmissionQueue } from "./queues.js";
import { ADMIN, ALL_NAMESPACES, CC, CQ_ENTRY_BITS, EVENT_SMART, FEATURE, LOG, MOST_NAMESPACES, SMART_TEMPERATURE, SQ_ENTRY_BITS, STATUS, WARNING_TEMPERATURE } from "./spec.js";

/** Most bytes of a log page's transfer where MDTS sets no limit. */
const LOG_BYTES = 0x10_0000;

export interface AdminParts {
  readonly host: NvmeHost;
  readonly options: NvmeOptions;
  readonly namespaces: ReadonlyMap<number, Namespace>;
  readonly features: Features;
  readonly errors: ErrorLog;
  readonly statistics: Statistics;
  /** CC. */
  configuration(): number;
  /** Largest transfer in bytes; 0: no limit. */
  readonly mostBytes: number;
  engine(): Engine;
}

export class AdminCommands {
  private readonly since = performance.now();

  constructor(private readonly parts: AdminParts) {}

  execute(command: Command): Outcome {
    switch (command.opcode) {
      case ADMIN.DELETE_SQ:
        return this.deleteSubmissionQueue(command);
      case ADMIN.CREATE_SQ:
        return this.createSubmissionQueue(command);
      case ADMIN.GET_LOG_PAGE:
        return this.logPage(command);
      case ADMIN.DELETE_CQ:
        return this.deleteCompletionQueue(command);
      case ADMIN.CREATE_CQ:
        return this.createCompletionQueue(command);
      case ADMIN.IDENTIFY:
        return this.identify(command);
      case ADMIN.ABORT:
        return this.abort(command);
      case ADMIN.SET_FEATURES:
      case ADMIN.GET_FEATURES:
        return this.feature(command);
      case ADMIN.ASYNC_EVENT_REQUEST:
        return this.parts.engine().park(command) ? null : STATUS.ASYNC_EVENT_LIMIT;
      default:
        return STATUS.INVALID_OPCODE;
    }
  }

  /** The temperature may be beyond a threshold: an event, where the host asked for such (5.2.1.2). */
  checkTemperature(): void {
    const { features } = this.parts;
    if (features.temperatureWarning && (features.value(FEATURE.ASYNC_EVENTS) & WARNING_TEMPERATURE) !== 0) {
      this.parts.engine().events.report(EVENT_SMART, SMART_TEMPERATURE, LOG.SMART);
    }
  }

  // ---- queues (5.3 to 5.6) ----

  private createCompletionQueue(command: Command): Outcome {
    const { parts } = this;
    const engine = parts.engine();
    const id = command.dword(10) & 0xffff;
    const size = command.dword(10) >>> 16;
    const flags = command.dword(11);
    if (id === 0 || id > parts.options.queuePairs || engine.completionQueue(id) !== undefined) {
      return STATUS.INVALID_QUEUE_ID;
    }
    if (size === 0 || size > parts.options.mqes || CC.iocqes(parts.configuration()) !== CQ_ENTRY_BITS) {
      return STATUS.INVALID_QUEUE_SIZE;
    }
    if ((command.prp1[0] >>> 0) % engine.pageBytes !== 0) {
      return STATUS.PRP_OFFSET_INVALID;
    }
    if (flags >>> 16 >= parts.host.vectors()) {
      return STATUS.INVALID_INTERRUPT_VECTOR;
    }
    // CAP.CQR: queues are contiguous.
    if ((flags & 1) === 0) {
      return STATUS.INVALID_FIELD;
    }
    engine.addCompletionQueue(new CompletionQueue(id, command.prp1, size + 1, flags >>> 16, (flags & 2) !== 0));
    return STATUS.SUCCESS;
  }

  private createSubmissionQueue(command: Command): Outcome {
    const { parts } = this;
    const engine = parts.engine();
    const id = command.dword(10) & 0xffff;
    const size = command.dword(10) >>> 16;
    const flags = command.dword(11);
    const cq = flags >>> 16 === 0 ? undefined : engine.completionQueue(flags >>> 16);
    if (cq === undefined) {
      return STATUS.COMPLETION_QUEUE_INVALID;
    }
    if (id === 0 || id > parts.options.queuePairs || engine.submissionQueue(id) !== undefined) {
      return STATUS.INVALID_QUEUE_ID;
    }
    if (size === 0 || size > parts.options.mqes || CC.iosqes(parts.configuration()) !== SQ_ENTRY_BITS) {
      return STATUS.INVALID_QUEUE_SIZE;
    }
    if ((command.prp1[0] >>> 0) % engine.pageBytes !== 0) {
      return STATUS.PRP_OFFSET_INVALID;
    }
    if ((flags & 1) === 0) {
      return STATUS.INVALID_FIELD;
    }
    engine.addSubmissionQueue(new SubmissionQueue(id, command.prp1, size + 1, cq));
    return STATUS.SUCCESS;
  }

  private deleteSubmissionQueue(command: Command): Outcome {
    const engine = this.parts.engine();
    const id = command.dword(10) & 0xffff;
    const queue = id === 0 ? undefined : engine.submissionQueue(id);
    if (queue === undefined || queue.onIdle !== null) {
      return STATUS.INVALID_QUEUE_ID;
    }
    engine.removeSubmissionQueue(queue, () => engine.complete(command, STATUS.SUCCESS));
    return null;
  }

  private deleteCompletionQueue(command: Command): Outcome {
    const engine = this.parts.engine();
    const id = command.dword(10) & 0xffff;
    const queue = id === 0 ? undefined : engine.completionQueue(id);
    if (queue === undefined) {
      return STATUS.INVALID_QUEUE_ID;
    }
    if (queue.users > 0) {
      return STATUS.INVALID_QUEUE_DELETION;
    }
    engine.removeCompletionQueue(queue);
    return STATUS.SUCCESS;
  }

  // ---- identify (5.15) ----

  private identify(command: Command): Outcome {
    const { options, namespaces } = this.parts;
    const id = command.namespaceId;
    const namespace = namespaces.get(id) ?? null;
    switch (command.dword(10) & 0xff) {
      case 0x00:
        return id === 0 || id > MOST_NAMESPACES ? STATUS.INVALID_NAMESPACE : this.give(command, identifyNamespace(namespace));
      case 0x01:
        return this.give(command, identifyController(options, MOST_NAMESPACES));
      case 0x02:
        return id >= ALL_NAMESPACES - 1 ? STATUS.INVALID_NAMESPACE : this.give(command, activeList([...namespaces.keys()], id));
      case 0x03:
        if (id === 0 || id > MOST_NAMESPACES) {
          return STATUS.INVALID_NAMESPACE;
        }
        return namespace === null ? STATUS.INVALID_FIELD : this.give(command, namespaceDescriptors(namespace));
      default:
        return STATUS.INVALID_FIELD;
    }
  }

  private give(command: Command, bytes: Uint8Array): number {
    return this.parts.engine().transfer(command, bytes, true);
  }

  // ---- log pages (5.14) ----

  private logPage(command: Command): Outcome {
    const page = command.dword(10) & 0xff;
    const retain = (command.dword(10) & 0x8000) !== 0;
    const length = ((command.dword(10) >>> 16) + (command.dword(11) & 0xffff) * 0x1_0000 + 1) * 4;
    const offset = command.dword(13) * 0x1_0000_0000 + command.dword(12);
    const content = this.logContent(page, command.namespaceId);
    if (typeof content === "number") {
      return content;
    }
    if (offset % 4 !== 0 || offset >= content.length || length > (this.parts.mostBytes || LOG_BYTES)) {
      return STATUS.INVALID_FIELD;
    }
    // What is beyond the page's end is not defined: zeros.
    const bytes = new Uint8Array(length);
    bytes.set(content.subarray(offset, offset + length));
    const status = this.give(command, bytes);
    if (status === STATUS.SUCCESS && !retain) {
      this.parts.engine().events.logRead(page);
    }
    return status;
  }

  /** The whole page, or a status. */
  private logContent(page: number, namespaceId: number): Uint8Array | number {
    const { options, errors, statistics, features, namespaces } = this.parts;
    switch (page) {
      case LOG.ERROR:
        return errors.page();
      case LOG.SMART: {
        if (namespaceId !== 0 && namespaceId !== ALL_NAMESPACES && !namespaces.has(namespaceId)) {
          return STATUS.INVALID_NAMESPACE;
        }
        const warning = (options.criticalWarning ?? 0) | (features.temperatureWarning ? WARNING_TEMPERATURE : 0);
        return smartLog(statistics, warning, errors.count, Math.floor((performance.now() - this.since) / 3_600_000));
      }
      case LOG.FIRMWARE:
        return firmwareLog(options.firmware);
      case LOG.CHANGED_NAMESPACES:
        return changedNamespaces();
      case LOG.EFFECTS:
        return effectsLog();
      default:
        return STATUS.INVALID_LOG_PAGE;
    }
  }

  // ---- the rest ----

  private feature(command: Command): Outcome {
    const { features } = this.parts;
    const set = command.opcode === ADMIN.SET_FEATURES;
    const { status, result } = (set ? features.set : features.get).call(features, command.dword(10), command.dword(11), command.namespaceId);
    command.result = result;
    return status;
  }

  /** Of what is under way only asynchronous event requests wait: others end soon, and are not aborted (bit 0 of the result, 5.1). */
  private abort(command: Command): Outcome {
    const engine = this.parts.engine();
    const queueId = command.dword(10) & 0xffff;
    if (engine.submissionQueue(queueId) === undefined) {
      return STATUS.INVALID_FIELD;
    }
    const aborted = queueId === 0 ? engine.abortEventRequest(command.dword(10) >>> 16) : false;
    command.result = aborted ? 0 : 1;
    return STATUS.SUCCESS;
  }
}
