/** Who is behind what: the machine's tree and the host's, and what joins them. */
import type { Hex } from "./registers.js";
import type { RunReport } from "../../run/report/index.js";

/** A passed-through function of the machine, beside what `machine.functions` tells. */
export interface MachineFunctionReport {
  /** Its name in every report: the id; without one its bdf. */
  readonly function: string;
  readonly bdf: string;
  /** Host PCI address; null: emulated. */
  readonly host: string | null;
  /** Id of the machine's IOMMU that covers it; null: none. */
  readonly iommu: string | null;
  /** StreamID or source id; null: none, or its bus has no number yet. */
  readonly streamId: number | null;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  /** Of the device: `NVMe controller`; as the model names itself. Text of a user, or a host: never markup. */
  readonly label: string;
  readonly ats: boolean;
  readonly pasid: boolean;
  readonly iommufd: string | null;
  readonly ioas: number | null;
  readonly parentHwpt: number | null;
  readonly vdevice: number | null;
}

/** A table that a function, or one of its PASIDs, is on: why, in words. */
export interface AttachmentReport {
  readonly function: string;
  readonly pasid: number | null;
  /** As in the account's bindings: nested, parent, bypass, shadow, abort, blocked; `software`: of an emulated function. */
  readonly table: string;
  readonly hwpt: number | null;
  /** Why this table: what the guest's entry and registers say; of a blocked one the refusal. */
  readonly reason: string;
}

/** An object of the host's iommufd. */
export interface TableReport {
  readonly iommufd: string;
  readonly id: number;
  /** ioas, hwpt-paging, hwpt-nested, viommu, vdevice, veventq, fault-queue. */
  readonly kind: string;
  /** The object that it was made on: a paging HWPT's IOAS, a nested one's vIOMMU; null: none. */
  readonly on: number | null;
  /** `parent`, `abort`, `bypass`, `nested`, `vSID 0x100`; null: nothing more is known. */
  readonly what: string | null;
  /** Id of the machine's IOMMU that it is for; null: for several or none. */
  readonly iommu: string | null;
}

/** A window of IOVAs that are not translated as others: the host's MSI window, reserved regions. */
export interface ReservedReport {
  readonly base: Hex;
  readonly size: Hex;
  readonly kind: string;
}

export interface HostIommuReport {
  readonly id: string;
  readonly architecture: "smmuv3" | "vtd" | "amd" | "unknown";
  /** What it offers, by name, in the host file's words: `oas` -> `48`. */
  readonly features: Readonly<Record<string, string>>;
  readonly numaNode: number | null;
  readonly errata: readonly string[];
}

export interface HostFunctionReport {
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly driver: string;
  /** Id of the host's IOMMU; null: none. */
  readonly iommu: string | null;
  /** IOMMU group; null: not known. */
  readonly group: number | null;
  readonly numaNode: number | null;
  /** Bridges and ports on the way up, nearest last; empty: none known. */
  readonly upstream: readonly string[];
  readonly label: string;
  readonly reserved: readonly ReservedReport[];
}

/** Answer of `x-viommu-map`. */
export interface MapReport {
  /** As the account has it; null: a host without a machine. */
  readonly machine: RunReport["machine"] | null;
  readonly functions: readonly MachineFunctionReport[];
  readonly attachments: readonly AttachmentReport[];
  readonly tables: readonly TableReport[];
  readonly host: {
    readonly description: string;
    readonly kernel: string | null;
    readonly iommus: readonly HostIommuReport[];
    readonly functions: readonly HostFunctionReport[];
    /** What of it cannot be known here, a line each. */
    readonly unknown: readonly string[];
  };
}
