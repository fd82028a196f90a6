/**
 * Lines, hosts and reports as users have brought them, held against what is right for each (`expected.txt` there). They are
 * no part of the package: a folder beside it has them, or VIOMMU_USER_CASES names it.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { loadHost } from "../../src/host/shipped/index.js";
import type { RunReport } from "../../src/run/report/index.js";
import { viommu } from "../cli/streams.js";
import { build } from "../machine/build.js";

const folder = process.env.VIOMMU_USER_CASES ?? fileURLToPath(new URL("../../../shared/cases/users", import.meta.url));

interface Case {
  /** Folder's name, up to its first hyphen. */
  readonly name: string;
  /** A shipped host, or a file of the case's. */
  readonly host?: string;
  /** Default machine.args. */
  readonly file?: string;
  readonly options?: readonly string[];
  /** Behind the file. */
  readonly more?: readonly string[];
  readonly code: number;
  /** In what was printed, spaces and line ends being one space. */
  readonly says?: readonly RegExp[];
  readonly saysNot?: readonly RegExp[];
  readonly report?: (report: RunReport) => void;
}

const sourceIds = (report: RunReport): Array<number | null> => functionsOf(report).map(({ streamId }) => streamId);
const slots = (report: RunReport): string[] => functionsOf(report).map(({ bdf }) => bdf.slice(bdf.lastIndexOf(":") + 1)).sort();
const functionsOf = ({ machine }: RunReport): RunReport["machine"]["functions"] => machine.functions.filter(({ host }) => host !== null);
const kinds = ({ machine }: RunReport): boolean[] => machine.iommus.map(({ accel }) => accel);
const noted = (report: RunReport, ...notes: string[]): void => notes.forEach((note) => expect(report.notes.some((one) => one.includes(note)), note).toBe(true));

