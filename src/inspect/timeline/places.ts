/** Whom the numbers of trace events are of: functions and IOMMUs of a machine as they are now. */
import { isIommufdDevice } from "../../iommufd/index.js";
import type { Machine } from "../../machine/index.js";
import { functionNames } from "../machine/index.js";

export interface Place {
  /** As the map has it. */
  readonly function: string;
  readonly iommu: string | null;
  /** Null: no IOMMU covers it, or its bus has no number yet. */
  readonly streamId: number | null;
}

export class Places {
  private readonly byStream = new Map<number, Place>();
  private readonly byHost = new Map<string, Place>();
  private readonly byDevice = new Map<number, Place>();
  private readonly iommus: ReadonlySet<string>;
  /** Of a machine with one VT-d: its id, which its events do not say. */
  private readonly vtd: string | null;

  constructor(machine: Machine) {
    const { board } = machine;
    this.iommus = new Set(board.iommus.map(({ id }) => id));
    this.vtd = board.kind === "q35" && board.iommus.length === 1 ? board.iommus[0].id : null;
    for (const [fn, name] of functionNames(machine)) {
      // One that is being unplugged, or taken apart with the machine, is at no place.
      if (fn.bus === null) {
        continue;
      }
      const iommu = board.iommuOf(fn)?.id ?? null;
      const { bus } = fn.iommuPath;
      const numbered = bus.isRoot || bus.number !== 0;
      const place = { function: name, iommu, streamId: iommu === null || !numbered ? null : fn.requesterId };
      if (!fn.isBridge && numbered) {
        this.byStream.set(fn.requesterId, place);
      }
      if (fn.passthrough !== null) {
        this.byHost.set(fn.passthrough.hostAddress, place);
      }
      if (isIommufdDevice(fn)) {
        this.byDevice.set(fn.devId, place);
      }
    }
  }

  /** The IOMMU that one of the words names, or whose event it is. */
  iommu(event: string, words: readonly unknown[]): string | null {
    const named = words.find((word): word is string => typeof word === "string" && this.iommus.has(word));
    return named ?? (event.startsWith("vtd_") ? this.vtd : null);
  }

  /** The function that one of the words names by its address on the host. */
  ofHost(words: readonly unknown[]): Place | null {
    for (const word of words) {
      const found = typeof word === "string" ? this.byHost.get(word.slice(word.lastIndexOf("/") + 1)) : undefined;
      if (found !== undefined) {
        return found;
      }
    }
    return null;
  }

  ofStream(streamId: number): Place | null {
    return this.byStream.get(streamId) ?? null;
  }

  ofDevice(deviceId: number): Place | null {
    return this.byDevice.get(deviceId) ?? null;
  }
}
