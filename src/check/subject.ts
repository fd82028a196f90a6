/** What rules and mends look at: a line, what it says, the host that it is for. */
import type { HostDescription } from "../host/simulated/file/index.js";
import type { DeviceArgument, MachineArguments } from "../machine/arguments/index.js";
import { hostFunctionAddress } from "../machine/index.js";
import type { Line, Mend, Spot } from "./line.js";
import type { RuleId } from "./rules.js";
import { Topology } from "./topology.js";

/** What a rule has found, before its place is told in lines and columns. */
export interface Raised {
  readonly rule: RuleId;
  /** Left out: the rule's own. */
  readonly level?: "error" | "warning" | "note";
  readonly words: string;
  readonly found?: string;
  readonly wouldWork?: string;
  /** Null: it is about the line as a whole. */
  readonly spot: Spot | null;
  /** Left out: it cannot be mended in the line. */
  readonly mend?: Mend;
}

export type HostFunction = HostDescription["functions"][number];

export class Subject {
  readonly topology: Topology;
  /** Which option each device is. */
  private readonly options = new Map<DeviceArgument, number>();

  constructor(
    readonly line: Line,
    readonly args: MachineArguments,
    /** Null: none was named. */
    readonly host: HostDescription | null,
    /** Options that are not looked at any more: they were told of and cannot be mended. */
    readonly left: ReadonlySet<number>,
  ) {
    this.topology = new Topology(args);
    for (const device of args.devices) {
      const option = line.optionOfWord(device.place?.word ?? -1);
      if (option !== null) {
        this.options.set(device, option);
      }
    }
  }

  /** The option that a device was said by. */
  optionOf(device: DeviceArgument): number {
    const option = this.options.get(device);
    if (option === undefined) {
      throw new Error(`${device.where} is no option of the line`);
    }
    return option;
  }

  /** A property of a device where it is said, else the device's name. */
  spotOf(device: DeviceArgument, property = "driver"): Spot {
    const option = this.optionOf(device);
    return { option, property: this.line.said(option, property) === undefined ? "driver" : property };
  }

  /** The device of an option; null: it is none. */
  deviceOf(option: number): DeviceArgument | null {
    return [...this.options].find(([, index]) => index === option)?.[0] ?? null;
  }

  /** The last option of a name; null: none is said. */
  lastOption(...names: readonly string[]): number | null {
    const index = this.line.options.findLastIndex((one, at) => names.includes(one.name) && !this.left.has(at));
    return index < 0 ? null : index;
  }

  /** The option of an object's id; null: none. */
  objectOption(id: string): number | null {
    const index = this.line.options.findIndex(({ name }, at) => name === "object" && !this.left.has(at) && this.line.said(at, "id") === id);
    return index < 0 ? null : index;
  }

  /** The host's function of a vfio-pci; null: it is not told, or not there. */
  hostFunction(device: DeviceArgument): HostFunction | null {
    const address = hostFunctionAddress(device);
    return this.host?.functions.find((fn) => fn.address === address) ?? null;
  }
}
