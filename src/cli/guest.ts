import { writeFileSync } from "node:fs";
import { type Command, Option } from "commander";
import pc from "picocolors";
import { type ChardevSpec, describeChardev } from "../chardev/index.js";
import { DEFAULT_GUEST, GUEST_NAMES, GUEST_TOLERANCES, REMOTE_BOARDS, type RemoteBoard, type Tolerance } from "../guest/choices/index.js";
import { boardTraits, parseChardevShort } from "../machine/arguments/index.js";
import type { guestLines as GuestLines, RemoteReport } from "../run/index.js";
import { Refusal, systemWords } from "../support/index.js";
import { parseFirmware, parseGranule, parseSeed, type VtdOptions, vtdOptions } from "./guest-options.js";
import { progress } from "./progress.js";
import type { Streams } from "./streams.js";

interface GuestOptions extends VtdOptions {
  readonly qtest: string;
  readonly qmp?: string;
  readonly machine: string;
  readonly guest: string;
  readonly json?: boolean;
  readonly seed: number;
  readonly firmware: "dt" | "acpi";
  readonly granule: 4096 | 16384 | 65536;
  readonly tolerate?: Tolerance[];
  readonly idleFirmware?: string;
}

const HELP = `
It listens at PATH, and QEMU connects when it is started with
  -accel qtest -qtest unix:PATH -qtest-log none -display none [-qmp unix:PATH2]
A QEMU without the qtest accelerator (Debian's 7.2) is started with -accel tcg
-bios FILE, where --idle-firmware FILE has written a program that does nothing.
With ,server=off it connects to a QEMU that listens
(-qtest unix:PATH,server=on,wait=off). QEMU's -machine virt has no kernel and no
firmware then: -kernel and -bios are to be left out. Messages are seen with
-machine virt,gic-version=2 or msi=gicv2m; an ITS is hidden from the guest. With
--machine q35 this side plays the firmware, and messages are seen with --qmp (in
the local APIC).
Devices are unplugged and the machine is reset with --qmp.`;

/** `viommu guest`: a guest of ours on a machine of another process. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  command
    .requiredOption("--qtest <address>", "unix:PATH or tcp:HOST:PORT, where QEMU's -qtest connects to")
    .option("--qmp <address>", "the same for QEMU's -qmp: hot-plug and reset")
    .option("--machine <name>", "the board", "virt")
    .option("--guest <name|file>", `the guest: ${GUEST_NAMES.join(", ")}, or a script`, DEFAULT_GUEST)
    .option("--json", "print the account as JSON")
    .option("--firmware <dt|acpi>", "the guest boots by the device tree or by ACPI", parseFirmware, "dt")
    .addOption(new Option("--granule <4K|16K|64K>", "page size of the guest's page tables").argParser(parseGranule).default(4096, "4K"))
    .addOption(new Option("--tolerate <what...>", "leave out a check that the machine is known to fail (docs/differences.md)").choices(GUEST_TOLERANCES))
    .addOption(vtdOptions()[0])
    .addOption(vtdOptions()[1])
    .option("--seed <number>", "seed of the guest's patterns", parseSeed, 1)
    .option("--idle-firmware <file>", "write firmware there that lets the CPU wait, for a QEMU without -accel qtest")
    .addHelpText("after", HELP)
    .action(async (_options: unknown, command: Command) => {
      const options = command.opts<GuestOptions>();
      const board = REMOTE_BOARDS.find((name) => name === options.machine);
      if (board === undefined) {
        throw new Refusal(`--machine ${options.machine} is no board that the guest knows`, { wouldWork: REMOTE_BOARDS.map((name) => `--machine ${name}`).join(", ") });
      }
      const { findGuest, guestLines, idleOptions, runRemoteGuest } = await import("../run/index.js");
      const guest = await findGuest(options.guest);
      if (guest === null) {
        throw new Refusal("--guest none has nothing to do on another machine", { wouldWork: `--guest ${GUEST_NAMES.join(", ")}, or a script` });
      }
      if (options.idleFirmware !== undefined) {
        await writeIdleFirmware(options.idleFirmware, board);
      }
      const said = (option: string): boolean => command.getOptionValueSource(option) !== "default";
      const { intelIommu: vtd, kexec: kexecs } = options;
      for (const line of idleOptions(board, { firmware: said("firmware") ? options.firmware : undefined, granule: said("granule") ? options.granule : undefined, vtd, kexecs })) {
        streams.err(`viommu: ${line}\n`);
      }
      const shown = progress(streams, options.json === true);
      const qtest = side("--qtest", options.qtest);
      const qmp = options.qmp === undefined ? null : side("--qmp", options.qmp);
      const report = await runRemoteGuest({
        board,
        qtest,
        qmp,
        guest,
        seed: options.seed,
        firmware: options.firmware,
        granule: options.granule,
        tolerate: options.tolerate,
        vtd,
        kexecs,
        onListening: (ports) => streams.err(waitingFor(board, qtest, qmp, ports, options.idleFirmware)),
        onProgress: shown.show,
      }).finally(shown.done);
      streams.out(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : format(report, guestLines, streams.color));
      finish(report.ok ? 0 : 1);
    });
}

async function writeIdleFirmware(file: string, board: RemoteBoard): Promise<void> {
  const { idleFirmware } = await import("../remote/index.js");
  try {
    writeFileSync(file, idleFirmware(board));
  } catch (error) {
    throw new Refusal(`Could not write to '${file}': ${systemWords(error)}`, { found: `--idle-firmware ${file}`, wouldWork: "a file that can be written" });
  }
}

/** QEMU connects: to listen is what is meant where nothing else is said. */
function side(option: string, text: string): ChardevSpec {
  const spec = parseChardevShort(option, text, new Map());
  if (spec.kind !== "unix" && spec.kind !== "tcp") {
    throw new Refusal(`${option} ${text} is no socket`, { wouldWork: "unix:PATH, tcp:HOST:PORT" });
  }
  return /,server\b/.test(text) ? spec : { ...spec, server: true };
}

function waitingFor(board: RemoteBoard, qtest: ChardevSpec, qmp: ChardevSpec | null, ports: { qtest: number | null; qmp: number | null }, idle: string | undefined): string {
  const option = (spec: ChardevSpec | null, port: number | null, name: string): string => {
    if ((spec?.kind !== "unix" && spec?.kind !== "tcp") || !spec.server) {
      return "";
    }
    return ` -${name} ${describeChardev(spec.kind === "tcp" ? { ...spec, server: false, port: port ?? spec.port } : { ...spec, server: false })}`;
  };
  const options = option(qtest, ports.qtest, "qtest") + option(qmp, ports.qmp, "qmp");
  const accel = idle === undefined ? "qtest" : `tcg -bios ${idle}`;
  return options === "" ? "" : `waiting for: qemu-system-${boardTraits[board].architecture} -machine ${board} -accel ${accel} -display none -qtest-log none${options} ...\n`;
}

function format(report: RemoteReport, guestLines: typeof GuestLines, color: boolean): string {
  const colors = pc.createColors(color);
  const steps = report.guest === null ? [] : [colors.bold(`Guest ${report.guest.name}`), ...guestLines(report.guest, { color })];
  return `${[...steps, "", report.ok ? colors.green("ok") : colors.red(`failed: ${report.failure ?? ""}`)].join("\n")}\n`;
}
