import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadHost } from "../../src/host/shipped/index.js";
import { findGuest, type GuestToRun, runMachine, type RunReport } from "../../src/run/index.js";
import { traceEvents } from "../../src/support/index.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-trace-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const PASSTHROUGH =
  "-M virt,accel=kvm,gic-version=3 -cpu host -m 1G -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,id=smmu0,accel=on -device pcie-root-port,id=rp0 -device vfio-pci,host=0000:03:00.0,id=nic0,bus=rp0,iommufd=iommufd0";

async function traced(words: string[], options: { more?: string[]; guest?: string } = {}): Promise<{ lines: string[]; report: RunReport }> {
  const lines: string[] = [];
  const report = await runMachine({
    arguments: words,
    host: await loadHost("board"),
    guest: await findGuest(options.guest ?? "none"),
    trace: options.more,
    onTrace: (line) => lines.push(line),
  });
  // Nothing is left on for the next run.
  expect(traceEvents().filter((event) => event.on)).toEqual([]);
  return { lines, report };
}

describe("traces of a run", () => {
  it("show the host's calls with QEMU's names, order and form", async () => {
    const { lines } = await traced([...PASSTHROUGH.split(" "), "-trace", "iommufd_*"]);
    const text = lines.join("\n").replace(/addr=0x[0-9a-f]+/g, "addr=0x..");
    // The formats are those that QEMU 11.1's binary has: what is in them stands after two blanks.
    const expected = [
      /^iommufd_backend_connect fd=0 owned=1 users=1$/m,
      /^iommufd_cdev_getfd {2}\/sys\/bus\/pci\/devices\/0000:03:00\.0 \(fd=1\)$/m,
      /^iommufd_cdev_connect_and_bind {2}\[iommufd=0\] Successfully bound device 0000:03:00\.0 \(fd=1\): output devid=\d+$/m,
      /^iommufd_backend_alloc_ioas {2}iommufd=0 ioas=\d+$/m,
      /^iommufd_backend_map_dma {2}iommufd=0 ioas=\d+ iova=0x40000000 size=0x40000000 addr=0x\.\. readonly=0 \(0\)$/m,
      /^iommufd_backend_alloc_hwpt {2}iommufd=0 dev_id=\d+ pt_id=\d+ flags=0x1 hwpt_type=0 len=0 data_ptr=0x0 out_hwpt=\d+ \(0\)$/m,
      /^iommufd_cdev_pasid_attach_ioas_hwpt {2}\[iommufd=0\] Successfully attached device 0000:03:00\.0 \(1\) pasid 0 to id=\d+$/m,
      /^iommufd_backend_alloc_viommu {2}iommufd=0 dev_id=\d+ type=1 hwpt_id=\d+ data_ptr=0x0 data_len=0x0 viommu_id=\d+ \(0\)$/m,
      /^iommufd_backend_alloc_hwpt {2}iommufd=0 dev_id=\d+ pt_id=\d+ flags=0x0 hwpt_type=2 len=16 data_ptr=0x0 out_hwpt=\d+ \(0\)$/m,
      /^iommufd_backend_free_id {2}iommufd=0 id=\d+ \(0\)$/m,
      /^iommufd_backend_disconnect fd=-1 users=0$/m,
    ];
    expected.forEach((line) => expect(text).toMatch(line));
    const order = expected.map((line) => text.search(line));
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  it("show what the guest's commands make of the accelerated SMMU", async () => {
    const { lines } = await traced(PASSTHROUGH.split(" "), { guest: "linux", more: ["smmuv3_accel_*", "iommufd_backend_invalidate_cache"] });
    expect(lines).toContainEqual(expect.stringMatching(/^smmuv3_accel_install_ste vSID=0x\d+ ste type=translate hwpt_id=0x[0-9a-f]+$/));
    expect(lines).toContainEqual(expect.stringMatching(/^smmuv3_accel_translate_ste vSID=0x\d+ hwpt_id=0x[0-9a-f]+ ste=[0-9a-f]+:[0-9a-f]+$/));
    expect(lines).toContainEqual(expect.stringMatching(/^iommufd_backend_invalidate_cache {2}iommufd=0 id=\d+ data_type=1 entry_len=16 entry_num=(\d+) done_num=\1 data_ptr=0x0 \(0\)$/));
  });

  it("are of one run: of two that go on at once each has its own, and a third none; the first to end silences no other", async () => {
    const linux = (await findGuest("linux"))!;
    let free = (): void => {};
    const gate = new Promise<void>((resolve) => (free = resolve));
    const begin = async (trace: string[], guest: GuestToRun, lines: string[]): Promise<RunReport> =>
      runMachine({ arguments: PASSTHROUGH.split(" "), host: await loadHost("board"), guest, trace, onTrace: (line) => lines.push(line) });
    const lines: string[][] = [[], [], []];
    const late: GuestToRun = {
      name: "late",
      run: async (context) => {
        await gate;
        return linux.run(context);
      },
    };
    const runs = [begin(["smmuv3_accel_*"], late, lines[0]), begin(["iommufd_backend_invalidate_cache"], linux, lines[1]), begin([], late, lines[2])];
    await runs[1];
    const before = lines[1].length;
    expect(lines[0].length).toBeLessThan(10);
    free();
    for (const report of await Promise.all(runs)) {
      expect(report.ok).toBe(true);
    }
    expect(lines[0].length).toBeGreaterThan(10);
    expect(lines[0].filter((line) => !line.startsWith("smmuv3_accel_"))).toEqual([]);
    expect(before).toBeGreaterThan(3);
    expect(lines[1].filter((line) => !line.startsWith("iommufd_backend_invalidate_cache"))).toEqual([]);
    expect([lines[1].length, lines[2].length]).toEqual([before, 0]);
    expect(traceEvents().filter((event) => event.on)).toEqual([]);
  });

  it("leave nothing on where the run cannot begin", async () => {
    const file = join(folder, "out");
    const run = (host: object): Promise<RunReport> =>
      runMachine({ arguments: [...PASSTHROUGH.split(" "), "-trace", `iommufd_*,file=${file}`], host: host as Awaited<ReturnType<typeof loadHost>>, guest: null });
    await expect(run({})).rejects.toThrow();
    expect(traceEvents().filter((event) => event.on)).toEqual([]);
  });

  it("go to a file, begin with the time, and are chosen by a file; a later pattern undoes an earlier one", async () => {
    const events = join(folder, "events");
    const file = join(folder, "out.%d");
    writeFileSync(events, "# what a run shows\niommufd_*\n\n-iommufd_cdev_*\nnosuch_event\n");
    const { lines, report } = await traced([...PASSTHROUGH.split(" "), "-trace", `events=${events},file=${file}`, "-msg", "timestamp=on", "-d", "trace:smmu_reset_exit,unimp", "-trace", "-iommufd_backend_free_id"]);
    expect(lines).toEqual([]);
    const written = readFileSync(file.replace("%d", String(process.pid)), "utf8").trimEnd().split("\n");
    expect(written.length).toBeGreaterThan(4);
    expect(written.every((line) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (?:iommufd_backend_(?!free_id)|iommufd_viommu_|smmu_reset_exit)/.test(line))).toBe(true);
    expect(report.warnings).toContain(`trace event 'nosuch_event' does not exist (${events}:5)`);
    expect(report.notes).toContainEqual("-d unimp: it has no effect here; -d trace:PATTERN has");
  });

  it("say which file is wrong", async () => {
    const machine = ["-M", "virt", "-nodefaults"];
    await expect(traced([...machine, "-trace", `events=${folder}/none`])).rejects.toThrow(`Could not open '${folder}/none': No such file or directory`);
    await expect(traced([...machine, "-D", `${folder}/no/such`])).rejects.toThrow("could not open log file");
    await expect(traced([...machine, "-trace", "foo=1"])).rejects.toThrow("Invalid parameter 'foo'");
  });
});
