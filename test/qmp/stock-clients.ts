/** Scripts that command a machine over QMP with what there is for QEMU, on any program that takes QEMU's arguments. */
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const run = promisify(execFile);

export interface Commanded {
  /** The monitor's socket. */
  readonly path: string;
  /** Waits for the machine's end, which `quit` has asked for. */
  ended(): Promise<void>;
}

interface Client {
  readonly name: string;
  /** A program that succeeds where the client can run, and what to install where it does not. */
  readonly needs: readonly [package_: string, program: string, ...args: string[]];
  /** Arguments of the machine, besides `-M virt -nodefaults`. */
  readonly machine: string;
  readonly command: (path: string) => readonly [program: string, ...args: string[]];
  readonly says: string | RegExp;
}

const python = (script: string) => (path: string) => ["python3", "-c", script, path] as const;

const CLIENTS: readonly Client[] = [
  {
    name: "socat with plain lines",
    needs: ["socat", "socat", "-V"],
    machine: "-device edu,id=e0",
    command: (path) => [
      "sh",
      "-c",
      `printf '%s\\n' '{"execute":"qmp_capabilities"}' '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/e0","property":"dma_mask"}}' '{"execute":"quit"}' | socat -t 5 - "UNIX-CONNECT:${path}"`,
    ],
    says: /\{"return": 268435455\}/,
  },
  {
    name: "python3 with its socket and json modules",
    needs: ["python3", "python3", "-c", "import socket"],
    machine: "-device pcie-root-port,id=rp0",
    command: python(`
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
assert "QMP" in json.loads(f.readline())
def ask(name, **arguments):
    f.write(json.dumps({"execute": name, "arguments": arguments})); f.flush()
    while True:
        answer = json.loads(f.readline())
        if "event" not in answer: return answer
ask("qmp_capabilities")
assert ask("device_add", driver="edu", id="e1", bus="rp0") == {"return": {}}
assert ask("device_add", driver="edu", id="e1", bus="rp0")["error"]["desc"] == "Duplicate device ID 'e1'"
print([bus["bus"] for bus in ask("query-pci")["return"]]); ask("quit")
`),
    says: "[0]\n",
  },
  {
    name: "QEMU's own Python package",
    needs: ["python3-qemu-qmp", "python3", "-c", "import qemu.qmp"],
    machine: "-device pcie-root-port,id=rp0",
    command: python(`
import asyncio, sys
from qemu.qmp import QMPClient, ExecuteError
async def main():
    client = QMPClient("test")
    await client.connect(sys.argv[1])
    await client.execute("device_add", {"driver": "edu", "id": "e1", "bus": "rp0"})
    with client.listener("DEVICE_DELETED") as deleted:
        await client.execute("device_del", {"id": "e1"})
        print((await deleted.get())["data"]["path"])
    try:
        await client.execute("device_del", {"id": "e1"})
    except ExecuteError as error:
        print(error.error_class)
    await client.execute("quit")
    try:
        await client.disconnect()
    except EOFError:
        pass  # the other side was faster
asyncio.run(main())
`),
    says: "/machine/peripheral/e1\nDeviceNotFound\n",
  },
  {
    name: "QEMU's own Python package, its older interface",
    needs: ["python3-qemu-qmp", "python3", "-c", "import qemu.qmp.legacy"],
    machine: "",
    command: python(`
import sys
from qemu.qmp.legacy import QEMUMonitorProtocol
vm = QEMUMonitorProtocol(sys.argv[1])
print(vm.connect()["QMP"]["version"]["qemu"]["major"])
print(vm.cmd("stop"), [event["event"] for event in vm.get_events(wait=True)])
print(vm.cmd("human-monitor-command", **{"command-line": "info status"}))
vm.cmd("quit")
try:
    vm.close()
except EOFError:
    pass  # the other side was faster
`),
    says: "11\n{} ['STOP']\nVM status: paused\r\n\n",
  },
  {
    name: "QEMU's qmp-shell",
    needs: ["python3-qemu-qmp", "python3", "-c", "import qemu.qmp.qmp_shell"],
    machine: "-device edu,id=e0",
    command: (path) => ["sh", "-c", `printf '%s\\n' 'query-status' 'qom-get path=/machine/peripheral/e0 property=type' 'device_del id=nobody' 'quit' | python3 -m qemu.qmp.qmp_shell "${path}" 2>"${path}.err" || grep -q EOFError "${path}.err" # the other side was faster`],
    says: /Connected to QEMU 11\.1\.\d+[\s\S]*\{"return": \{[^}]*"status": "running"[^}]*\}\}[\s\S]*\{"return": "edu"\}[\s\S]*"DeviceNotFound"/,
  },
];

/** Declares a test for each client. @param start starts a machine with a monitor that listens, given its arguments */
export function stockClients(start: (machine: string) => Promise<Commanded>): void {
  for (const { name, needs, machine, command, says } of CLIENTS) {
    const [package_, program, ...args] = needs;
    if (spawnSync(program, args).status !== 0) {
      it.skip(`${name}: ${package_} is not installed`, () => {});
      continue;
    }
    it(name, async () => {
      const { path, ended } = await start(machine);
      const [first, ...rest] = command(path);
      const { stdout } = await run(first, rest);
      if (typeof says === "string") {
        expect(stdout).toBe(says);
      } else {
        expect(stdout).toMatch(says);
      }
      await ended();
    });
  }
}
