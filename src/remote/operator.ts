/** What an administrator does to a machine in another process, over QMP; without QMP nothing can be done. */
import type { MachineOperator } from "../port/index.js";
import { Refusal } from "../support/index.js";
import type { QmpClient } from "./qmp-client.js";

/** A device that can be unplugged and plugged again. */
export interface RemoteCandidate {
  readonly id: string;
  readonly argument: string;
}

/** Ports with a hot-plug slot. */
const SLOTS = ["pcie-root-port", "xio3130-downstream"];
const PERIPHERAL = "/machine/peripheral";

export class QmpOperator implements MachineOperator {
  /** Called after each reset. */
  onReset: () => void = () => {};

  constructor(private readonly qmp: QmpClient) {}

  async requestUnplug(id: string): Promise<void> {
    let done = (): void => {};
    const gone = new Promise<void>((resolve) => (done = resolve));
    const end = this.qmp.onEvent((event, data) => {
      if (event === "DEVICE_DELETED" && (data as { device?: string }).device === id) {
        done();
      }
    });
    try {
      await this.qmp.execute("device_del", { id });
      await gone;
    } finally {
      end();
    }
  }

  async plug(argument: string): Promise<void> {
    const [driver, ...rest] = argument.split(",");
    await this.qmp.execute("device_add", { driver, ...Object.fromEntries(rest.map((pair) => pair.split("=", 2) as [string, string])) });
  }

  async isPlugged(id: string): Promise<boolean> {
    return (await this.children(PERIPHERAL)).has(id);
  }

  async reset(): Promise<void> {
    let done = (): void => {};
    const happened = new Promise<void>((resolve) => (done = resolve));
    const end = this.qmp.onEvent((event) => {
      if (event === "RESET") {
        done();
      }
    });
    await this.qmp.execute("system_reset");
    await happened;
    end();
    this.onReset();
  }

  /** The text with which the machine's own monitor answers a command. */
  async monitor(line: string): Promise<string> {
    return String(await this.qmp.execute("human-monitor-command", { "command-line": line }));
  }

  /** Devices with a name in a slot of their own. Properties besides bus and id are not known from outside, and not given again. */
  async candidates(): Promise<RemoteCandidate[]> {
    const types = await this.children(PERIPHERAL);
    const out: RemoteCandidate[] = [];
    for (const [id, type] of types) {
      const bus = await this.qmp.execute("qom-get", { path: `${PERIPHERAL}/${id}`, property: "parent_bus" }).catch(() => "");
      const [, port, name] = /\/([^/]+)\/([^/]+)$/.exec(String(bus)) ?? [];
      if (port !== undefined && SLOTS.includes(types.get(port) ?? "")) {
        out.push({ id, argument: `${type},bus=${name},id=${id}` });
      }
    }
    return out;
  }

  /** QOM path of the interrupt controller; null: none is found. */
  async interruptController(): Promise<string | null> {
    const path = "/machine/unattached";
    for (const [name, type] of await this.children(path)) {
      if (/^(?:arm[-_]gic(?:v3)?|kvm-arm-gic(?:v3)?)$/.test(type)) {
        return `${path}/${name}`;
      }
    }
    return null;
  }

  /** Names and types of the objects below a path. */
  private async children(path: string): Promise<Map<string, string>> {
    const list = (await this.qmp.execute("qom-list", { path })) as Array<{ name: string; type: string }>;
    return new Map(list.flatMap(({ name, type }) => (type.startsWith("child<") ? [[name, type.slice(6, -1)] as const] : [])));
  }
}

/** An operator that can do nothing. */
export class AbsentOperator implements MachineOperator {
  requestUnplug(): Promise<void> {
    return this.refuse("device_del");
  }

  plug(): Promise<void> {
    return this.refuse("device_add");
  }

  isPlugged(): Promise<boolean> {
    return Promise.resolve(true);
  }

  reset(): Promise<void> {
    return this.refuse("system_reset");
  }

  private refuse(command: string): Promise<never> {
    return Promise.reject(new Refusal(`${command} needs QMP`, { wouldWork: "--qmp unix:PATH" }));
  }
}
