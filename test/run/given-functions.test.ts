import { describe, expect, it } from "vitest";
import { viommu } from "../cli/streams.js";

const LINE = ["-M", "virt,gic-version=3", "-m", "1G", "-nodefaults", "-object", "iommufd,id=i,fd=30", "-device", "pcie-root-port,id=rp,chassis=1"];
const FN = '{"driver":"vfio-pci","id":"f","iommufd":"i","fd":"31","bus":"rp"}';
/** All of the host board but 0000:03:00.0. */
const OTHERS = ["01", "02"].flatMap((bus) => ["-device", `pcie-root-port,id=rp${bus},chassis=1${bus}`, "-device", `vfio-pci,host=${bus}:00.0,iommufd=i,bus=rp${bus}`]);
type Report = { readonly ok: boolean; readonly notes: string[]; readonly guest: { readonly steps: ReadonlyArray<{ readonly name: string; readonly ok: boolean; readonly skipped?: boolean }> } };

describe("a function that a line names by a descriptor", () => {
  it("is the one that --fd says, also when it is plugged again", async () => {
    const { code, out, err } = await viommu("run", "--host", "grace", "--fd", "31=0009:01:00.0", "--json", "--", ...LINE, "-device", FN);
    const report = JSON.parse(out) as Report;
    expect(err).toBe("");
    expect([code, report.ok]).toEqual([0, true]);
    expect(out).toContain('"host": "0009:01:00.0"');
    const again = report.guest.steps.find(({ name }) => name === "unplug and plug");
    expect([again?.ok, again?.skipped ?? false]).toEqual([true, false]);
  });

  it("is the host's only one that it can be, which is told", async () => {
    const { code, out } = await viommu("run", "--host", "board", "--guest", "none", "--json", "--", ...LINE, ...OTHERS, "-device", "vfio-pci,id=f,iommufd=i,fd=31,bus=rp");
    expect(code).toBe(0);
    expect((JSON.parse(out) as Report).notes.filter((note) => note.includes("fd=31"))).toEqual(["vfio-pci 'f': fd=31 is taken as 0000:03:00.0, the only function of the host that it can be (--fd 31=ADDRESS says another)"]);
  });

  it("is refused where the host has several, each with what would do", async () => {
    const { code, err } = await viommu("run", "--host", "grace", "--", ...LINE, "-device", FN, "-device", "pcie-root-port,id=rp2,chassis=2", "-device", "vfio-pci,id=g,iommufd=i,fd=32,bus=rp2");
    expect(code).toBe(2);
    expect(err.match(/^viommu: vfio VFIO_FD3[12]: open: EBADF/gm)).toHaveLength(2);
    expect(err.replace(/\s+/g, " ")).toMatch(/would work: --fd 31=[0-9a-f:.]+: which function of the host it is, one of .* --fd 32=/);
  });

  it.each([
    [["--fd", "31"], "--fd expects N=ADDRESS"],
    [["--fd", "31=0009:01:00.0", "--fd", "33=0009:01:00.0"], "--fd 33=0009:01:00.0: no function of the machine has that descriptor"],
  ])("%j is refused", async (options, words) => {
    const { code, err } = await viommu("run", "--host", "grace", ...options, "--", ...LINE, "-device", FN);
    expect([code, err.split("\n")[0]]).toEqual([2, `viommu: ${words}`]);
  });

  it("stays a descriptor on a Linux host", async () => {
    const { code, err } = await viommu("run", "--host", "linux", "--fd", "31=0009:01:00.0", "--", ...LINE, "-device", FN);
    expect([code, err.split("\n")[0]]).toEqual([2, "viommu: --fd is for simulated hosts"]);
  });
});
