/**
 * Guests that a real kernel runs: on this machine where its KVM can (VIOMMU_LAB=local), in an emulated one (lab/) else.
 * The emulated one is built once into VIOMMU_LAB_DIR, or a folder for temporary files, and is there while tests run.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunReport } from "../../src/run/index.js";
import { packageFolder } from "../../src/support/index.js";

export type LabArch = "x86" | "arm64";

export interface Boot {
  readonly host: string;
  /** The command line's words but for the console's and the monitor's. */
  readonly arguments: string;
  /** Words of the kernel's command line, the tests among them (lab/guest/init.sh). */
  readonly append: string;
  /** A kernel inside, for kexec. */
  readonly withKernel?: boolean;
  readonly steps?: ReadonlyArray<{ readonly on: string; readonly in?: "console" | "monitor"; readonly qmp: object }>;
  readonly seconds?: number;
}

export interface Booted {
  readonly status: number | null;
  readonly console: string;
  readonly report: RunReport | null;
  readonly stderr: string;
  readonly monitor: string;
}

export class Lab {
  private readonly folder: string;
  private readonly local = process.env.VIOMMU_LAB === "local";
  /** One that runs already, and goes on: for those who try a test again and again. */
  private readonly running = process.env.VIOMMU_LAB === "running";

  constructor(private readonly arch: LabArch) {
    this.folder = join(process.env.VIOMMU_LAB_DIR ?? join(tmpdir(), "viommu-lab"), arch);
  }

  private script(...words: string[]): string {
    return execFileSync("bash", [join(packageFolder(), "lab/lab.sh"), words[0], this.arch, this.folder, ...words.slice(1)], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 26 });
  }

  start(): void {
    if (this.running) {
      return;
    }
    execFileSync("npm", ["run", "--silent", "build"], { cwd: packageFolder(), stdio: "inherit" });
    mkdirSync(this.folder, { recursive: true });
    this.script("build");
    if (!this.local) {
      this.script("start");
    }
  }

  stop(): void {
    if (!this.local && !this.running) {
      this.script("stop");
    }
  }

  /** Runs shell text where guests run. */
  shell(text: string): string {
    return this.local ? spawnSync("sh", ["-c", text], { encoding: "utf8" }).stdout : this.script("run", text, "300");
  }

  boot({ host, arguments: words, append, withKernel = false, steps = [], seconds = 400 }: Boot): Booted {
    const places = this.local ? join(this.folder, "boot") : "/boot";
    const request = {
      host,
      arguments: [
        ...words.trim().split(/\s+/),
        "-kernel", join(places, "vmlinuz"),
        "-initrd", join(places, withKernel ? "initrd-kexec.gz" : "initrd.gz"),
        "-append", `${this.arch === "x86" ? "console=ttyS0 pci=lastbus=0" : "console=ttyAMA0"} loglevel=4 panic=-1 ${append}`,
      ],
      steps,
      seconds,
    };
    const name = `request-${Date.now()}.json`;
    const share = this.local ? this.folder : join(this.folder, "share");
    writeFileSync(join(share, name), JSON.stringify(request));
    try {
      const project = this.local ? packageFolder() : "/root/viommu";
      const run = `node ${project}/lab/run.mjs ${this.local ? share : "/lab"}/${name}`;
      const out = this.local ? execFileSync("sh", ["-c", run], { encoding: "utf8" }) : this.script("run", run, String(seconds + 60));
      return JSON.parse(out.slice(out.lastIndexOf('\n{"status"') + 1)) as Booted;
    } finally {
      if (existsSync(join(share, name))) {
        rmSync(join(share, name));
      }
    }
  }
}
