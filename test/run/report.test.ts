import { readFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";
import { ForwardingHost, ForwardingIommufd, HostObserver, observeHost } from "../../src/host/instruments/index.js";
import type { Iommufd } from "../../src/iommufd/index.js";
import { CallCounter } from "../../src/host/instruments/index.js";
import { createSimulatedHost, loadHostDescription } from "../../src/host/simulated/index.js";
import type { GuestReport } from "../../src/guest/index.js";
import { findGuest, type GuestToRun, machineTree, runMachine, type RunReport, type RunRequest } from "../../src/run/index.js";
import { reportSchema } from "../../src/run/report/index.js";
import { Refusal } from "../../src/support/index.js";
import { ACCEL, GPU } from "../machine/build.js";
import { words } from "../machine/refused.js";

const grace = loadHostDescription(readFileSync(new URL("../../hosts/grace.json", import.meta.url), "utf8"), "grace.json");

async function run(line: string, guest: GuestToRun["run"] | null = null, more: Partial<RunRequest> = {}): Promise<RunReport> {
  return runMachine({ arguments: words(line), host: grace, guest: guest === null ? null : { name: "test", run: guest }, ...more });
}

const nothing: GuestReport = { steps: [], dmaChecked: 0, events: [], ok: true };

describe("the account", () => {
  it("has exactly the fields of its schema", async () => {
    const report = reportSchema.parse(JSON.parse(JSON.stringify(await run(`${ACCEL} ${GPU}`))));
    expect(report.ok).toBe(true);
  });

  it("tells buses of bridges without ids apart, by QEMU's names", async () => {
    const ports = "-device pcie-root-port,chassis=1 -device pcie-root-port,chassis=2 -device e1000e,bus=pcie.1";
    const switches = "-device pcie-root-port,id=rp0,chassis=3 -device x3130-upstream,bus=rp0 -device xio3130-downstream,bus=pcie.2,chassis=4 -device x3130-upstream,bus=pcie.3";
    const others = "-device pcie-pci-bridge -device pxb-pcie,bus_nr=16 -device pcie-root-port,bus=pxb-pcie-bus.0,chassis=5 -device e1000e,bus=pci.0,addr=1";
    const report = await run(`-machine virt ${ports} ${switches} ${others}`);
    expect(machineTree(report.machine)).toEqual([
      "pcie.0 (bus 00)",
      "|- 00:01.0 pcie-root-port",
      "|  pcie.0#2 (bus 00)",
      "|- 00:02.0 pcie-root-port",
      "|  pcie.1 (bus 00)",
      "|  `- 00:00.0 e1000e -> memory",
      "|- 00:03.0 pcie-root-port rp0",
      "|  rp0 (bus 00)",
      "|  `- 00:00.0 x3130-upstream",
      "|     pcie.2 (bus 00)",
      "|     `- 00:00.0 xio3130-downstream",
      "|        pcie.3 (bus 00)",
      "|        `- 00:00.0 x3130-upstream",
      "|           pcie.4 (bus 00)",
      "|- 00:04.0 pcie-pci-bridge",
      "|  pci.0 (bus 00)",
      "|  `- 00:01.0 e1000e -> memory",
      "`- 00:05.0 pxb-pcie",
      "   pxb-pcie-bus.0 (bus 10)",
      "   `- 10:00.0 pcie-root-port",
      "      pcie.5 (bus 00)",
    ]);
    expect(new Set(report.machine.buses.map(({ id }) => id)).size).toBe(report.machine.buses.length);
    expect(report.machine.functions.filter(({ bus }) => !report.machine.buses.some(({ id }) => id === bus))).toEqual([]);
  });

  it("describes SMMUs, functions and buses", async () => {
    const { machine } = await run(`${ACCEL} ${GPU} -device virtio-net-pci,id=net0`);
    expect(machine.iommus).toEqual([
      {
        id: "smmu1",
        bus: "pcie.1",
        accel: true,
        hostIommu: "smmu3.0x0000000016600000",
        legacy: false,
        base: "0xc000000",
        interrupts: [144, 145, 146, 147],
        bindings: [{ function: "gpu0", pasid: null, table: "bypass", reason: null, hwpt: expect.any(Number), domain: null, hostIommu: "smmu3.0x0000000016600000" }],
        features: { stage: "1", ril: true, ats: true, oas: 48, ssidsize: 20, msi: false },
      },
    ]);
    expect(machine.functions.find((fn) => fn.id === "gpu0")).toEqual({
      id: "gpu0",
      model: "vfio-pci",
      bus: "rp1",
      secondaryBuses: [],
      bdf: "00:00.0",
      streamId: null,
      host: "0009:01:00.0",
      iommu: "smmu1",
      addressSpace: "smmuv3-accel-as-sysmem",
      modelled: true,
    });
    expect(machine.buses.map((bus) => [bus.id, bus.number, bus.bridge, bus.iommu])).toEqual([
      ["pcie.0", 0, null, null],
      ["pcie.1", 16, "00:01.0", "smmu1"],
      ["rp1", 0, "10:00.0", null],
      ["rp2", 0, "10:01.0", null],
    ]);
  });

  it("counts host calls and objects", async () => {
    const { hostCalls, hostObjects, ok } = await run(`${ACCEL} ${GPU}`);
    expect(hostCalls).toMatchObject({ VFIO_BIND_IOMMUFD: 1, IOAS_ALLOC: 1, VIOMMU_ALLOC: 1, HWPT_ALLOC: 3 });
    expect(hostObjects.created).toBe(hostObjects.freed);
    expect(hostObjects.alive).toBe(0);
    expect(ok).toBe(true);
  });

  it("tells a guest's failed steps and its exceptions, and still takes the machine apart", async () => {
    const failed = await run(`${ACCEL} ${GPU}`, async () => ({ ...nothing, ok: false, steps: [{ name: "a", ok: true, detail: "" }, { name: "b", ok: false, detail: "no" }] }));
    expect(failed).toMatchObject({ ok: false, failure: "1 of 2 steps of the guest failed: b", hostObjects: { alive: 0 } });
    const thrown = await run(`${ACCEL} ${GPU}`, async () => {
      throw new TypeError("undefined is not a machine");
    });
    expect(thrown).toMatchObject({ ok: false, failure: "the guest test ended with TypeError: undefined is not a machine", guest: null, hostObjects: { alive: 0 } });
  });

  it("gives the guest its port and operator, and what may be unplugged, spelt as on the command line", async () => {
    let seen: Parameters<GuestToRun["run"]>[0] | null = null;
    const report = await run(`${ACCEL} ${GPU}`, async (start) => {
      seen = start;
      start.say("hello");
      await expect(start.port.read(0xc00_0000, 4)).resolves.not.toBe(0n);
      return nothing;
    });
    expect(report.ok).toBe(true);
    expect(seen!.options.hotplug).toEqual([{ id: "gpu0", argument: GPU.replace("-device ", "") }]);
  });

  it("has guest errors among its warnings, limited, and the rest as a number", async () => {
    const { warnings } = await run("-M virt -nodefaults -device arm-smmuv3,primary-bus=pcie.0", async ({ port }) => {
      for (let i = 0; i < 50; i++) {
        await port.write(0xc00_0000, 4, 1n);
      }
      return nothing;
    });
    expect(warnings.length).toBeLessThan(20);
    expect(warnings.at(-1)).toMatch(/: 42 more of this kind$/);
  });

  it("has what a script says besides its steps, in a bounded number of lines", async () => {
    const { guest } = await run("-M virt -nodefaults", async ({ say }) => {
      say("ok   first: well");
      say("CAP d2008c222f0686");
      say("ok   first: otherwise");
      return { ...nothing, steps: [{ name: "first", ok: true, detail: "well" }] };
    });
    expect(guest!.said).toEqual(["CAP d2008c222f0686", "ok   first: otherwise"]);
    const many = await run("-M virt -nodefaults", async ({ say }) => {
      for (let i = 0; i < 1005; i++) {
        say(`line ${i}`);
      }
      return nothing;
    });
    expect(many.guest!.said.slice(998)).toEqual(["line 998", "line 999", "and 5 more lines"]);
  });

  it("has no warning of a fault that a step provoked, and has one of another at the next page", async () => {
    for (const [line, id, words] of [
      ["-M virt,iommu=smmuv3 -m 512M -nodefaults -device edu", "", "F_TRANSLATION"],
      ["-M q35 -m 512M -nodefaults -device intel-iommu,scalable-mode=on,fsts=on,id=mine -device edu", "mine", "SM_FS_NOT_PRESENT"],
    ]) {
      const linux = (await findGuest("linux"))!;
      const good = await run(line, (context) => linux.run(context));
      expect(good.events.map(({ name }) => name)).toContain(words);
      expect(good.warnings).toEqual([]);
      // The same program with a fault of which its steps know nothing: its range has moved.
      const moved = await run(line, async (context) => {
        const report = await linux.run(context);
        return { ...report, provoked: report.provoked!.map(({ event, length }) => ({ event: { ...event, inputAddress: event.inputAddress + 0x1000n }, length: Math.min(length, 0x1000) })) };
      });
      expect(moved.warnings.join("\n")).toMatch(new RegExp(`^${id}.*${words}.* at 0x`));
    }
  });

  it("fails where a function of the host's found no place for a BAR, cold or plugged, and names the property", async () => {
    const linux = (await findGuest("linux"))!;
    const line = "-M virt,highmem=off -m 512M -nodefaults -object iommufd,id=iommufd0 -device arm-smmuv3,primary-bus=pcie.0,accel=on,ril=auto,ats=auto,oas=auto,ssidsize=auto -device pcie-root-port,id=rp0,chassis=1 -device vfio-pci,host=0009:01:00.0,id=gpu0,bus=rp0,iommufd=iommufd0";
    const cold = await run(line, (context) => linux.run(context));
    expect(cold).toMatchObject({ ok: false, guest: { ok: true } });
    expect(cold.failure).toMatch(/^vfio-pci 'gpu0' \(host 0009:01:00\.0\) cannot be used: its guest finds no place for BAR 2 \(128 GiB\), BAR 4 \(32 MiB\); a larger window would work: highmem=on/);
    expect(cold.warnings).toContain(cold.failure);
    const hotplug = [{ id: "dev0", argument: "vfio-pci,host=0009:01:00.0,id=dev0,bus=rp0,iommufd=iommufd0" }];
    const plugged = await run(
      "-M virt -m 512M -nodefaults -object iommufd,id=iommufd0 -device pcie-root-port,id=rp0,chassis=1 -device e1000e,id=dev0,bus=rp0",
      (context) => linux.run({ ...context, options: { ...context.options, hotplug } }),
    );
    expect(plugged).toMatchObject({ ok: false, guest: { ok: true }, hostObjects: { alive: 0 } });
    expect(plugged.failure).toMatch(/^vfio-pci 'dev0' .* finds no place for BAR \d \(128 GiB\).*; a port with room for what is plugged would work: pref64-reserve=256G on pcie-root-port 'rp0'$/);
  });

  it("fails where an emulated function, or one that is placed, found no place for a BAR", async () => {
    const linux = (await findGuest("linux"))!;
    // 128 MiB each below 4 GiB, where there is 1 GiB.
    const line = `-M q35 -m 512M -nodefaults -device edu,id=e ${Array.from({ length: 9 }, (_, n) => `-device qxl,id=q${n}`).join(" ")}`;
    const { ok, failure, guest, warnings } = await run(line, (context) => linux.run(context));
    expect({ ok, guest: guest?.ok }).toEqual({ ok: false, guest: true });
    expect(failure).toMatch(/^qxl 'q\d' cannot be used: its guest finds no place for BAR \d \(64 MiB\).*; fewer functions with BARs below 4 GiB would work/);
    expect(warnings).toContain(failure);
    const fewer = await run(line.replace(/ -device qxl,id=q[5-8]/g, ""), (context) => linux.run(context));
    expect(fewer).toMatchObject({ ok: true, failure: null });
    expect(fewer.machine.functions.map(({ model, modelled }) => [model, modelled])).toEqual([["edu", true], ...Array.from({ length: 5 }, () => ["qxl", false])]);
  });

  it("fails where something is left on the host, and says what", async () => {
    vi.spyOn(CallCounter.prototype, "live").mockReturnValueOnce([{ id: 7, type: "hwpt" }]);
    const { ok, failure, hostObjects } = await run("-M virt -nodefaults");
    expect([ok, failure, hostObjects.alive]).toEqual([false, "1 host object(s) are left: hwpt 7", 1]);
  });

  it("names events' SMMUs as the user does", async () => {
    const shown = { name: "F_TRANSLATION", number: 16, streamId: 8, substreamId: null, read: true, stage2: false };
    const event: GuestReport["events"][number] = {
      ...shown,
      iommu: "smmuv3@c000000",
      inputAddress: 0xffff_ffff_f000n,
      ipa: 0n,
      fetchAddress: 0n,
      instruction: false,
      privileged: false,
      faultClass: 2,
      stall: false,
      stag: 0,
      translationRelated: true,
      words: [],
      text: "",
    };
    const { events } = await run("-M virt -nodefaults -device arm-smmuv3,primary-bus=pcie.0,id=mine", async () => ({ ...nothing, events: [event] }));
    expect(events).toEqual([{ ...shown, iommu: "mine", inputAddress: "0xfffffffff000", ipa: "0x0" }]);
  });
});

describe("what a run leaves on the host", () => {
  it("is nothing, and the account has what was made and freed", async () => {
    const report = await run(`${ACCEL} ${GPU}`);
    expect([report.ok, report.failure, report.hostObjects.alive]).toEqual([true, null, 0]);
    expect(report.hostObjects.created).toBe(report.hostObjects.freed);
  });

  it("fails it, however little it is", async () => {
    class Forgetful extends ForwardingHost {
      protected override wrapIommufd(iommufd: Iommufd): Iommufd {
        return new NeverClosed(iommufd);
      }
    }
    class NeverClosed extends ForwardingIommufd {
      override close(): void {}
    }
    const report = await run(`${ACCEL} ${GPU}`, null, { wrapHost: (host) => new Forgetful(host) });
    expect([report.ok, report.failure, report.hostObjects.alive]).toEqual([false, "1 host object(s) are left: iommufd 0", 1]);
  });
});

describe("a run that cannot begin", () => {
  it("is refused, with nothing on the host", async () => {
    const wrong: string[] = ["", "-M virt -device nope", `${ACCEL} -device virtio-net-pci,bus=rp1`, ACCEL, "-M virt -m 16T"];
    for (const line of wrong) {
      await expect(run(line)).rejects.toBeInstanceOf(Refusal);
    }
  });

  it("is refused where the host refuses a call that building needs", async () => {
    const observer = new HostObserver();
    observer.failOn({ operation: "VIOMMU_ALLOC", nth: 1, errno: "EOPNOTSUPP" });
    await expect(run(`${ACCEL} ${GPU}`, null, { wrapHost: (host) => observeHost(host, observer) })).rejects.toThrow(/VIOMMU_ALLOC: EOPNOTSUPP/);
  });
});

describe("hosts", () => {
  it("can be made and closed many times in a process", async () => {
    for (let i = 0; i < 20; i++) {
      createSimulatedHost(grace).close();
    }
    expect((await run("-M virt -nodefaults")).ok).toBe(true);
  });
});
