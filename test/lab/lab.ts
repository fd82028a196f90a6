/**
 * Guests that a real kernel runs: on this machine where its KVM can (VIOMMU_LAB=local), in an emulated one (lab/) else.
 * The emulated one is built once into VIOMMU_LAB_DIR, or a folder for temporary files, and is there while tests run.
 * A host-* is emulated always: its functions are given to guests.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunReport } from "../../src/run/index.js";
import { packageFolder } from "../../src/support/index.js";

/** How much longer than usual everything may take, on a machine that has other work. */
const PATIENCE = Number(process.env.VIOMMU_LAB_PATIENCE ?? 1);

export type LabArch = "x86" | "arm64" | "host-arm64" | "host-x86";

/** The kernels that a host is tried with: the one that was given, or all that are kept beside the project; [""]: none is found. */
export function hostKernels(): string[] {
  const folder = join(packageFolder(), "../shared/lab/arm64");
  const kept = existsSync(folder) ? readdirSync(folder).filter((name) => /^Image-[\d.]+\.gz$/.test(name)).sort().map((name) => join(folder, name)) : [];
  const given = process.env.VIOMMU_LAB_KERNEL;
  return given !== undefined && given !== "" ? [given] : kept.length > 0 ? kept : [""];
}

export interface Boot {
  readonly host: string;
  /** The command line's words but for the console's and the monitor's. */
  readonly arguments: string;
  /** Words of the kernel's command line, the tests among them (lab/guest/init.sh). */
  readonly append: string;
  /** In the lab's boot folder: vmlinuz (default), or vmlinuz-FLAVOUR of Debian's. */
  readonly kernel?: string;
  /** A kernel inside, for kexec. */
  readonly withKernel?: boolean;
  readonly steps?: ReadonlyArray<{ readonly on: string; readonly in?: "console" | "monitor"; readonly wait?: number; readonly qmp: object }>;
  readonly seconds?: number;
  /** Milliseconds until it is ended by SIGKILL, from the start or from when its console says `killOn`. */
  readonly killAfter?: number;
  readonly killOn?: string;
}

export interface Booted {
  readonly status: number | null;
  readonly signal: string | null;
  readonly console: string;
  readonly report: RunReport | null;
  readonly stderr: string;
  readonly monitor: string;
}

/**
 * Steps that take a function out when the console says `word`, and bring it back. Linux looks at the slot once more after
 * it has switched it off: who comes then and presses the button behind that is switched on and, by the button, off again.
 */
export function outAndBack(word: string, device: { readonly id: string; readonly [key: string]: unknown }): NonNullable<Boot["steps"]> {
  return [
    { on: word, qmp: { execute: "device_del", arguments: { id: device.id } } },
    { on: "DEVICE_DELETED", in: "monitor" as const, wait: 2000 * PATIENCE, qmp: { execute: "device_add", arguments: device } },
  ];
}

/** The same again and again, each time when the console says `word` and the number of the turn. */
export function plugs(turns: number, word: string, device: { readonly id: string; readonly [key: string]: unknown }): NonNullable<Boot["steps"]> {
  return Array.from({ length: turns }, (_, n) => outAndBack(`${word} ${n + 1}\\b`, device)).flat();
}

export class Lab {
  private readonly folder: string;
  private readonly local: boolean;
  /** One that runs already, and goes on: for those who try a test again and again. */
  private readonly running = process.env.VIOMMU_LAB === "running";

  constructor(private readonly arch: LabArch) {
    this.local = process.env.VIOMMU_LAB === "local" && !arch.startsWith("host-");
    this.folder = join(process.env.VIOMMU_LAB_DIR ?? join(tmpdir(), "viommu-lab"), arch);
  }

  /** Where kernels and disks for guests are. */
  get places(): string {
    return this.local ? join(this.folder, "boot") : "/boot";
  }

