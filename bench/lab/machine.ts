/** An emulated machine with KVM (lab/lab.sh), or this one: shell text is run where guests run, programs print JSON there. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageFolder } from "../../src/support/index.js";

export type LabArch = "x86" | "arm64" | "host-arm64";
export const LAB_ARCHITECTURES: readonly LabArch[] = ["arm64", "x86", "host-arm64"];

export interface LabWay {
  /** The folder of labs; each architecture has one in it. */
  readonly folder?: string;
  /** On this machine itself, whose KVM runs kernels: VIOMMU_LAB=local. */
  readonly local?: boolean;
  /** One that runs already is used, and goes on: VIOMMU_LAB=running. */
  readonly running?: boolean;
  /** With a QEMU to measure beside (`qemu-peer`). */
  readonly peer?: boolean;
}

/** Ways that the environment asks for (docs/lab.md). */
export function labWayOfEnvironment(): LabWay {
  return { folder: process.env.VIOMMU_LAB_DIR, local: process.env.VIOMMU_LAB === "local", running: process.env.VIOMMU_LAB === "running" };
}

export class LabMachine {
  private readonly folder: string;
  private requests = 0;

  constructor(
    readonly arch: LabArch,
    private readonly way: LabWay,
  ) {
    this.folder = join(way.folder ?? join(tmpdir(), "viommu-lab"), arch);
  }

  private script(...words: string[]): string {
    const env = this.way.peer === true ? { ...process.env, VIOMMU_LAB_PEER: "on" } : process.env;
    return execFileSync("bash", [join(packageFolder(), "lab/lab.sh"), words[0], this.arch, this.folder, ...words.slice(1)], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 26, env });
  }

  /** Builds it from the built project, and starts it. */
  start(): void {
    if (this.way.running === true) {
      return;
    }
    mkdirSync(this.folder, { recursive: true });
    this.script("build");
    if (this.way.local !== true) {
      this.script("start");
    }
  }

  stop(): void {
    if (this.way.local !== true && this.way.running !== true) {
      this.script("stop");
    }
  }

  /** Where the kernel and the ramdisks are for a guest. */
  get boot(): string {
    return this.way.local === true ? join(this.folder, "boot") : "/boot";
  }

  /** The package, where guests run. */
  get project(): string {
    return this.way.local === true ? packageFolder() : "/root/viommu";
  }

  /** Runs shell text where guests run. @throws where its exit code is not 0 */
  shell(text: string, seconds = 300): string {
    return this.way.local === true ? execFileSync("sh", ["-c", text], { encoding: "utf8", maxBuffer: 2 ** 26 }) : this.script("run", text, String(seconds));
  }

  /** Runs a program of lab/ with a request in a file; what it prints last is JSON. */
  request(program: string, request: object, seconds: number): unknown {
    const share = this.way.local === true ? this.folder : join(this.folder, "share");
    const name = `request-${process.pid}-${++this.requests}.json`;
    writeFileSync(join(share, name), JSON.stringify(request));
    try {
      const out = this.shell(`node ${this.project}/lab/${program} ${this.way.local === true ? share : "/lab"}/${name}`, seconds);
      return JSON.parse(out.slice(out.lastIndexOf('\n{"status"') + 1));
    } finally {
      rmSync(join(share, name), { force: true });
    }
  }
}
