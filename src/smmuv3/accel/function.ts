import type { IommufdDevice } from "../../iommufd/index.js";
import { Attachment, type Graveyard, requesterId } from "../../nesting/index.js";
import type { PciBus } from "../../pci/index.js";

/** Where a function is: which of the tables it is attached to. */
export type FunctionTable = "parent" | "abort" | "bypass" | "nested";

/** One passed-through function behind an accelerated SMMU. */
export class AcceleratedFunction {
  readonly attachment: Attachment<FunctionTable>;
  /** The reduced entry that its nested table was made of; while it is on that. */
  readonly installed = new Int32Array(4);
  /** The vDEVICE, and the StreamID that it is bound to (-1: none). */
  vdeviceId: number | null = null;
  vdeviceStreamId = -1;
  /** What has put it on its table: its entry; false: SMMUEN and GBPA. */
  byEntry = false;
  /** The configuration command that has met it last. */
  sweep = -1;

  constructor(
    readonly bus: PciBus,
    readonly devfn: number,
    readonly host: IommufdDevice,
    graveyard: Graveyard,
  ) {
    this.attachment = new Attachment(host, "parent", graveyard);
  }

  get table(): FunctionTable {
    return this.attachment.table;
  }

  /** Null while the guest has given the function's bus no number. */
  get streamId(): number | null {
    return requesterId(this.bus, this.devfn);
  }

  /** It is bound to the StreamID that it has. */
  isBoundTo(streamId: number): boolean {
    return this.vdeviceId !== null && this.vdeviceStreamId === streamId;
  }
}

/** For the account: a function's StreamID, table and bindings, and why it is blocked. */
export interface FunctionAccount {
  readonly name: string;
  readonly streamId: number | null;
  readonly table: FunctionTable;
  readonly reason: string | null;
  readonly hwptId: number | null;
  readonly vdeviceId: number | null;
}