  private script(words: readonly string[], kernel = ""): string {
    return execFileSync("bash", [join(packageFolder(), "lab/lab.sh"), words[0], this.arch, this.folder, ...words.slice(1)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
      maxBuffer: 2 ** 26,
      env: {
        ...process.env,
        ...(kernel === "" ? {} : { VIOMMU_LAB_KERNEL: kernel }),
        // The disk with programs is for the tests that CI leaves out.
        VIOMMU_LAB_DEBIAN: this.arch === "arm64" && process.env.VIOMMU_FUZZ === "nightly" ? "arm64 arm64-16k" : "",
        VIOMMU_LAB_TOOLS: ["x86", "host-arm64"].includes(this.arch) && process.env.VIOMMU_FUZZ === "nightly" ? "yes" : "",
      },
    });
  }

  start(): void {
    if (this.running) {
      return;
    }
    execFileSync("npm", ["run", "--silent", "build"], { cwd: packageFolder(), stdio: "inherit" });
    mkdirSync(this.folder, { recursive: true });
    this.script(["build"]);
    if (!this.local) {
      this.script(["start"]);
    }
  }

  /** Another kernel for L1; guests have the one that the lab was built with. */
  restart(kernel: string): void {
    if (!this.running) {
      this.script(["stop"]);
      this.script(["start"], kernel);
    }
  }

  stop(): void {
    if (!this.local && !this.running) {
      this.script(["stop"]);
    }
  }

  /** Runs shell text where guests run. */
  shell(text: string, seconds = 300): string {
    return this.local ? spawnSync("sh", ["-c", text], { encoding: "utf8" }).stdout : this.script(["run", text, String(seconds * PATIENCE)]);
  }

  /** A disk of L1's functions (docs/lab.md): the MD5 of its first bytes. */
  diskSum(name: string, bytes: number): string {
    return createHash("md5").update(this.diskBytes(name, 0, bytes)).digest("hex");
  }

  diskBytes(name: string, offset: number, bytes: number): Buffer {
    const data = Buffer.alloc(bytes);
    const file = openSync(join(this.folder, name), "r");
    readSync(file, data, 0, bytes, offset);
    closeSync(file);
    return data;
  }

  writeDisk(name: string, offset: number, data: Uint8Array): void {
    const file = openSync(join(this.folder, name), "r+");
    writeSync(file, data, 0, data.length, offset);
    closeSync(file);
  }

  boot({ host, arguments: words, append, kernel = "vmlinuz", withKernel = false, steps = [], seconds = 400, killAfter, killOn }: Boot): Booted {
    const { places } = this;
    const request = {
      host,
      arguments: [
        ...words.trim().split(/\s+/),
        "-kernel", join(places, kernel),
        "-initrd", join(places, `initrd${withKernel ? "-kexec" : ""}${/^vmlinuz(-arm64.*)$/.exec(kernel)?.[1] ?? ""}.gz`),
        "-append", `${this.arch.endsWith("x86") ? "console=ttyS0 pci=lastbus=0" : "console=ttyAMA0"} loglevel=4 panic=-1 ${append}`,
      ],
      steps,
      seconds: seconds * PATIENCE,
      killAfter,
      killOn,
    };
    const name = `request-${Date.now()}.json`;
    const share = this.local ? this.folder : join(this.folder, "share");
    writeFileSync(join(share, name), JSON.stringify(request));
    try {
      const project = this.local ? packageFolder() : "/root/viommu";
      const run = `node ${project}/lab/run.mjs ${this.local ? share : "/lab"}/${name}`;
      const out = this.local ? execFileSync("sh", ["-c", run], { encoding: "utf8" }) : this.script(["run", run, String(seconds * PATIENCE + 60)]);
      return JSON.parse(out.slice(out.lastIndexOf('\n{"status"') + 1)) as Booted;
    } finally {
      if (existsSync(join(share, name))) {
        rmSync(join(share, name));
      }
    }
  }
}