const CASES: readonly Case[] = [
  { name: "A1", host: "desktop", code: 2, says: [/slot 2 function 0 .*in use by pcie-root-port,id=pci\.9/] },
  // A line with a kernel of Arm's: on a machine of Arm's its file is not here, and the refusal says what runs all the same.
  ...["machine.args", "substituted.args"].map((file): Case =>
    process.arch === "arm64"
      ? { name: "B01", host: "host.json", file, code: 2, says: [/could not load kernel 'Image'.*--guest linux/] }
      : { name: "B01", host: "host.json", file, code: 0, says: [/no kernel of aarch64 runs by KVM on this machine/], report: (report) => expect(kinds(report)).toEqual([true, true, false]) }),
  ...["machine.args", "substituted.args"].map((file): Case => ({ name: "B01", host: "host.json", file, options: ["--guest", "linux"], code: 0, report: (report) => expect(kinds(report)).toEqual([true, true, false]) })),
  { name: "B03", host: "grace", code: 0, report: (report) => noted(report, "pasid=on is of an older version; taken as ssidsize=auto", "e1000") },
  { name: "B04", host: "desktop", code: 2, says: [/48.*39/, /aw-bits=39/] },
  { name: "B04", host: "desktop", more: ["-M", "pc-q35-9.1"], code: 0 },
  { name: "B06", host: "host.json", code: 0, report: (report) => noted(report, "-global q35-pcihost.pci-hole64-size: no device here has that driver") },
  { name: "B07", host: "host.json", code: 2, says: [/IDR5\.GRAN16K/] },
  ...["machine.args", "substituted.args"].map((file): Case => ({ name: "B30", host: "two-socket-spr", file, code: 0, report: (report) => expect(new Set(sourceIds(report)).size).toBe(1) })),
  { name: "C1", host: "desktop", code: 2, says: [/caching-mode=on/] },
  { name: "C2", host: "two-socket-spr", code: 2, says: [/kernel-irqchip=split/] },
  { name: "D1", host: "two-socket-spr", code: 0, says: [/pcie\.0 \(bus 00\) bypasses the IOMMU/], saysNot: [/covers pcie\.0/] },
  { name: "F1", host: "two-socket-spr", code: 0, says: [/ok function level reset/] },
  { name: "F1", host: "two-socket-spr", file: "pasid.args", code: 0, says: [/skip PASIDs: caching-mode=on is needed/, /ok function level reset/] },
  // Its last step is the order that no Linux has, of which nobody is told without caching mode.
  { name: "F1", host: "two-socket-spr", options: ["--guest", "flr-linux-order.mjs"], code: 1, says: [/ok no detach at all \(Linux before 6\.19\)/, /ok attached again before Command is restored \(Linux from 6\.19\)/, /failed: 1 of 4 steps/] },
  ...["arm.args", "x86.args"].map((file): Case => ({ name: "G2", file, options: ["--guest", "sva.mjs"], code: 0 })),
  ...["accel.args", "software.args"].map((file): Case => ({ name: "G3", file, options: ["--guest", "adopt.mjs"], code: 0 })),
  { name: "L01", host: "grace", code: 0, report: (report) => noted(report, "modelled: virtio-rng-pci 'rng0', virtio-rng-pci 'rng1'") },
  { name: "L01", host: "grace", file: "substituted.args", code: 0 },
  ...["L02", "L03"].map((name): Case => ({ name, host: "two-socket-spr", code: 1, says: [/acpi=off takes a q35's only tables away, with them the DMAR/] })),
  { name: "L05", host: "grace", code: 2, says: [/VFIO_FD31: .*would work: --fd 31=[0-9a-f:.]+.*VFIO_FD32: .*would work: --fd 32=/] },
  { name: "L05", host: "grace", options: ["--fd", "31=0009:01:00.0", "--fd", "32=0008:01:00.0"], code: 0, report: (report) => expect(new Map(functionsOf(report).map(({ id, host }) => [id, host]))).toEqual(new Map([["hostdev0", "0009:01:00.0"], ["hostdev1", "0008:01:00.0"]])) },
  { name: "L06", host: "two-socket-spr", code: 2, says: [/^viommu: vfio 0000:17:00\.0: legacy VFIO containers are not available/], saysNot: [/viommu: .*viommu: /] },
  { name: "L07", host: "grace", code: 0 },
  { name: "L10", host: "two-socket-spr", code: 0 },
  ...["machine.args", "ps.args", "trailing-spaces.args"].map((file): Case => ({
    name: "L14",
    host: "two-socket-spr",
    file,
    code: 0,
    report: (report) => noted(report, ...(file === "ps.args" ? ["-machine pc-q35-rhel9.2.0: RHEL's machine type, which follows pc-q35-7.2"] : []), ...(file === "trailing-spaces.args" ? ["a backslash with blanks behind it"] : [])),
  })),
  { name: "L15", host: "two-socket-spr", code: 0 },
  { name: "L16", host: "grace", code: 0, report: (report) => noted(report, "the first line of libvirt's log is skipped (libvirt 11.9.0, QEMU 10.1.0)", "a message of QEMU is skipped", "libvirt's log is skipped") },
  {
    name: "M1",
    host: "two-socket-spr",
    code: 0,
    report: (report) => {
      expect(slots(report)).toEqual(["00.0", "00.1"]);
      expect(new Set(sourceIds(report)).size).toBe(2);
    },
  },
  { name: "P1", host: "grace", code: 2, says: [/Illegal numa node 2/] },
  { name: "S1", options: ["--guest", "regs.mjs"], code: 0, says: [/said CAP [0-9a-f]+ ECAP [0-9a-f]+/] },
  { name: "S1", options: ["--guest", "regs.mjs"], code: 0, report: (report) => expect(report.guest?.said).toEqual([expect.stringMatching(/^CAP [0-9a-f]+ ECAP [0-9a-f]+$/)]) },
  { name: "X1", host: "two-socket-spr", code: 0, report: (report) => noted(report, "dma-drain=on", "x-scalable-mode=modern is of an older version; taken as scalable-mode=on,fsts=on") },
];

describe.skipIf(!existsSync(folder))("what users brought", () => {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const path = (name: string, file: string): string => join(folder, names.find((one) => one.startsWith(`${name}-`))!, file);

  it("is all held here", () => {
    const held = new Set([...CASES.map(({ name }) => name), "H1", "H3", "Q1"]);
    expect(names.filter((one) => !held.has(one.split("-")[0]))).toEqual([]);
  });

  it.each(CASES.map((one) => ({ ...one, title: [one.name, one.file ?? "", ...(one.options ?? []), ...(one.more ?? []), one.report === undefined ? "" : "(data)"].filter((word) => word !== "").join(" ") })))("$title", async ({ name, host, file = "machine.args", options = [], more = [], code, says = [], saysNot = [], report }) => {
    const own = options.map((word) => (word.endsWith(".mjs") ? path(name, word) : word));
    const on = host === undefined ? [] : ["--host", host.endsWith(".json") ? path(name, host) : host];
    const result = await viommu("run", ...on, ...own, ...(report === undefined ? [] : ["--json"]), path(name, file), ...more);
    const text = `${result.err}${result.out}`.replace(/\s+/g, " ");
    expect(result.code, text.slice(0, 2000)).toBe(code);
    says.forEach((words) => expect(text).toMatch(words));
    saysNot.forEach((words) => expect(text).not.toMatch(words));
    report?.(JSON.parse(result.out) as RunReport);
  });

  it("H1: cap and ecap as dmesg shows them are what they decode to", async () => {
    const given = await loadHost(path("H1", "host.json"));
    const { vtds } = JSON.parse(readFileSync(path("H1", "decoded.json"), "utf8")) as { vtds: Array<Record<string, unknown>> };
    const features = vtds.map((unit) => Object.fromEntries(Object.entries(unit).filter(([name]) => name !== "base")));
    expect(given.vtds).toMatchObject(features);
    expect((await viommu("run", "--host", path("H1", "host.json"), "--quiet", "--guest", "none", "--", "-M", "q35", "-m", "1G")).code).toBe(0);
  });

  it("H3: a function with a reserved direct window is refused with the kernel's reason", async () => {
    const { code, err } = await viommu("run", "--host", path("H3", "host.json"), "--quiet", "--guest", "none", "--", "-M", "q35", "-m", "1G", "-object", "iommufd,id=i", "-device", "vfio-pci,host=01:00.0,iommufd=i");
    expect([code, err.replace(/\s+/g, " ")]).toEqual([2, expect.stringMatching(/Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping/)]);
  });

  it("Q1: a queue's base is aligned to its size, CONS is writable while it is off, and what is undefined is CERROR_ILL", () => {
    const REGISTERS = 0x905_0000;
    const QUEUE = 0x4800_0000;
    const drained = (writes: ReadonlyArray<readonly [address: number, size: 4 | 8, value: bigint]>): [cons: number, gerror: number] => {
      const { machine, host } = build("-M virt,iommu=smmuv3 -m 512M -nodefaults -accel qtest");
      machine.start();
      const { memory } = machine.board;
      writes.forEach(([address, size, value]) => memory.writeWord(address, size, value));
      const seen: [number, number] = [Number(memory.readWord(REGISTERS + 0x9c, 4)), Number(memory.readWord(REGISTERS + 0x60, 4))];
      machine.shutdown();
      host.close();
      return seen;
    };
    const on = [[REGISTERS + 0x20, 4, 8n]] as const;
    const base = (address: number) => [REGISTERS + 0x90, 8, BigInt(address) | 8n] as const;
    const command = (at: number, low: bigint) => [[QUEUE + at, 8, low], [QUEUE + at + 8, 8, 0n]] as const;
    expect(drained([...command(0, 0x46n), ...command(0x800, 0xffn), base(QUEUE + 0x800), ...on, [REGISTERS + 0x98, 4, 1n]])).toEqual([1, 0]);
    expect(drained([[REGISTERS + 0x9c, 4, 5n], [REGISTERS + 0x98, 4, 5n], base(QUEUE), ...command(0x50, 0x46n), ...on, [REGISTERS + 0x98, 4, 6n]])).toEqual([6, 0]);
    const one = (operation: bigint): [number, number] => drained([...command(0, operation), base(QUEUE), ...on, [REGISTERS + 0x98, 4, 1n]]);
    expect([0x1n, 0x2n, 0x3n].map(one)).toEqual([[1, 0], [1, 0], [1, 0]]);
    expect([0xffn, 0x3046n, 0x20n, 0x40n, 0x45n].map(one)).toEqual(Array.from({ length: 5 }, () => [0x0100_0000, 1]));
  });
});
