/** What a real guest starts with: -kernel, -initrd, -append, and its consoles, -serial. */
import type { ChardevSpec } from "../../chardev/index.js";
import { Refusal } from "../../support/index.js";
import { type BoardKind, boardTraits } from "./boards.js";
import { type ChardevArgument, chardevId, parseChardevShort } from "./chardev.js";
import { describeArgument, located } from "./option-string.js";

export interface BootArguments {
  /** Path of the kernel; null: the guest is a program. */
  readonly kernel: string | null;
  readonly initrd: string | null;
  readonly commandLine: string;
  /** Serial ports in order; `monitor`: Ctrl-a c changes to the monitor's commands. Null: a port that nobody listens to. */
  readonly serials: ReadonlyArray<{ readonly spec: ChardevSpec; readonly monitor: boolean } | null>;
}

interface SerialOption {
  readonly value: string;
  readonly device: string;
  readonly monitor: boolean;
}


/** Gathers them. Without -kernel they have no effect, and each leaves a note. */
/** QEMU's console where no -serial is said (-nodefaults takes it away). */
const DEFAULT_SERIAL: SerialOption = { value: "mon:stdio", device: "stdio", monitor: true };

export class BootOptions {
  private readonly texts = new Map<string, string>();
  private readonly serials: Array<SerialOption | null> = [];
  /** -serial was said: there is no console by default, `none` has none at all. */
  private saidSerial = false;

  /** @returns false where the option is none of these */
  take(option: string, value: string): boolean {
    switch (option) {
      case "kernel":
      case "initrd":
      case "append":
        this.texts.set(option, value);
        return true;
      case "serial": {
        this.saidSerial = true;
        const device = value.startsWith("mon:") ? value.slice(4) : value;
        if (value === "none") {
          return true;
        }
        this.serials.push(value === "null" || /^vc(?::|$)/.test(value) ? null : { value, device, monitor: value !== device });
        return true;
      }
      default:
        return false;
    }
  }

  /**
   * @param kvm the machine has vCPUs by KVM: without, a kernel has nothing to run on
   * @param devices QEMU's default devices are there: a console on standard streams is one of them
   * @throws Refusal
   */
  finish(chardevs: ReadonlyMap<string, ChardevArgument>, { kvm, board, devices }: { readonly kvm: boolean; readonly board: BoardKind; readonly devices: boolean }, notes: string[]): BootArguments {
    const kernel = kvm ? (this.texts.get("kernel") ?? null) : null;
    const [initrd, append] = [this.texts.get("initrd") ?? null, this.texts.get("append") ?? null];
    if (kernel === null) {
      for (const [option, value] of this.texts) {
        const why = kvm ? "it goes with -kernel, and there is none" : `only vCPUs run a kernel (-machine ${board},accel=kvm): the guest here is a program (--guest)`;
        notes.push(`${describeArgument(`-${option}`, value)}: ${why}`);
      }
      this.serials.forEach((serial) => serial !== null && notes.push(`${describeArgument("-serial", serial.value)}: the guest here is a program and has no console`));
      return { kernel: null, initrd: null, commandLine: "", serials: [] };
    }
    const { serialPorts } = boardTraits[board];
    if (this.serials.length > serialPorts) {
      throw new Refusal(board === "q35" ? `max isa serial ports is ${serialPorts}` : `a ${board} has ${serialPorts} serial ports`, { found: `${this.serials.length} times -serial`, wouldWork: `${serialPorts} at the most` });
    }
    const open = this.consoles(devices).map((serial) =>
      serial === null ? null : located(describeArgument("-serial", serial.value), () => ({ spec: parseChardevShort("-serial", serial.device, chardevs), monitor: serial.monitor })),
    );
    return {
      kernel,
      initrd,
      commandLine: append ?? "",
      serials: open,
    };
  }

  /** A kernel is asked for. */
  get hasKernel(): boolean {
    return this.texts.has("kernel");
  }

  /** A console of the kernel's is a monitor too: `mon:`, or the one that there is by default. */
  consoleIsMonitor(devices: boolean): boolean {
    return this.hasKernel && this.consoles(devices).some((serial) => serial?.monitor === true);
  }

  private consoles(devices: boolean): ReadonlyArray<SerialOption | null> {
    return devices && !this.saidSerial ? [DEFAULT_SERIAL] : this.serials;
  }

  /** IDs of -chardev that are used. */
  get chardevIds(): string[] {
    return this.serials.flatMap((serial) => chardevId(serial?.device ?? "") ?? []);
  }
}
