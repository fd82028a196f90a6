/** The arguments that say from where a machine is played and controlled: -qtest, -qtest-log, -object qtest, -chardev, -S. */
import type { ChardevSpec } from "../chardev/index.js";
import { Refusal } from "../support/index.js";
import { type ChardevArgument, parseChardev, parseChardevShort } from "./chardev-argument.js";
import { describeArgument, located, parseOptionString } from "./option-string.js";

export interface ControlArguments {
  /** The socket that plays the machine in place of a guest; null: none. */
  readonly qtest: ChardevSpec | null;
  /** A file, or "none"; null: standard error, as in QEMU. */
  readonly qtestLog: string | null;
  /** -S: timers stand still. */
  readonly stopped: boolean;
  readonly chardevs: ReadonlyMap<string, ChardevArgument>;
}

/** Gathers them: a -chardev may stand after the option that names it. */
export class ControlOptions {
  private readonly chardevs = new Map<string, ChardevArgument>();
  private readonly texts = new Map<string, string>();
  private qtest: { option: string; value: string } | null = null;
  private log: string | null = null;
  private stopped = false;

  /** @returns false where the option is none of these. @throws Refusal */
  take(option: string, value: string): boolean {
    switch (option) {
      case "qtest":
        this.takeQtest({ option: "-qtest", value });
        return true;
      case "qtest-log":
        this.log = value;
        return true;
      case "S":
        this.stopped = true;
        return true;
      case "chardev": {
        const chardev = parseChardev(value);
        if (this.chardevs.has(chardev.id)) {
          throw new Refusal(`Duplicate ID '${chardev.id}' for chardev`, { wouldWork: "another id" });
        }
        this.chardevs.set(chardev.id, chardev);
        this.texts.set(chardev.id, describeArgument("-chardev", value));
        return true;
      }
      case "object": {
        const { values } = parseOptionString("-object", value, "qom-type");
        if (values.get("qom-type") !== "qtest") {
          return false;
        }
        if (!values.has("chardev")) {
          throw new Refusal("No backend specified", { wouldWork: "-object qtest,id=NAME,chardev=ID" });
        }
        this.takeQtest({ option: "-object qtest", value: `chardev:${String(values.get("chardev"))}` });
        this.log = values.has("log") ? String(values.get("log")) : this.log;
        return true;
      }
      default:
        return false;
    }
  }

  private takeQtest(qtest: { option: string; value: string }): void {
    if (this.qtest !== null) {
      throw new Refusal("Only one instance of qtest can be created", { found: `${describeArgument(this.qtest.option, this.qtest.value)} too` });
    }
    this.qtest = qtest;
  }

  /**
   * @param notes takes a line for each -chardev that nothing here uses
   * @throws Refusal where a chardev that is named does not exist
   */
  finish(notes: string[]): ControlArguments {
    const { qtest, chardevs } = this;
    const spec = qtest === null ? null : located(describeArgument(qtest.option, qtest.value), () => parseChardevShort(qtest.option, qtest.value, chardevs));
    if (this.stopped && qtest === null) {
      notes.push("-S: the guest starts at once");
    }
    for (const [id, text] of this.texts) {
      if (qtest?.value !== `chardev:${id}`) {
        notes.push(`${text}: no backend is opened here`);
      }
    }
    return { qtest: spec, qtestLog: this.log, stopped: this.stopped, chardevs };
  }
}
