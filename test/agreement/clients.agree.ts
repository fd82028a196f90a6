/** The stock clients of qtest and QMP, which test/qtest and test/qmp run on viommu, on the QEMUs that they were made for. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { type Commanded, stockClients as monitorClients } from "../qmp/stock-clients.js";
import { stockClients as qtestClients } from "../qtest/stock-clients.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { againstQemus } from "./suite.js";

const old = (program: QemuProgram): string | null => (atLeast(program.version, 11, 1) ? null : "the answers are those of 11.1 and its iommu-testdev");

againstQemus("aarch64", "clients of qtest", old, (program) => qtestClients(program.name, () => program.command));

againstQemus("aarch64", "clients of QMP", old, (program) => monitorClients((machine) => commanded(program, machine)));

async function commanded({ command, name }: QemuProgram, machine: string): Promise<Commanded> {
  const folder = mkdtempSync(join(tmpdir(), "viommu-agreement-"));
  chmodSync(folder, 0o755);
  const path = join(folder, "qmp");
  const words = `-M virt -cpu max -nodefaults -display none -accel qtest ${machine}`.trim().split(" ");
  const child = spawn(command[0], [...command.slice(1), ...words, "-qmp", `unix:${path},server=on,wait=off`], { stdio: "ignore" });
  const gone = once(child, "close") as Promise<[number | null]>;
  onTestFinished(async () => {
    child.kill();
    await gone;
    rmSync(folder, { recursive: true, force: true });
  });
  while (!existsSync(path) && child.exitCode === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return {
    path,
    ended: async () => {
      expect((await gone)[0], name).toBe(0);
    },
  };
}
